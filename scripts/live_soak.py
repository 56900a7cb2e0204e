"""A run under paced load whose bundle changes all the while: accounts exact, memory flat, no
verdict lost or doubled."""

import json
import pathlib
import re
import shutil
import statistics
import subprocess
import time

from live_net import TASK, await_, expect, expect_that

# Frames a second: so many that flows begin all the time, and so few that a shared machine need not
# drop one.
PACE = 4000
# Flows end so soon that the table is as full after a minute as after an hour.
RULES = "[flows]\nidle_ms = 4000\nactive_ms = 20000\nlinger_ms = 1000\n"


def other_bundle(tool, work):
    """The shipped bundle with other names for its labels, so that verdicts tell which bundle they
    are of."""
    other = work / "other"
    if other.exists():
        return other
    shutil.copytree(TASK / "bundle", other)
    lines, in_thresholds = [], False
    for line in (other / "plan.toml").read_text().splitlines():
        if line.startswith("["):
            in_thresholds = "thresholds" in line
        if line.startswith("labels = "):
            line = re.sub(r'"(\w+)"', r'"other-\1"', line)
        elif in_thresholds and " = " in line:
            line = f"other-{line}"
        lines.append(line)
    (other / "plan.toml").write_text("\n".join(lines))
    subprocess.run(
        [tool.path, "bundle", "pack", other], check=True, capture_output=True, timeout=120
    )
    return other


class Control:
    """A word with the service, by its socket."""

    def __init__(self, tool, socket):
        self.tool, self.socket = tool, socket

    def __call__(self, *words):
        done = subprocess.run(
            [self.tool.path, "control", *words, "--socket", self.socket], capture_output=True,
            text=True, timeout=60,
        )
        expect(f"the exit code of control {words[0]}", (0, ""), (done.returncode, done.stderr))
        return done.stdout

    def metrics(self):
        """The metrics of one moment, which balance: sums by name."""
        sums = {}
        for line in self("metrics").splitlines():
            if not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                name = name.split("{")[0].removeprefix("serveflow_")
                sums[name] = sums.get(name, 0) + float(value)
        packets = ("packets_recorded_total", "packets_ignored_total", "packets_after_close_total",
                   "packets_filtered_total", "packets_rejected_total")
        expect(
            "packets in all places", sums["packets_seen_total"], sum(sums[name] for name in packets)
        )
        flows = sums["flows_decided_total"] + sums["flows_collecting"] + sums["flows_in_inference"]
        expect("flows in all places", sums["flows_seen_total"], flows)
        expect(
            "verdicts written, and flows decided", sums["flows_decided_total"],
            sums.get("verdicts_total", 0),
        )
        # The kernel is asked behind the workers, and there may be frames in the rings.
        expect_that(
            sums["kernel_received_total"] >= sums["packets_seen_total"] - PACE,
            "frames that the kernel received", f"about {sums['packets_seen_total']}",
            sums["kernel_received_total"],
        )
        return sums


def resident_mb(process):
    pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def soak(net, tool, work, capture, seconds, every, workers=2):
    """Reloads a bundle every so many seconds under load; what came of it, in words."""
    other, socket = other_bundle(tool, work), work / "control"
    config = f'{RULES}[service]\ncontrol = "{socket}"\nlog = "json"\n'
    live = tool.live(workers=workers, config=config)
    control = Control(tool, socket)
    await_("that the service answers", lambda: socket.exists(), 20)
    # Each time around the addresses are others, so all flows are new.
    sent = PACE * seconds
    sender = net.start(
        "a", "tcpreplay", "-q", f"--pps={PACE}", "--loop=1000000", f"--limit={sent}", "--unique-ip",
        "-i", "va", capture, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    started, reloads, memory, moments = time.monotonic(), 0, [], 0
    bundles = [TASK / "bundle", other]
    while sender.poll() is None:
        expect_that(
            time.monotonic() - started < 2 * seconds + 60, "the sender", "its end by now",
            "that it sends on",
        )
        due = started + (reloads + 1) * every
        while sender.poll() is None and time.monotonic() < due:
            control.metrics()
            moments += 1
            memory.append((time.monotonic() - started, resident_mb(live.process)))
            time.sleep(min(1, every / 3))
        reloads += 1
        control("reload", "--bundle", bundles[reloads % 2])
        await_("that all workers take the bundle",
               lambda: not json.loads(control("status"))["bundle"]["pending"], 30)
    took = time.monotonic() - started
    expect_that(
        f"Successful packets:        {sent}" in sender.communicate(timeout=60)[0], "frames sent",
        sent, "others",
    )
    seen = lambda: control.metrics()["packets_seen_total"]
    await_("that all frames are seen", lambda: seen() >= sent, 20)
    last = control.metrics()
    ended = live.stop()
    received, dropped = ended.balanced()
    expect("the exit code", 0, ended.code)
    expect("frames that the kernel dropped", 0, dropped)
    expect("frames received of those that were sent", sent, received)
    expect("frames in the last metrics", sent, int(last["packets_seen_total"]))
    expect("changes in the last metrics", reloads, int(last["bundle_changes_total"]))
    by_other = sum(str(one["label"]).startswith("other-") for one in ended.verdicts)
    expect_that(
        0 < by_other < ended.flows, "flows by each bundle", "some",
        (ended.flows - by_other, by_other),
    )
    half = statistics.median(mb for at, mb in memory if took / 3 < at < 2 * took / 3)
    end = statistics.median(mb for at, mb in memory if at > 2 * took / 3)
    expect_that(
        end < half * 1.05 + 4, "resident memory in the last third, MiB",
        f"about {half:.0f} as in the second", f"{end:.0f}",
    )
    return (
        f"{took:.0f} s, {sent} frames at {PACE}/s, sent = received = seen, none dropped; {reloads}"
        f" reloads; {ended.flows} flows, each with one verdict ({by_other} by the other bundle);"
        f" accounts exact at {moments} moments; resident memory {half:.1f} MiB in the second third,"
        f" {end:.1f} in the last"
    )
