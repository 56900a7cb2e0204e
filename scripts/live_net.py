"""What scripts/live.py stands on: network namespaces, programs in them, captures, and what
serveflow says.

Everything runs in namespaces of the script's own, network and mount: they end with its last
process, and so do the interfaces and the names below /run/netns.
"""

import collections
import contextlib
import ctypes
import ctypes.util
import decimal
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASK = ROOT / "data/app_protocol"
TOOLS = {
    "ip": "iproute2", "ss": "iproute2", "sysctl": "procps", "ethtool": "ethtool",
    "tcpreplay": "tcpreplay", "tcpdump": "tcpdump", "curl": "curl", "nginx": "nginx",
    "dig": "bind9-dnsutils", "dnsmasq": "dnsmasq-base", "iperf3": "iperf3",
    "logrotate": "logrotate", "openssl": "openssl", "unshare": "util-linux",
    "setpriv": "util-linux",
}
INSIDE = "SERVEFLOW_LIVE_INSIDE"
SO_TIMESTAMPNS = 35
PR_SET_PDEATHSIG = 1
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
# Where programs of administrators stand, which others may not have in their path.
os.environ["PATH"] += ":/usr/local/sbin:/usr/sbin:/sbin"
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """What did not hold, as a sentence."""


def expect(what, expected, found):
    if expected != found:
        raise Failed(f"{what}: expected {expected}, found {found}")


def expect_that(holds, what, expected, found):
    if not holds:
        raise Failed(f"{what}: expected {expected}, found {found}")


def fail(why):
    sys.exit(f"scripts/live.py: {why}")


def missing():
    """Debian's packages of the programs that are not there."""
    packages = {package for tool, package in TOOLS.items() if shutil.which(tool) is None}
    if ctypes.util.find_library("pcap") is None:
        packages.add("libpcap0.8")
    return sorted(packages)


def need_tools():
    """Ends in words where a program is missing."""
    if missing():
        fail(
            "programs are missing (Debian: apt-get install --no-install-recommends"
            f" {' '.join(missing())})"
        )


def go_inside():
    """Begins the script anew in namespaces of its own, as their root."""
    if os.environ.get(INSIDE) == str(os.getpid()):
        return
    # Both keep the process's number, so a second one that is started below by hand is not taken for
    # this.
    os.environ[INSIDE] = str(os.getpid())
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *as_root, "--net", "--mount"]
    tried = subprocess.run(
        [*command, "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True, text=True
    )
    if tried.returncode != 0:
        fail(
            "expected root, or a kernel that lets users have namespaces of their own, found"
            f" neither: {tried.stderr.strip()}"
        )
    begin = 'mount -t tmpfs tmpfs /run && exec "$@"'
    os.execvp("unshare", [*command, "sh", "-c", begin, "sh", sys.executable, *sys.argv])


def die_with_us():
    """In a child: it ends when this script is killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Net:
    """Two namespaces, a for senders and b for those who listen, and cables between them."""

    def __init__(self):
        self.names = {side: f"live{os.getpid()}{side}" for side in "ab"}
        self.running = []
        self.clock = None
        for side, name in self.names.items():
            self.host("ip", "netns", "add", name)
            for key in ("all", "default"):
                # Nothing is on the cables but what the cases send.
                self.run(side, "sysctl", "-qw", f"net.ipv6.conf.{key}.disable_ipv6=1")
            self.run(side, "ip", "link", "set", "lo", "up")

    def host(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise Failed(f"`{' '.join(map(str, command))}` fails: {done.stderr.strip()}")
        return done.stdout

    def inside(self, side, command):
        return ["ip", "netns", "exec", self.names[side], *map(str, command)]

    def run(self, side, *command, within_s=60):
        """Runs a program to its end; what it writes."""
        done = subprocess.run(
            self.inside(side, command), capture_output=True, text=True, timeout=within_s
        )
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise Failed(f"`{' '.join(map(str, command))}` fails: {said}")
        return done.stdout + done.stderr

    def start(self, side, *command, **options):
        """Starts a program that ends with the script at the latest."""
        process = subprocess.Popen(self.inside(side, command), preexec_fn=die_with_us, **options)
        self.running.append(process)
        return process

    def cable(self, left, right, offloads=False):
        """A pair of interfaces, `left` with the senders."""
        names = self.names
        self.host(
            "ip", "link", "add", left, "netns", names["a"], "mtu", "9000", "type", "veth", "peer",
            "name", right, "netns", names["b"], "mtu", "9000",
        )
        for side, name in (("a", left), ("b", right)):
            if not offloads:
                off = [
                    word
                    for offload in ("rx", "tx", "gro", "gso", "tso")
                    for word in (offload, "off")
                ]
                self.run(side, "ethtool", "-K", name, *off)
            self.run(side, "ip", "link", "set", "dev", name, "up")

    def uncable(self, left):
        subprocess.run(
            self.inside("a", ["ip", "link", "del", left]), capture_output=True, timeout=60
        )

    def stamp_early(self):
        """From now on the kernel stamps each frame once, as it comes, for all who listen: as long
        as a socket wants time stamps. Else each listener has a time of its own."""
        self.clock = self.clock or socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.clock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    def end(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
        for process in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=60)


def await_(what, holds, within_s):
    """Waits until something holds."""
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(
                f"{what}: expected it within {within_s} s, found that it was not so by then"
            )
        time.sleep(0.02)


# ---------------------------------------------------------------- captures

def unpacked(path):
    """The bytes of a capture in Zstandard."""
    try:
        import zstandard
        return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
    except ImportError:
        if shutil.which("zstd") is None:
            fail(
                "expected Python's module zstandard or the program zstd, found neither (Debian:"
                " apt-get install zstd)"
            )
        return subprocess.run(["zstd", "-dc", path], capture_output=True, check=True).stdout


def frames_of(data):
    """(time in nanoseconds, frame, length on the wire) of a pcap file's bytes."""
    nanoseconds = {b"\xd4\xc3\xb2\xa1": 1000, b"\x4d\x3c\xb2\xa1": 1}[data[:4]]
    at = 24
    while at + 16 <= len(data):
        seconds, rest, kept, wire = struct.unpack_from("<4I", data, at)
        yield seconds * 10**9 + rest * nanoseconds, data[at + 16:at + 16 + kept], wire
        at += 16 + kept


def write_capture(path, frames, link=1):
    """A capture of (time in nanoseconds, frame, length on the wire); of Ethernet, if not of another
    link type."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, link))
        for time_ns, frame, wire in frames:
            file.write(struct.pack("<4I", *divmod(time_ns, 10**9), len(frame), wire) + frame)


def sample():
    """The frames of the shipped test captures, one capture behind the other."""
    return [
        frame
        for path in sorted((TASK / "test").glob("*.pcap.zst"))
        for _, frame, _ in frames_of(unpacked(path))
    ]


def as_ipv6(frame):
    """The same packet over IPv6, or nothing where it is none of IPv4, or a fragment."""
    if frame[12:14] != b"\x08\x00" or struct.unpack_from(">H", frame, 20)[0] & 0x3FFF:
        return None
    header = 4 * (frame[14] & 15)
    length = struct.unpack_from(">H", frame, 16)[0] - header
    ends = b"".join(b"\xfd" + bytes(11) + frame[at:at + 4] for at in (26, 30))
    protocol = {1: 58}.get(frame[23], frame[23])
    head = struct.pack(">IHBB", 6 << 28, max(0, length), protocol, frame[22])
    return frame[:12] + b"\x86\xdd" + head + ends + frame[14 + header:]


def tagged(frame, *tags):
    """The frame with VLAN tags, (type, id) from the outer one on."""
    return frame[:12] + b"".join(struct.pack(">HH", *tag) for tag in tags) + frame[12:]


def ends_of(frame):
    """Both ends of a frame's packet, each an address with a port where there is one; nothing for
    other frames."""
    kind, at = frame[12:14], 14
    if kind == b"\x08\x00":
        addresses, protocol = (frame[26:30], frame[30:34]), frame[23]
        behind = at + 4 * (frame[14] & 15)
        if struct.unpack_from(">H", frame, 20)[0] & 0x1FFF:
            protocol = 0
    elif kind == b"\x86\xdd":
        addresses, protocol, behind = (frame[22:38], frame[38:54]), frame[20], at + 40
    else:
        return None
    has_ports = protocol in (6, 17) and len(frame) >= behind + 4
    ports = (frame[behind:behind + 2], frame[behind + 2:behind + 4]) if has_ports else (b"", b"")
    return tuple(zip(addresses, ports))


def turn(frame):
    """0 or 1, by the frame's direction in its flow."""
    ends = ends_of(frame)
    return int(ends is not None and ends[0] > ends[1])


def tun_main(capture, per_second):
    """Brings the packets of a capture, without their Ethernet headers, by an interface that has
    none."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"vt", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", "dev", "vt", "up"], check=True)
    print("up", flush=True)
    sys.stdin.readline()
    for count, (_, frame, _) in enumerate(frames_of(pathlib.Path(capture).read_bytes())):
        if count % 16 == 0:
            time.sleep(16 / int(per_second))
        os.write(tun, frame[14:])
    print("sent", flush=True)
    sys.stdin.readline()


def lo_main(count):
    """Two sockets of this machine that tell each other so many things."""
    left, right = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for one in (left, right):
        one.bind(("127.0.0.1", 0))
    for _ in range(int(count)):
        left.sendto(b"there", right.getsockname())
        right.recv(9)
        right.sendto(b"back", left.getsockname())
        left.recv(9)


def send_main(capture, per_second, left, right):
    """Sends a capture, each direction by an interface of its own, in one order. Runs in the
    senders' namespace."""
    sockets = []
    for name in (left, right):
        sockets.append(socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        sockets[-1].bind((name, 0))
    started = time.monotonic()
    for count, (_, frame, _) in enumerate(frames_of(pathlib.Path(capture).read_bytes())):
        if count % 16 == 0:
            time.sleep(max(0, started + count / int(per_second) - time.monotonic()))
        sockets[turn(frame)].send(frame)


def send(net, capture, *options, interface="va"):
    """Sends a capture by tcpreplay; how many frames it says it sent."""
    said = net.run("a", "tcpreplay", "-K", *options, "-i", interface, capture, within_s=120)
    failed = re.search(r"Failed packets:\s+(\d+)", said)
    expect("frames that tcpreplay could not send", 0, int(failed[1]) if failed else None)
    return int(re.search(r"Successful packets:\s+(\d+)", said)[1])


def stay_root(work):
    """Variables by which tcpdump stays who it is: where users made the namespace, nobody may give
    up groups, and it gives up without."""
    if "deny" not in pathlib.Path("/proc/self/setgroups").read_text():
        return {}
    library = work / "stay_root.so"
    if not library.exists():
        calls = "".join(
            f"int {name}() {{ return 0; }} " for name in ("initgroups", "setgid", "setuid")
        )
        subprocess.run(
            ["cc", "-w", "-fno-builtin", "-shared", "-fPIC", "-x", "c", "-", "-o", library],
            input=calls, text=True, check=True,
        )
    return {"LD_PRELOAD": str(library)}


class Dump:
    """tcpdump beside serveflow on the same interface."""

    def __init__(self, net, path, interface="vb", words="", side="b"):
        self.path = path
        self.process = net.start(
            side, "tcpdump", "-i", interface, "-w", path, "-U", "-Z", "root", "-n", "-s", "4096",
            "-B", "65536", "--time-stamp-precision=nano", *([words] if words else []),
            stderr=subprocess.PIPE, text=True, env={**os.environ, **stay_root(path.parent)},
        )
        # Its first line says that it listens.
        while "listening on" not in (line := self.process.stderr.readline()):
            if not line:
                raise Failed("expected that tcpdump listens, found that it ended")

    def stop(self):
        """Ends it; the frames, in the order in which they came."""
        # tcpdump has read what it says on a signal only after its buffer's timeout.
        time.sleep(0.3)
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=20)[1]
        expect(
            "frames that tcpdump lost", "0", re.search(r"(\d+) packets? dropped by kernel", said)[1]
        )
        return sorted(frames_of(self.path.read_bytes()), key=lambda frame: frame[0])


# ---------------------------------------------------------------- serveflow

class Ended:
    """What a run left behind."""

    def __init__(self, code, took_s, said, lines):
        self.code, self.took_s, self.said = code, took_s, said
        # Times have more digits than a float.
        self.verdicts = [json.loads(line, parse_float=decimal.Decimal) for line in lines]
        found = re.search(r"packets: (\d+) seen = (\d+) recorded \+ (\d+) ignored"
                          r" \+ (\d+) after close \+ (\d+) rejected \+ (\d+) filtered", said)
        self.seen, *parts = map(int, found.groups()) if found else (None,)
        flows = re.search(
            r"flows:   (\d+) seen = (\d+) verdicts \+ (\d+) collecting \+ (\d+) in inference", said
        )
        self.flows, *places = map(int, flows.groups()) if flows else (None,)
        if found:
            expect("packets in all places", self.seen, sum(parts))
            expect("flows in all places", (self.flows, 0, 0), (sum(places), *places[1:]))
            expect("final verdicts", self.flows, len(self.verdicts))
            expect(
                "flows with two verdicts", 0,
                self.flows - len({verdict["flow"] for verdict in self.verdicts}),
            )
        kernel = re.findall(r"kernel:  (\S+): (\d+) received, (\d+) dropped", said)
        self.kernel = {name: (int(received), int(dropped)) for name, received, dropped in kernel}

    def balanced(self):
        """Frames that the kernel received and that it dropped: the first are those that were
        seen."""
        received, dropped = (sum(counts) for counts in zip(*self.kernel.values()))
        expect("packets seen, and received by the kernel", received, self.seen)
        return received, dropped

    def together(self, workers):
        """Holds all flows between two ends, in either direction, to be in one worker, whose numbers
        go in steps."""
        places = collections.defaultdict(set)
        for one in self.verdicts:
            ends = sorted([(one["src"], one["src_port"]), (one["dst"], one["dst_port"])])
            places[one["proto"], *ends[0], *ends[1]].add(one["flow"] % workers)
        expect(
            "ends whose packets came to several workers", [],
            [ends for ends in places if len(places[ends]) > 1][:2],
        )

    def by_worker(self, workers):
        """Flows of each worker, whose numbers go in steps."""
        return [
            sum(verdict["flow"] % workers == worker for verdict in self.verdicts)
            for worker in range(workers)
        ]


def key(verdict):
    """A verdict without what the wall clock and the order of flows decide."""
    return tuple(
        value for name, value in sorted(verdict.items()) if name not in ("flow", "compute_us")
    )


def differences(live, file):
    """How many verdicts of one are not in the other, and the first of each side."""
    left, right = (collections.Counter(map(key, verdicts)) for verdicts in (live, file))
    only = [
        sorted((one - other).elements(), key=str) for one, other in ((left, right), (right, left))
    ]
    return len(only[0]) + len(only[1]), [side[:1] for side in only]


class Tool:
    """The program under test."""

    def __init__(self, net, path, work):
        self.net, self.path, self.work, self.count = net, path, work, 0
        self.bundle = TASK / "bundle"

    def base(self):
        self.count += 1
        return self.work / f"run{self.count}"

    def command(self, base, words, config, bundle):
        base.with_suffix(".toml").write_text(config)
        return [
            self.path, "run", *words, "--bundle", bundle or self.bundle, "--config",
            base.with_suffix(".toml"),
        ]

    def file(self, frames, config="", bundle=None, link=1):
        """Serves frames from a capture."""
        base = self.base()
        write_capture(base.with_suffix(".pcap"), frames, link)
        words = [base.with_suffix(".pcap"), "--workers", "1", "--out", base.with_suffix(".json")]
        done = subprocess.run(
            self.command(base, words, config, bundle), capture_output=True, text=True, timeout=120
        )
        expect(
            "the exit code for a capture", (0, ""),
            (done.returncode, done.stderr if done.returncode else ""),
        )
        return Ended(0, 0, done.stderr, base.with_suffix(".json").read_text().splitlines())

    def live(self, *words, interfaces=("vb",), workers=1, config="", bundle=None, pipe=False):
        """Begins to listen, and comes back when it does."""
        base = self.base()
        words = [word for name in interfaces for word in ("--interface", name)] + list(words)
        words += ["--workers", workers] + ([] if pipe else ["--out", base.with_suffix(".json")])
        log = open(base.with_suffix(".log"), "w")
        process = self.net.start("b", *self.command(base, words, config, bundle), stderr=log,
                                 stdout=subprocess.PIPE if pipe else subprocess.DEVNULL)
        live = Live(process, base)
        await_(
            "that serveflow listens",
            lambda: "listening to" in live.said() or process.poll() is not None, 60,
        )
        expect("the exit code so far", None, process.poll())
        return live

    def refused(self, *words, before=()):
        """What a run says that ends at once, and its exit code."""
        command = [*before, *self.command(self.base(), words, "", None)]
        done = subprocess.run(
            self.net.inside("b", command), capture_output=True, text=True, timeout=60
        )
        return done.returncode, done.stderr.strip()


class Live:
    """A run that listens."""

    def __init__(self, process, base):
        self.process, self.base = process, base

    def said(self):
        return self.base.with_suffix(".log").read_text()

    def lines(self):
        """Verdicts that are written so far."""
        path = self.base.with_suffix(".json")
        return path.read_text().splitlines() if path.exists() else []

    def user_s(self):
        """Processor time so far, but for that in the kernel."""
        fields = (
            pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        )
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")

    def cpu_s(self):
        """Processor time so far."""
        fields = (
            pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, within_s=10):
        self.process.terminate()
        return self.wait(within_s)

    def wait(self, within_s, lines=None):
        """What came of it once it ends, which it must; `lines` where somebody else read them."""
        started = time.monotonic()
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Failed(
                f"expected that serveflow ends within {within_s} s, found that it does"
                f" not:\n{self.said()}"
            )
        took_s = time.monotonic() - started
        return Ended(code, took_s, self.said(), self.lines() if lines is None else lines)


if __name__ == "__main__":
    {"send": send_main, "tun": tun_main, "lo": lo_main}[sys.argv[1]](*sys.argv[2:])
