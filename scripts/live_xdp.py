"""The case `xdp` of scripts/live.py: AF_XDP, where the program was built with it."""

import collections
import pathlib
import re
import signal
import struct
import subprocess
import sys
import time

from live_net import Dump, await_, expect, expect_that, send, write_capture

XDP = '[live]\nsource = "xdp"\n'
# Nothing after the start may need what nobody has.
NOBODY = XDP + '[service]\nuser = "nobody"\n'
SMALL = XDP + "ring_mb = 1\n"
# Frames have the time at which they are read, and gaps between them are among what models look at:
# this share of flows may have another answer than the file's, which has the time at which they were
# sent.
OTHERWISE = 1 / 200
ENDS = ("src", "src_port", "dst", "dst_port", "proto")
ANSWER = ("label", "reason", "stage")
# Sends to a port of this machine where nobody listens; answers come the same way.
LOOP = """import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(500):
    one.sendto(b"there", ("127.0.0.1", 9))"""


def case(cases):
    net = cases.net
    code, said = refused(
        cases, ["--interface", "vb"], XDP, ["setpriv", "--bounding-set=-bpf,-sys_admin"]
    )
    if "with the cargo feature `xdp`" in said:
        return "left out, since the program was built without the feature `xdp`"
    expect_that(
        code == 1 and "CAP_BPF" in said, "AF_XDP without its capabilities",
        "exit code 1 and `CAP_BPF`", (code, said),
    )
    if pathlib.Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return f"left out, since only root may load programs into the kernel; without: {said!r}"
    # The second one is refused, if the first is not.
    code, said = refused(cases, ["--interface", "vb", "--interface", "nosuch"], XDP)
    if "interface vb" in said and re.search(r"os error (1|38|93|97)\)", said):
        return f"left out, since this kernel has no AF_XDP, or lets nobody load programs: {said!r}"
    expect_that(
        code == 1 and "interface nosuch" in said, "a second interface that is none", "a refusal",
        (code, said),
    )
    code, said = refused(cases, ["--interface", "vb", "--workers", "2"], XDP)
    expect_that(
        code == 1 and "limits.workers: expected 1" in said, "two workers", "a refusal", (code, said)
    )
    code, said = refused(
        cases, ["--interface", "vb"], XDP,
        ["prlimit", "--memlock=65536", "setpriv", "--bounding-set=-ipc_lock"],
    )
    expect_that(
        code == 1 and "may lock" in said, "more memory than may be locked", "a refusal",
        (code, said),
    )
    results = [replayed(cases) for _ in range(3)]
    expect("programs on the interface once all have ended", "", attached(net))
    return "; ".join(
        [
            f"three runs in a row: {results[0]}", by_queues(cases), long(cases), killed(cases),
            stopped(cases), overloaded(cases), comes_and_goes(cases), looped(cases),
        ]
    )


def refused(cases, words, config, before=()):
    tool = cases.tool
    command = [*before, *tool.command(tool.base(), words, config, None)]
    done = subprocess.run(
        cases.net.inside("b", command), capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr.strip()


def attached(net, interface="vb"):
    """What `ip` says of a program on an interface."""
    return " ".join(
        line
        for line in net.run("b", "ip", "-d", "link", "show", interface).splitlines()
        if "xdp" in line
    )


def begun(cases, **options):
    return cases.tool.live(bundle=cases.hasty, **{"config": XDP, **options})


def told(verdicts, names):
    return collections.Counter(tuple(verdict[name] for name in names) for verdict in verdicts)


def compared(live, file):
    """Holds flows to be the same, and nearly all of their answers."""
    expect_that(
        told(live, ENDS) == told(file, ENDS), "flows of the cable and of the file",
        f"the same {len(file)}", len(live),
    )
    left, right = told(live, ENDS + ANSWER), told(file, ENDS + ANSWER)
    others = sorted((left - right).elements(), key=str)
    expect_that(len(others) <= OTHERWISE * len(file), "flows with another answer than the file's",
                f"at most {OTHERWISE * len(file):.0f}", f"{len(others)}, such as {others[:1]}")
    return f"{len(file)} flows, labels and reasons equal the file's but for {len(others)}"


def replayed(cases):
    """The shipped captures: labels and reasons are those of the file that tcpdump writes at the
    cable's other end."""
    net = cases.net
    dump = Dump(net, cases.work / "dump.pcap", "va", side="a")
    live = begun(cases, config=NOBODY)
    expect_that("xdp" in attached(net), "a program on the interface", "one", attached(net))
    sent = send(net, cases._capture("plain"), "--pps=20000")
    time.sleep(0.8)
    ended, frames = live.stop(), dump.stop()
    expect("the exit code", 0, ended.code)
    expect("frames received and dropped", (sent, 0), ended.balanced())
    expect("frames that tcpdump wrote", sent, len(frames))
    file = cases.tool.file(frames, bundle=cases.hasty)
    return (
        f"{sent} frames sent, received and seen, none dropped;"
        f" {compared(ended.verdicts, file.verdicts)}"
    )


def by_queues(cases):
    """Two queues, among which frames are spread by flow and direction: all come to the one
    worker."""
    net = cases.net
    net.run("b", "ethtool", "-L", "vb", "rx", "2")
    net.run("a", "ethtool", "-L", "va", "tx", "2")
    said = replayed(cases)
    counts = {queue: int(count) for queue, count in
              re.findall(r"rx_queue_(\d)_xdp_packets: (\d+)", net.run("b", "ethtool", "-S", "vb"))}
    net.run("a", "ethtool", "-L", "va", "tx", "1")
    net.run("b", "ethtool", "-L", "vb", "rx", "1")
    expect_that(
        len(counts) == 2 and min(counts.values()) > 0, "frames by queue", "some by each", counts
    )
    return f"two queues ({counts}): {said}"


def long(cases):
    """Frames that are longer than a piece of memory come in several, and count as one."""
    sizes = [60, 1792, 1793, 2048, 4000, 8000] * 20
    frames = []
    for port, size in enumerate(sizes, 1024):
        ip = struct.pack(
            ">BBHHHBBH4s4s", 0x45, 0, size - 14, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]),
            bytes([10, 0, 0, 2]),
        )
        udp = struct.pack(">HHHH", port, 9, size - 34, 0)
        frames.append(bytes(12) + b"\x08\x00" + ip + udp + bytes(size - 42))
    write_capture(cases.work / "long.pcap", [(0, frame, len(frame)) for frame in frames])
    live = begun(cases)
    send(cases.net, cases.work / "long.pcap", "--pps=5000")
    time.sleep(0.8)
    ended = live.stop()
    expect("long frames received and dropped", (len(sizes), 0), ended.balanced())
    file = cases.tool.file(
        [(at * 200_000, frame[:256], len(frame)) for at, frame in enumerate(frames)],
        bundle=cases.hasty,
    )
    return (
        f"{len(sizes)} frames of up to {max(sizes)} bytes;"
        f" {compared(ended.verdicts, file.verdicts)}"
    )


def killed(cases):
    """The kernel lets go of the interface when the program is killed, and frames go to the system
    again."""
    live = begun(cases)
    code, said = refused(cases, ["--interface", "vb"], XDP)
    expect_that(
        code == 1 and "another program has taken it" in said, "a second program on the interface",
        "a refusal", (code, said),
    )
    live.process.send_signal(signal.SIGKILL)
    live.process.wait(10)
    expect("a program on the interface after SIGKILL", "", attached(cases.net))
    return f"{said!r}; SIGKILL leaves nothing attached"


def stopped(cases):
    """SIGTERM while frames come as fast as they can."""
    live = begun(cases)
    sender = cases.net.start(
        "a", "tcpreplay", "-q", "-K", "--topspeed", "--loop=0", "--duration=4", "-i", "va",
        cases._capture("plain"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    time.sleep(1)
    ended = live.stop()
    expect("whether the sender was still at work", None, sender.poll())
    sender.kill()
    sender.wait(10)
    expect("the exit code", 0, ended.code)
    received, dropped = ended.balanced()
    expect_that(
        ended.took_s < 2, "seconds from SIGTERM to the end", "less than 2", f"{ended.took_s:.2f}"
    )
    expect("a program on the interface after SIGTERM", "", attached(cases.net))
    return (
        f"ended {ended.took_s * 1000:.0f} ms after SIGTERM under load, {received} received and"
        f" seen, {dropped} dropped"
    )


def overloaded(cases):
    """A reader that stands still behind little memory: what is sent was received or dropped."""
    net = cases.net
    live = begun(cases, config=SMALL)
    live.process.send_signal(signal.SIGSTOP)
    sent = send(net, cases._capture("plain"), "--pps=50000")
    live.process.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    late = send(net, cases._capture("plain"), "--pps=10000", "--limit=2000")
    time.sleep(0.3)
    ended = live.stop()
    received, dropped = ended.balanced()
    expect("frames received and dropped", sent + late, received + dropped)
    expect_that(
        received >= late and dropped > 0, "frames received",
        f"at least the last {late}, and others dropped", (received, dropped),
    )
    return f"stopped reader: {sent + late} sent = {received} received + {dropped} dropped"


def comes_and_goes(cases):
    """Interfaces that go down, come up and are removed."""
    net = cases.net
    net.cable("vg", "vh")
    live = begun(cases, interfaces=("vb", "vh"))
    first = send(net, cases._capture("plain"), "--pps=20000", interface="vg")
    net.run("b", "ip", "link", "set", "dev", "vh", "down")
    time.sleep(0.3)
    net.run("b", "ip", "link", "set", "dev", "vh", "up")
    await_(
        "that the cable carries again",
        lambda: "state UP" in net.run("a", "ip", "link", "show", "vg"), 5,
    )
    again = send(net, cases._capture("plain"), "--pps=20000", interface="vg")
    time.sleep(0.3)
    net.uncable("vg")
    before = live.cpu_s()
    time.sleep(1)
    busy = live.cpu_s() - before
    expect_that(
        busy < 0.2, "processor seconds in a second with an interface gone", "less than 0.2", busy
    )
    other = send(net, cases._capture("plain"), "--pps=20000")
    time.sleep(0.3)
    ended = live.stop()
    ended.balanced()
    expect("frames by each", {"vh": (first + again, 0), "vb": (other, 0)}, ended.kernel)
    expect("the exit code", 3, ended.code)
    expect(
        "times that the loss of vh is told", 1,
        ended.said.count("interface vh: expected it to stay, found that it was removed"),
    )
    return f"down, up, removed: {ended.kernel['vh'][0]} frames by it, {other} by the other"


def looped(cases):
    """The loopback's driver runs no programs, so the system behind it does."""
    live = begun(cases, interfaces=("lo",))
    expect_that(
        "xdpgeneric" in attached(cases.net, "lo"), "a program behind the driver", "one",
        attached(cases.net, "lo"),
    )
    cases.net.run("b", sys.executable, "-c", LOOP)
    ended = live.stop()
    expect("frames and drops on the loopback", (500, 0), ended.balanced())
    return f"{ended.seen} frames on the loopback, behind its driver"
