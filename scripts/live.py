#!/usr/bin/env python3
"""Holds live interfaces against what they should do, on cables of this machine with real programs
at their ends.

    python scripts/live.py [--tool target/debug/serveflow] [CASE ...]
    python scripts/live.py --measure --tool target/dist/serveflow

Namespaces of the script's own, joined by virtual cables; needs root, or a kernel that lets users
have namespaces, and the programs of `TOOLS` in live_net.py. Each case prints what it measured, and
the first sentence of what did not hold. The verdicts of a capture must not depend on how it comes:
what serveflow says of frames that tcpreplay puts on a cable is held against what it says of the
file that tcpdump writes at the same place and time. So that both have the same time stamps, the
script has the kernel stamp frames before anybody gets them; and so that waits run out within a
case, the bundle's are cut to 0.4 s there.
"""

import argparse
import collections
import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import live_late
import live_net
import live_output
import live_soak
import live_xdp
from live_net import (
    ROOT, TASK, Dump, Failed, Net, Tool, as_ipv6, await_, differences, expect, expect_that, fail,
    sample, send, tagged, write_capture,
)

# The wait of each stage in most cases, and how long after the last frame all of them have run out.
WAIT_MS = 400
SETTLE_S = 0.8
# How many frames a second replays bring: enough that many are in a block, and few enough for any
# machine.
RATE = 20000
SMALL_RING = "[live]\nring_mb = 1\nblock_kb = 128\n"
BLOCKS = '[live]\nrx_mode = "block"\n'


class Cases:
    """The cases, by the names of their functions."""

    def __init__(self, net, tool, work):
        self.net, self.tool, self.work = net, tool, work
        self.hasty = hasty_bundle(work)
        frames = sample()
        self.captures = {"plain": frames + [six for frame in frames if (six := as_ipv6(frame))]}
        dns = [frame for frame in frames if b"\x00\x35" in (frame[34:36], frame[36:38])]
        self.captures["tagged"] = [
            out for frame in dns + frames[:1500]
            for out in (tagged(frame, (0x8100, 5)), tagged(frame, (0x8100, 7)), frame,
                        tagged(frame, (0x88A8, 100), (0x8100, 5)))]
        for name, frames in self.captures.items():
            write_capture(self._capture(name), [(0, frame, len(frame)) for frame in frames])

    def _capture(self, name):
        return self.work / f"{name}.pcap"

    def _replay(self, name, *words, workers=1, config="", dump_words=""):
        """Replays a capture to serveflow and tcpdump, and holds the verdicts of both against each
        other."""
        dump = Dump(self.net, self.work / "dump.pcap", words=dump_words)
        live = self.tool.live(*words, workers=workers, config=config, bundle=self.hasty)
        sent = send(self.net, self._capture(name), f"--pps={RATE}")
        time.sleep(SETTLE_S)
        ended, frames = live.stop(), dump.stop()
        expect("the exit code", 0, ended.code)
        received, dropped = ended.balanced()
        expect("frames that the kernel dropped", 0, dropped)
        expect("frames that serveflow received, and that tcpdump wrote", len(frames), received)
        if not dump_words:
            expect("frames received of those that were sent", sent, received)
        return self._compared(ended, frames, config)

    def _compared(self, ended, frames, config="", link=1):
        """Holds the verdicts of a live run against those of the same frames from a file."""
        file = self.tool.file(frames, config, self.hasty, link)
        count, first = differences(ended.verdicts, file.verdicts)
        expect_that(
            count == 0, "verdicts of the cable and of the file", f"the same {len(file.verdicts)}",
            f"{count} that only one of them has, such as {first}",
        )
        return ended

    def sample(self):
        """The shipped captures, and the same over IPv6: verdicts are those of the file."""
        self._replay("plain", config=BLOCKS)
        ended = self._replay("plain")
        reasons = collections.Counter(verdict["reason"] for verdict in ended.verdicts)
        six = sum(":" in verdict["src"] for verdict in ended.verdicts)
        return (
            f"{ended.seen} frames sent, received and seen, none dropped; {ended.flows} verdicts"
            f" ({six} of IPv6; {told(reasons)}) equal those of tcpdump's file, to the nanosecond;"
            " so do those of frames that come in blocks"
        )

    def workers(self):
        """Two and three workers: the same verdicts, and each has its share."""
        shares = []
        for workers, config in ((2, ""), (3, BLOCKS)):
            ended = self._replay("plain", workers=workers, config=config)
            ended.together(workers)
            shares.append(ended.by_worker(workers))
            expect_that(min(shares[-1]) > ended.flows / workers / 2, "flows of each worker",
                        f"about {ended.flows // workers}", shares[-1])
        return (
            f"{ended.flows} flows with both directions in one worker; shares {shares[0]} and"
            f" {shares[1]}; verdicts equal the file's"
        )

    def vlan(self):
        """Tags that the kernel took off, one and two deep."""
        counts = {}
        for workers, config in ((1, ""), (1, BLOCKS), (2, "")):
            ended = self._replay(
                "tagged", workers=workers, config="[flows]\nvlan_in_key = true\n" + config
            )
            counts = collections.Counter(verdict.get("vlan") for verdict in ended.verdicts)
            expect("VLAN ids of flows", {None, 5, 7, 100}, set(counts))
            expect("numbers of flows by VLAN id", 1, len(set(counts.values())))
        return (
            f"{counts[5]} flows untagged, in VLAN 5, in 7, and in 5 inside 100 each; verdicts equal"
            " the file's with one and two workers"
        )

    def filter(self):
        """Filters in tcpdump's words."""
        words = "udp port 53"
        ended = self._replay("plain", "--filter", words, dump_words=words)
        wrong = [
            verdict
            for verdict in ended.verdicts
            if verdict["proto"] != "udp" or 53 not in (verdict["src_port"], verdict["dst_port"])
        ]
        expect("flows that are not DNS", [], wrong[:1])
        tags = self._replay("tagged", "--filter", "vlan 5 and udp", dump_words="vlan 5 and udp",
                           config="[flows]\nvlan_in_key = true\n")
        expect(
            "VLAN ids behind `vlan 5 and udp`", {5},
            {verdict.get("vlan") for verdict in tags.verdicts},
        )
        code, said = self.tool.refused("--interface", "vb", "--filter", "udp prot 53")
        expect_that(
            code == 1 and "`udp prot 53`" in said, "a wrong filter",
            "exit code 1 and words that name it", (code, said),
        )
        return (
            f"`{words}`: {ended.seen} frames, {ended.flows} flows; `vlan 5 and udp`: {tags.seen}"
            f" frames; {said!r}"
        )

    def two_interfaces(self):
        """Each direction by a cable of its own."""
        net, flows = self.net, []
        with cable(net, "vc", "vd"):
            for workers, config in ((1, ""), (2, BLOCKS), (2, "")):
                dumps = [Dump(net, self.work / f"{name}.pcap", name) for name in ("vb", "vd")]
                live = self.tool.live(
                    interfaces=("vb", "vd"), workers=workers, bundle=self.hasty, config=config
                )
                net.run(
                    "a", sys.executable, live_net.__file__, "send", self._capture("plain"), RATE,
                    "va", "vc", within_s=120,
                )
                time.sleep(SETTLE_S)
                ended = live.stop()
                frames = sorted(
                    (frame for dump in dumps for frame in dump.stop()), key=lambda frame: frame[0]
                )
                expect("frames by both cables", (len(self.captures["plain"]), 0), ended.balanced())
                self._compared(ended, frames)
                ended.together(workers)
                flows.append(ended.flows)
        expect("flows with one worker and with two", {flows[0]}, set(flows))
        return (
            f"{dict(ended.kernel)} frames received and dropped, {flows[0]} whole flows with one and"
            " two workers"
        )

    def late_interface(self):
        """An interface that comes after the start, is removed and made anew: it is waited for."""
        return live_late.case(self, cable, RATE, SETTLE_S)

    def other_links(self):
        """An interface without Ethernet headers, and the loopback, where each frame passes
        twice."""
        for workers in (1, 2):
            live = self.tool.live("--filter", "udp", interfaces=("lo",), workers=workers)
            self.net.run("b", sys.executable, live_net.__file__, "lo", 500)
            lo = live.stop()
            expect(
                "frames, drops and flows of two ends on the loopback", (1000, 0, 1),
                (*lo.balanced(), lo.flows),
            )
        said = f"{lo.seen} frames on the loopback, each once"
        if not os.access("/dev/net/tun", os.W_OK):
            return (
                f"{said}; left out: an interface without Ethernet, since this user may not open"
                " /dev/net/tun"
            )
        return f"{said}; {self._without_ethernet()}"

    def _without_ethernet(self):
        plain = [
            frame for frame in self.captures["plain"] if frame[12:14] in (b"\x08\x00", b"\x86\xdd")
        ]
        write_capture(self.work / "tun.pcap", [(0, frame, len(frame)) for frame in plain])
        tun = self.net.start(
            "b", sys.executable, live_net.__file__, "tun", self.work / "tun.pcap", RATE,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        expect("what the sender says", "up", tun.stdout.readline().strip())
        dump = Dump(self.net, self.work / "dump.pcap", "vt")
        live = self.tool.live(interfaces=("vt",), workers=2, bundle=self.hasty)
        tun.stdin.write("\n")
        tun.stdin.flush()
        expect("what the sender says", "sent", tun.stdout.readline().strip())
        time.sleep(SETTLE_S)
        ended = live.stop()
        expect("frames received and dropped", (len(plain), 0), ended.balanced())
        # LINKTYPE_RAW
        self._compared(ended, dump.stop(), link=101)
        tun.kill()
        return (
            f"{ended.seen} packets and {ended.flows} flows without Ethernet; verdicts equal the"
            " file's"
        )

    def hardware_time(self):
        """A network card that stamps no time: that is told."""
        live = self.tool.live(config='[live]\ntimestamps = "hardware"\n')
        sent = send(self.net, self._capture("plain"), f"--pps={RATE}", "--limit=1000")
        time.sleep(0.2)
        ended = live.stop()
        expect("frames received and dropped", (sent, 0), ended.balanced())
        told_ = re.search(r"(\d+) without a time stamp of the network card", ended.said)
        expect("frames without a time stamp of the network card", str(sent), told_ and told_[1])
        return f"{sent} frames have the kernel's stamps instead, and are counted"

    def programs(self):
        """nginx with curl, dnsmasq with dig, iperf3: flows of real programs over a cable with all
        offloads on."""
        with Programs(self.net, self.work) as programs:
            live = self.tool.live(interfaces=("vf",), workers=2)
            programs.talk()
            ended = live.stop()
        ended.balanced()
        ended.together(2)
        flows = collections.defaultdict(list)
        for verdict in ended.verdicts:
            flows[verdict["proto"], verdict["dst_port"]].append(verdict)
        for place, what, least in programs.EXPECTED:
            expect_that(
                len(flows[place]) >= least, f"flows of {what}", f"at least {least}",
                len(flows[place]),
            )
            ends = {(verdict["src"], verdict["dst"]) for verdict in flows[place]}
            expect_that(ends <= programs.ENDS, f"ends of {what}", programs.ENDS, ends)
        labels = {}
        for (place, what, _), wanted in zip(programs.EXPECTED, ("http", "tls", "dns")):
            counts = collections.Counter(verdict["label"] for verdict in flows[place])
            labels[what] = f"{counts[wanted]} of {counts.total()} {wanted}"
            if wanted != "tls":
                expect_that(
                    counts[wanted] * 2 > counts.total(), f"labels of {what}", f"mostly {wanted}",
                    dict(counts),
                )
        sides = collections.Counter(place[0] for place in flows if place[1] == 5201)
        expect("protocols of iperf3", {"tcp", "udp"}, set(sides))
        known = [place for place, _, _ in programs.EXPECTED]
        # Neighbours are looked for by ICMPv6.
        others = [
            place
            for place in flows
            if place not in known and place[1] != 5201 and place[0] != "icmp6"
        ]
        expect(
            "flows of no program, such as answers that were taken for flows of their own", [],
            others,
        )
        return f"{ended.seen} frames, {ended.flows} flows; " + "; ".join(
            f"{k}: {v}" for k, v in labels.items()
        )

    def stop_under_load(self):
        """SIGTERM while frames come as fast as they can."""
        live = self.tool.live(workers=2)
        sender = self.net.start(
            "a", "tcpreplay", "-q", "-K", "--topspeed", "--loop=0", "--duration=8", "-i", "va",
            self._capture("plain"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        time.sleep(1.5)
        ended = live.stop()
        expect("whether the sender was still at work", None, sender.poll())
        sender.kill()
        sender.wait(10)
        expect("the exit code", 0, ended.code)
        received, dropped = ended.balanced()
        ended.together(2)
        expect_that(
            ended.took_s < 2, "seconds from SIGTERM to the end", "less than 2",
            f"{ended.took_s:.2f}",
        )
        return (
            f"ended {ended.took_s * 1000:.0f} ms after SIGTERM, {received} received and seen,"
            f" {dropped} dropped, {ended.flows} flows with one verdict each"
        )

    def closed_output(self):
        """A reader of verdicts that goes away: a service says so, and does not end as if all were
        well."""
        live = self.tool.live(pipe=True)
        live.process.stdout.close()
        sent = send(self.net, self._capture("plain"), f"--pps={RATE}", "--limit=2000")
        expect("the exit code", 1, live.process.wait(10))
        said = re.search("error: .*", live.said())
        expect_that(
            said is not None and "standard output" in said[0], "the last words", "standard output",
            live.said(),
        )
        return f"ended {sent} frames later with code 1 and {said[0]!r}"

    def overload(self):
        """A reader that stands still behind a small ring."""
        return "; ".join(f"{name}: {self._overload(config)}" for name, config in [
            ("frames", SMALL_RING), ("blocks", SMALL_RING + BLOCKS.partition("\n")[2])])

    def _overload(self, config):
        live = self.tool.live(config=config)
        live.process.send_signal(signal.SIGSTOP)
        sent = send(self.net, self._capture("plain"), "--pps=50000")
        live.process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        before = len(live.lines())
        late = send(self.net, self._capture("tagged"), "--pps=10000", "--limit=2000")
        time.sleep(0.3)
        ended = live.stop()
        received, dropped = ended.balanced()
        expect("frames received and dropped", sent + late, received + dropped)
        expect_that(0 < dropped <= sent, "frames dropped", f"some of {sent}", dropped)
        expect_that(received >= late, "frames received", f"at least the last {late}", received)
        expect_that(before > 0, "verdicts before the end", "some", before)
        # The kernel counts this of blocks alone.
        full = re.search(r"(\d+) times a ring was full", ended.said)
        expect(
            "whether it is told that the ring was full", "block" in config.partition("rx_mode")[2],
            full is not None,
        )
        return f"{sent + late} sent = {received} received + {dropped} dropped, and it went on"

    def degradation(self):
        """A worker that is behind asks its slow models less, and comes back."""
        socket = self.work / "degradation.control"
        config = f'[service]\ncontrol = "{socket}"\n[degradation]\nrecover_ms = 300\n'
        live = self.tool.live(config=config, bundle=relieved_bundle(self.tool, self.work))
        control = live_soak.Control(self.tool, socket)
        await_("that the service answers", lambda: socket.exists(), 20)
        calm = send(self.net, self._capture("plain"), "--pps=2000", "--limit=4000")
        await_(
            "that all frames are seen", lambda: control.metrics()["packets_seen_total"] >= calm, 20
        )
        before = control.metrics()
        expect(
            "steps without load", (0, 0),
            (before["degradation_level"], before["degradation_changes_total"]),
        )
        early = len(live.lines())
        live.process.send_signal(signal.SIGSTOP)
        sent = calm + send(
            self.net, self._capture("plain"), "--pps=50000", "--loop=10", "--unique-ip"
        )
        live.process.send_signal(signal.SIGCONT)
        levels = []

        def is_over():
            sums = control.metrics()
            levels.append(int(sums["degradation_level"]))
            return (
                sums["packets_seen_total"] >= sent
                and sums["degradation_changes_total"] > 0
                and levels[-1] == 0
            )

        await_("that the gates are as before", is_over, 30)
        changes = int(control.metrics()["degradation_changes_total"])
        ended = live.stop()
        expect("frames received and dropped", (sent, 0), ended.balanced())
        expect("whether steps are as many up as down", 0, changes % 2)
        expect("steps that the log has", changes, ended.said.count("degradation worker="))
        # The gate of the first stage lets no such answer stand.
        loose = [
            verdict["stage"] == "tree@1"
            and verdict["label"] == "http"
            and verdict["reason"] == "accepted"
            for verdict in ended.verdicts
        ]
        expect("flows that the first stage kept to itself before", 0, sum(loose[:early]))
        expect_that(
            sum(loose) > 0, "flows that the first stage kept to itself under load", "some", 0
        )
        return (
            f"{sent} frames, none dropped; {changes} steps, up to level {max(levels)}, and back;"
            f" the first stage kept {sum(loose)} flows to itself that it passes on otherwise"
        )

    def comes_and_goes(self):
        """Interfaces that go down, come up and are removed."""
        net = self.net
        with cable(net, "vg", "vh"):
            live = self.tool.live(interfaces=("vb", "vh"), workers=2, bundle=self.hasty)
            first = send(net, self._capture("plain"), f"--pps={RATE}", interface="vg")
            net.run("b", "ip", "link", "set", "dev", "vh", "down")
            time.sleep(0.3)
            before = live.cpu_s()
            time.sleep(1)
            busy = live.cpu_s() - before
            expect_that(
                busy < 0.2, "processor seconds in a second with an interface down", "less than 0.2",
                busy,
            )
            net.run("b", "ip", "link", "set", "dev", "vh", "up")
            await_(
                "that the cable carries again",
                lambda: "state UP" in net.run("a", "ip", "link", "show", "vg"), 5,
            )
            again = send(net, self._capture("plain"), f"--pps={RATE}", interface="vg")
            time.sleep(SETTLE_S)
            net.uncable("vg")
            gone = "interface vh: expected it to stay, found that it was removed"
            time.sleep(0.5)
            before = live.cpu_s()
            time.sleep(1)
            left = live.cpu_s() - before
            expect_that(
                left < 0.2, "processor seconds in a second with an interface gone", "less than 0.2",
                left,
            )
            other = send(net, self._capture("plain"), f"--pps={RATE}")
            time.sleep(SETTLE_S)
            expect("the exit code while an interface is left", None, live.process.poll())
            log = [live.said().count(f'{words} interface="vh"')
                   for words in ("the interface is down", "the interface was removed")]
            # An interface that is removed goes down first, which may be seen as well.
            expect_that(
                log in ([1, 1], [2, 1]), "times that the log has vh down, and removed", "1 and 1",
                log,
            )
            net.uncable("va")
            ended = live.wait(5)
        net.cable("va", "vb")
        ended.balanced()
        ended.together(2)
        expect("frames by each", {"vh": (first + again, 0), "vb": (other, 0)}, ended.kernel)
        expect("the exit code once all interfaces are gone", 3, ended.code)
        for name in ("vb", "vh"):
            expect(
                f"times that the loss of {name} is told", 1,
                ended.said.count(gone.replace("vh", name)),
            )
        downs = re.findall(r"kernel:  vh: .*, (\d+) times the interface was down", ended.said)
        expect("times that vh was down, one of them for good", ["2"], downs)
        return (
            f"{first} frames, down (CPU {100 * busy:.0f} % of a core), up, {again} frames, removed;"
            f" the other went on with {other}; then it was removed, which ended the run"
            f" {ended.took_s:.2f} s later with code 3"
        )

    def errors(self):
        """What cannot be opened is told in words."""
        told_ = []
        for words, before, wanted in [
            (["--interface", "nosuch"], [], "interface nosuch: no such interface"),
            (
                ["--interface", "vb"],
                ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"], "CAP_NET_RAW",
            ),
            (
                ["--interface", "vb", "--filter", "tcp"],
                ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"], "CAP_NET_RAW",
            ),
        ]:
            code, said = self.tool.refused(*words, before=before)
            expect_that(code == 1 and wanted in said, "an interface that cannot be opened",
                        f"exit code 1 and `{wanted}`", (code, said))
            told_.append(said)
        return "; ".join(map(repr, told_[:2]))

    def silence(self):
        """Flows that end in silence get their verdicts soon."""
        idle_s, read = 1.0, []
        live = self.tool.live(config="[flows]\nidle_ms = 1000\n", pipe=True)
        reader = threading.Thread(
            target=lambda: read.extend((line, time.time()) for line in live.process.stdout)
        )
        reader.start()
        sent = send(self.net, self._capture("plain"), f"--pps={RATE}")
        time.sleep(idle_s + 0.6)
        before = len(read)
        live.process.terminate()
        reader.join(10)
        ended = live.wait(10, [line for line, _ in read])
        ended.balanced()
        expect("verdicts that waited for the end", 0, len(read) - before)
        # Flows that a FIN ended got theirs before this second was over.
        late = [
            read_at - float(verdict["deciding_ts"]) - idle_s
            for verdict, (_, read_at) in zip(ended.verdicts, read)
            if verdict["reason"] == "ended"
        ]
        late = [after for after in late if after >= 0]
        expect_that(len(late) > 10, "flows that ended by silence", "more than 10", len(late))
        expect_that(
            max(late) < 0.3, "seconds from the timeout to the verdict", "less than 0.3", max(late)
        )
        return (
            f"{sent} frames; {len(late)} flows ended by idle timeout, {1000 * max(late):.0f} ms"
            " after it at most"
        )

    def reload(self):
        """Another bundle every two seconds under load."""
        return live_soak.soak(
            self.net, self.tool, self.work, self._capture("plain"), seconds=16, every=2
        )

    def output(self):
        """Outputs that are full, stand still, are rotated and restarted; a log that nobody
        reads."""
        return live_output.case(self)

    def xdp(self):
        """Frames by AF_XDP."""
        return live_xdp.case(self)


def told(counts):
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


@contextlib.contextmanager
def cable(net, left, right, **options):
    """A second cable for as long as it is needed."""
    net.cable(left, right, **options)
    try:
        yield
    finally:
        net.uncable(left)


def hasty_bundle(work):
    """The sample's bundle, whose stages wait less."""
    bundle = work / "bundle"
    shutil.copytree(TASK / "bundle", bundle)
    plan = (bundle / "plan.toml").read_text()
    expect("stages that wait 10 s", 3, plan.count("wait_ms = 10000\n"))
    (bundle / "plan.toml").write_text(plan.replace("wait_ms = 10000\n", f"wait_ms = {WAIT_MS}\n"))
    files = sorted(
        path for path in bundle.rglob("*") if path.is_file() and path.name != "SHA256SUMS"
    )
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(bundle)}\n"
        for path in files
    ]
    (bundle / "SHA256SUMS").write_text("".join(sums))
    return bundle


def relieved_bundle(tool, work):
    """The shipped bundle with two steps by which its gates are loosened."""
    bundle = work / "relieved"
    shutil.copytree(TASK / "bundle", bundle)
    with open(bundle / "plan.toml", "a") as plan:
        for escalated, first in ((0.2, 0.3), (0.0, 1.0)):
            plan.write(
                f"\n[[degradation]]\nescalated = {escalated}\nmacro_f1 = 0.8\naccuracy = 0.9\n"
                f"gates = [[{first}], [{first}]]\n"
            )
    subprocess.run(
        [tool.path, "bundle", "pack", bundle], check=True, capture_output=True, timeout=120
    )
    return bundle


class Programs:
    """Servers on one side of a cable and clients on the other."""

    CLIENT, SERVER = ("10.77.0.1", "fd77::1"), ("10.77.0.2", "fd77::2")
    ENDS = set(zip(CLIENT, SERVER))
    TIMES = 20
    # By protocol and port of the server: what it is, and the least number of flows.
    EXPECTED = [
        (("tcp", 80), "curl over HTTP", 2 * TIMES), (("tcp", 443), "curl over TLS", 2 * TIMES),
        # It draws its ports, and two that are the same make one flow.
        (("udp", 53), "dig", 2 * TIMES - 2),
    ]

    def __init__(self, net, work):
        self.net, self.work = net, work

    def __enter__(self):
        net, work = self.net, self.work
        net.cable("ve", "vf", offloads=True)
        for side, name, (four, six) in (("a", "ve", self.CLIENT), ("b", "vf", self.SERVER)):
            net.run(side, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6=0")
            net.run(side, "ip", "addr", "add", f"{four}/24", "dev", name)
            net.run(side, "ip", "addr", "add", f"{six}/64", "dev", name, "nodad")
        self.serve("nginx", "-p", work, "-c", self.nginx(), "-e", work / "nginx.log")
        # Neither a file of names nor another server: each name below .test is this machine.
        self.serve(
            "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
            f"--address=/test/{self.SERVER[0]}", f"--pid-file={work}/dnsmasq.pid", "--user=root",
            "--group=", "--interface=vf", "--bind-interfaces", "--log-facility=-",
        )
        self.serve("iperf3", "--server", "--bind", self.SERVER[0])
        for port in (80, 443, 53, 5201):
            await_(
                f"that somebody listens at port {port}",
                lambda: f":{port} " in net.run("b", "ss", "-lntu"), 10,
            )
        return self

    def __exit__(self, *_):
        for process in self.servers:
            process.terminate()
        for process in self.servers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
        self.net.uncable("ve")

    servers = ()

    def serve(self, *command):
        log = open(self.work / f"{command[0]}.out", "w")
        self.servers = (*self.servers, self.net.start("b", *command, stdout=log, stderr=log))

    def nginx(self):
        """Its configuration, with a page and a certificate of its own."""
        work = self.work
        subprocess.run(
            [
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj",
                "/CN=live.test", "-keyout", work / "key.pem", "-out", work / "cert.pem", "-days",
                "2",
            ],
            check=True,
            capture_output=True,
        )
        (work / "site").mkdir()
        (work / "site/index.html").write_text("<p>live</p>\n" * 2000)
        places = "".join(
            f"    {key} {work}/{key};\n"
            for key in (
                "client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path",
                "scgi_temp_path",
            )
        )
        (work / "nginx.conf").write_text(
            f"user root;\ndaemon off;\nworker_processes 1;\npid {work}/nginx.pid;\nerror_log"
            f" {work}/nginx.log;\nevents {{}}\nhttp {{\n    access_log off;\n    root"
            f" {work}/site;\n{places}    ssl_certificate {work}/cert.pem;\n    ssl_certificate_key"
            f" {work}/key.pem;\n    server {{\n        listen 80;\n        listen [::]:80;\n       "
            " listen 443 ssl;\n        listen [::]:443 ssl;\n    }\n}\n"
        )
        return work / "nginx.conf"

    def talk(self):
        """All clients, one after the other."""
        net = self.net
        for four, six in [self.SERVER] * self.TIMES:
            for host in (four, f"[{six}]"):
                net.run("a", "curl", "-sSo", "/dev/null", "--max-time", "10", f"http://{host}/")
                net.run("a", "curl", "-sSko", "/dev/null", "--max-time", "10", f"https://{host}/")
            for host in (four, six):
                found = net.run(
                    "a", "dig", f"@{host}", "+short", "+tries=1", "+time=5", "live.test"
                ).strip()
                expect("what dig is told", four, found)
        for words in (["-n", "50M"], ["-u", "-b", "50M", "-n", "5M"]):
            net.run("a", "iperf3", "--client", self.SERVER[0], *words, within_s=60)


def run_cases(net, tool, work, wanted):
    cases = Cases(net, tool, work)
    names = [name for name, case in vars(Cases).items()
             if callable(case) and not name.startswith("_")]
    unknown = set(wanted) - set(names)
    if unknown:
        fail(f"expected cases among {', '.join(names)}, found {', '.join(sorted(unknown))}")
    failed = 0
    for name in wanted or names:
        started = time.monotonic()
        try:
            said = getattr(cases, name)()
        except (Failed, subprocess.TimeoutExpired) as error:
            failed += 1
            said = f"FAILED: {error}"
        print(f"{name}: {said} ({time.monotonic() - started:.1f} s)", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/serveflow"
    parser.add_argument("--tool", type=pathlib.Path, default=default, help="the program")
    parser.add_argument(
        "--measure", action="store_true", help="print the figures of docs/results.md instead"
    )
    parser.add_argument("--soak", type=int, metavar="SECONDS",
                        help="serve for so long with another bundle every ten seconds instead")
    parser.add_argument(
        "--missing", action="store_true", help="print which packages of Debian are missing, and end"
    )
    parser.add_argument("case", nargs="*")
    args = parser.parse_args()
    if args.missing:
        print(*live_net.missing())
        return
    if not args.tool.is_file():
        fail(f"expected a program at {args.tool} (cargo build -p serveflow), found none")
    live_net.need_tools()
    live_net.go_inside()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("scripts/live.py: stopped"))
    net = Net()
    try:
        with tempfile.TemporaryDirectory(prefix="live-") as work:
            net.cable("va", "vb")
            net.stamp_early()
            tool = Tool(net, args.tool.resolve(), pathlib.Path(work))
            if args.measure:
                import live_measure
                live_measure.measure(net, tool, pathlib.Path(work))
                return
            if args.soak:
                capture = pathlib.Path(work) / "sample.pcap"
                write_capture(capture, [(0, frame, len(frame)) for frame in sample()])
                print(live_soak.soak(net, tool, pathlib.Path(work), capture, args.soak, every=10))
                return
            failed = run_cases(net, tool, pathlib.Path(work), args.case)
    finally:
        net.end()
    if failed:
        fail(f"{failed} of the cases failed")


if __name__ == "__main__":
    main()
