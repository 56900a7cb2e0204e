"""Outputs of live runs that are full, stand still, go away, are rotated and restarted: packets are
served on, and every record is written once as a whole line or counted as lost."""

import array
import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import termios
import threading
import time

from live_net import (
    LIBC, TASK, await_, expect, expect_that, frames_of, send, unpacked, write_capture,
)
from live_soak import Control

PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000
# Readiness tells of an output that stands still after this time.
STALL_MS = 300
# More records than the smallest buffer holds.
MANY = 9000


def dns_flows(path, first, count):
    """A capture of flows of a single packet, whose verdict comes with it. Each has an address of
    its own."""
    frames = [frame for _, frame, _ in frames_of(unpacked(TASK / "test/dns.pcap.zst"))]
    one = next(
        frame for frame in frames if frame[12:14] == b"\x08\x00" and frame[36:38] == b"\x00\x35"
    )
    source = lambda number: b"\x0a" + number.to_bytes(3, "big")
    made = [one[:26] + source(number) + one[30:] for number in range(first, first + count)]
    write_capture(path, [(0, frame, len(frame)) for frame in made])
    return path


def whole_lines(data):
    """The flows of a file's lines, all of which must be whole."""
    expect("bytes that are zero", 0, data.count(b"\0"))
    expect_that(
        data == b"" or data.endswith(b"\n"), "the end of the file", "a whole line", data[-80:]
    )
    return [json.loads(line)["flow"] for line in data.splitlines()]


class Probe:
    """A run that listens, its control socket, and flows for it."""

    def __init__(self, cases, out, config="", words=(), service=""):
        self.cases, self.out, self.first = cases, out, 1
        socket = cases.work / f"control{cases.tool.count}"
        limits = (
            f'[output]\nbuffer_mb = 1\nstall_ms = {STALL_MS}\n{config}[service]\ncontrol ='
            f' "{socket}"\n{service}'
        )
        self.live = cases.tool.live("--out", out, *words, config=limits, pipe=True)
        self.control = Control(cases.tool, socket)
        await_("that the service answers", socket.exists, 20)

    def status(self):
        return json.loads(self.control("status"))

    def output(self):
        return self.status()["output"]

    def send(self, count, pace=20000):
        """Sends so many new flows, and waits until each has its verdict."""
        capture = dns_flows(self.cases.work / "flows.pcap", self.first, count)
        self.first += count
        before = self.status()["flows"]["decided"]
        send(self.cases.net, capture, f"--pps={pace}")
        await_(
            f"{count} more verdicts", lambda: self.status()["flows"]["decided"] == before + count,
            30,
        )

    def all_taken(self):
        await_("that all records are taken", lambda: self.output()["buffered"] == 0, 30)

    def stalls(self):
        await_("that readiness tells of it",
               lambda: any("output stalled" in why for why in self.status()["not_ready"]), 20)

    def end(self, code):
        """Ends it: records made, written and lost, which add up."""
        self.live.process.terminate()
        expect("the exit code", code, self.live.process.wait(20))
        said = self.live.said()
        made, written, lost = map(
            int, re.search(r"records: (\d+) made = (\d+) written \+ (\d+) lost", said).groups()
        )
        expect("records made", self.first - 1, made)
        expect("records in both places", made, written + lost)
        return made, written, lost


def full(cases):
    """A disk that is full, and has room again."""
    disk = cases.work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=True)
    try:
        out = disk / "v.jsonl"
        probe = Probe(cases, out)
        probe.send(MANY)
        probe.stalls()
        lost = probe.output()["lost"]
        expect_that(lost["disk_full"] > 0, "records lost since the disk is full", "some", lost)
        whole_lines(out.read_bytes())
        subprocess.run(["mount", "-o", "remount,size=40m", disk], check=True)
        probe.all_taken()
        probe.send(500)
        probe.all_taken()
        expect("reasons not to be ready", [], probe.status()["not_ready"])
        made, written, lost = probe.end(4)
        flows = whole_lines(out.read_bytes())
        expect("lines, and records written", written, len(flows))
        expect("lines of different flows", written, len(set(flows)))
        return f"full: {made} made = {written} written + {lost} lost"
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


def stalled(cases):
    """A reader of a named pipe that stands still, goes on, goes away and comes back."""
    pipe = cases.work / "pipe"
    os.mkfifo(pipe)
    probe = Probe(cases, pipe)
    reader, read = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), bytearray()

    def waiting():
        count = array.array("i", [0])
        fcntl.ioctl(reader, termios.FIONREAD, count)
        return count[0]

    def take():
        with contextlib.suppress(BlockingIOError):
            while more := os.read(reader, 1 << 16):
                read.extend(more)
        return probe.output()["buffered"] == 0 and waiting() == 0

    probe.send(MANY)
    probe.stalls()
    lost = probe.output()["lost"]
    expect_that(lost["slow"] > 0, "records lost since the reader is slow", "some", lost)
    seen = probe.status()["interfaces"][0]
    expect(
        "frames received, and dropped by the kernel", (MANY, 0), (seen["received"], seen["dropped"])
    )
    await_("that the rest is read", take, 30)
    expect("reasons not to be ready", [], probe.status()["not_ready"])
    os.close(reader)
    probe.send(200)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    probe.send(200)
    await_("that the rest is read", take, 30)
    made, written, lost = probe.end(4)
    os.close(reader)
    flows = whole_lines(bytes(read))
    expect("lines read, and records written", written, len(flows))
    expect_that(flows == sorted(flows), "lines", "in order", "others")
    return f"stalled pipe: {made} made = {written} written + {lost} lost"


def ended(cases):
    """An end whose output waits for its reader: whoever looks has an answer until the process is
    gone."""
    pipe = cases.work / "late"
    os.mkfifo(pipe)
    probe = Probe(cases, pipe, service="shutdown_timeout_ms = 60000\n")
    probe.send(200)
    probe.live.process.send_signal(signal.SIGTERM)
    is_done = lambda: any("ended: no more input" in why for why in probe.status()["not_ready"])
    await_("that the workers have ended", is_done, 20)
    # What ends with the workers is gone by then.
    time.sleep(1)
    expect_that("stopping" in probe.status()["not_ready"], "readiness", "stopping", "another")
    reader, read = os.open(pipe, os.O_RDONLY), bytearray()
    while more := os.read(reader, 1 << 16):
        read.extend(more)
    os.close(reader)
    expect("the exit code", 0, probe.live.process.wait(20))
    expect("lines", 200, len(whole_lines(bytes(read))))
    return "end: the service answers until its 200 lines are read"


def restarted(cases):
    """A second start by mistake, a start that is refused, and one after the process was killed in
    the middle of a line."""
    out = cases.work / "restarted.jsonl"
    probe = Probe(cases, out)
    probe.send(300)
    probe.all_taken()
    before = out.read_bytes()
    code, said = cases.tool.refused("--interface", "vb", "--out", out)
    expect_that(
        code == 1 and "no other process" in said, "a second start", "exit code 1 and the reason",
        (code, said),
    )
    code, said = cases.tool.refused("--interface", "none", "--out", out, "--overwrite")
    expect("a start without its interface", 1, code)
    expect_that(out.read_bytes() == before, "the file", "as it was", "another")
    probe.live.process.kill()
    probe.live.process.wait(10)
    with open(out, "ab") as file:
        file.write(b'{"flow":1,"sr')
    probe = Probe(cases, out)
    probe.send(300)
    made, written, lost = probe.end(0)
    expect("records lost", 0, lost)
    lines = out.read_bytes().splitlines(keepends=True)
    expect(
        "half a line, and where it is", [300],
        [at for at, line in enumerate(lines) if not line.endswith(b"}\n")],
    )
    expect("lines", 601, len(lines))
    return f"restart: {len(lines) - 1} lines of two runs and half a line between them"


def rotated(cases, how):
    """The real logrotate, while verdicts are written."""
    work = cases.work / how
    work.mkdir()
    out, config = work / "v.jsonl", work / "logrotate.conf"
    probe = Probe(cases, out)
    kill = f"kill -%s {probe.live.process.pid}"
    before = f"prerotate\n{kill % 'USR2'}; sleep 0.5\nendscript\n" if how == "copytruncate" else ""
    config.write_text(
        f"{out} {{\nsize 1\nrotate"
        f" 1000\n{how}\n{before}postrotate\n{kill % 'USR1'}\nendscript\n}}\n"
    )
    config.chmod(0o600)
    sender = threading.Thread(target=probe.send, args=(MANY, 2500))
    sender.start()
    times = 0
    while sender.is_alive():
        done = subprocess.run(
            ["logrotate", "--force", "--state", work / "state", config], capture_output=True,
            text=True, timeout=60,
        )
        expect("what logrotate says", (0, ""), (done.returncode, done.stderr))
        times += 1
        time.sleep(0.2)
    sender.join()
    expect("flows sent", MANY, probe.first - 1)
    made, written, lost = probe.end(0)
    files = [path for path in work.iterdir() if path.name.startswith("v.jsonl")]
    flows = [flow for path in files for flow in whole_lines(path.read_bytes())]
    expect("lines in all files", MANY, len(flows))
    expect("lines of different flows", MANY, len(set(flows)))
    with_some = sum(path.stat().st_size > 0 for path in files)
    expect_that(with_some > 2, "files with lines", "more than 2", with_some)
    return (
        f"logrotate with {how}: {times} times, {made} lines in {len(files)} files, none lost or"
        " doubled"
    )


def deleted(cases):
    """A file that is deleted, and one that is moved, without a signal; and a run that rotates by
    itself."""
    work = cases.work / "deleted"
    work.mkdir()
    out = work / "v.jsonl"
    probe = Probe(cases, out)
    probe.send(100)
    probe.all_taken()
    out.unlink()
    probe.send(100)
    probe.all_taken()
    expect("lines in the new file", 100, len(whole_lines(out.read_bytes())))
    expect("records lost", 0, probe.end(0)[2])
    out = work / "own.jsonl"
    probe = Probe(cases, out, config="rotate_mb = 1\nkeep_files = 9\n")
    for _ in range(6):
        probe.send(2000)
        probe.all_taken()
    expect("records lost", 0, probe.end(0)[2])
    files = [path for path in work.iterdir() if path.name.startswith("own.jsonl")]
    expect_that(
        all(path.stat().st_size <= 1 << 20 for path in files), "sizes", "up to 1 MiB", "others"
    )
    flows = [flow for path in files for flow in whole_lines(path.read_bytes())]
    expect("lines of different flows", 12000, len(set(flows)))
    expect("lines", 12000, len(flows))
    return f"deleted: noticed; own rotation: {len(files)} files"


@contextlib.contextmanager
def standing_still(pid):
    """A thread that stands still while the others of its process go on, as a debugger has it."""
    ptrace = LIBC.ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    ptrace.restype = ctypes.c_long
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        expect("the answer of ptrace", 0, ptrace(request, pid, None, None))
    os.waitpid(pid, WALL)
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, pid, None, None)


def blocked_worker(cases):
    """A worker that stands still: the kernel's counts go on."""
    probe = Probe(cases, cases.work / "blocked.jsonl")
    probe.send(100)
    before = probe.status()
    # A single worker serves on the first thread.
    with standing_still(probe.live.process.pid):
        send(cases.net, dns_flows(cases.work / "flows.pcap", probe.first, 500), "--pps=20000")
        probe.first += 500
        received = lambda: probe.status()["interfaces"][0]["received"]
        await_(
            "that the kernel's counts go on",
            lambda: received() == before["interfaces"][0]["received"] + 500, 20,
        )
        expect(
            "packets seen meanwhile", before["packets"]["seen"], probe.status()["packets"]["seen"]
        )
    await_("the other verdicts", lambda: probe.status()["flows"]["decided"] == 600, 30)
    expect("records lost", 0, probe.end(0)[2])
    return "blocked worker: the kernel's counts go on"


def blocked_log(cases):
    """A log whose reader stands still, while many things are to be said, and the end of the
    process."""
    work = cases.work
    reader, writer = os.pipe()
    base = cases.tool.base()
    socket, out = work / "control-log", work / "log.jsonl"
    config = f'[service]\ncontrol = "{socket}"\n'
    command = cases.tool.command(
        base, ["--interface", "vb", "--workers", "1", "--out", out], config, None
    )
    process = cases.net.start("b", *command, stderr=writer, stdout=subprocess.DEVNULL)
    os.close(writer)
    await_("that the service answers", socket.exists, 60)
    control = Control(cases.tool, socket)
    path = "/nowhere/" + "x" * 60000
    for _ in range(40):
        done = subprocess.run(
            [cases.tool.path, "control", "reload", "--socket", socket, "--bundle", path],
            capture_output=True, timeout=60,
        )
        expect("the exit code of a reload of nothing", 1, done.returncode)
    dropped = json.loads(control("status"))["output"]["log_lines_dropped"]
    expect_that(dropped > 0, "lines that were dropped", "some", dropped)
    send(cases.net, dns_flows(work / "flows.pcap", 1, 500), "--pps=20000")
    await_("500 verdicts", lambda: json.loads(control("status"))["flows"]["decided"] == 500, 30)
    process.send_signal(signal.SIGTERM)
    expect("the exit code", 0, process.wait(20))
    os.close(reader)
    expect("lines", 500, len(whole_lines(pathlib.Path(out).read_bytes())))
    return f"blocked log: {dropped} lines dropped, verdicts and the end come all the same"


def case(cases):
    """All of these."""
    said = [
        full(cases), stalled(cases), ended(cases), restarted(cases), rotated(cases, "create"),
        rotated(cases, "copytruncate"), deleted(cases), blocked_worker(cases), blocked_log(cases),
    ]
    return "; ".join(said)
