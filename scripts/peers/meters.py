#!/usr/bin/env python3
"""CPU time of whole programs that label or meter flows, on one synthetic capture, in turn.

    scripts/peers/meters.py [--flows 100000] [--rounds 3]

It builds scripts/peers/synthgen.c, writes a capture, and runs each program on it, one after the
other, in each round: ServeFlow with the shipped bundle on one worker (SERVEFLOW names the program),
ndpiReader (Debian: libndpi-bin), and nfstream of this Python (scripts/peers/requirements.txt), once
with its nDPI labels and once without. Programs that are missing are named. CPU seconds, user and
system, are those of the process and its children, so another load on the machine matters little.
The programs do different work; the table says what each does.
"""

import argparse
import importlib.util
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TOOL = os.environ.get("SERVEFLOW", ROOT / "target/dist/serveflow")
NFSTREAM = """
import sys
from nfstream import NFStreamer
if __name__ == "__main__":
    flows = NFStreamer(source=sys.argv[1], n_meters=1, n_dissections=int(sys.argv[2]))
    print(sum(1 for _ in flows))
"""


def programs(capture, scratch):
    """What each program does, and its command."""
    script = scratch / "meter.py"
    script.write_text(NFSTREAM)
    found = {
        "ServeFlow, labels by the shipped cascade": [
            TOOL, "--quiet", "run", capture, "--bundle", ROOT / "data/app_protocol/bundle",
            "--workers", "1", "--format", "null"],
    }
    if shutil.which("ndpiReader"):
        found["ndpiReader, labels by payload"] = ["ndpiReader", "-i", capture, "-q"]
    if importlib.util.find_spec("nfstream"):
        found["nfstream, labels by payload"] = [sys.executable, script, capture, "20"]
        found["nfstream, flow records alone"] = [sys.executable, script, capture, "0"]
    for name, there in (("ndpiReader", shutil.which("ndpiReader")),
                        ("nfstream", importlib.util.find_spec("nfstream"))):
        if not there:
            print(f"left out: {name} is not installed", file=sys.stderr)
    return found


def cpu_seconds(command):
    before = os.times()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user - before.children_user
            + after.children_system - before.children_system)


def capture_of(flows, scratch):
    """A capture of so many flows, and its number of packets, which synthgen prints."""
    maker, capture = scratch / "synthgen", scratch / "synthetic.pcap"
    subprocess.run(["cc", "-O2", "-o", maker, ROOT / "scripts/peers/synthgen.c", "-lm"],
                   check=True)
    made = subprocess.run([maker, "--flows", str(flows), "--snaplen", "128", "--seed", "1",
                           "--duration", str(flows // 10_000), "--out", capture],
                          check=True, capture_output=True, text=True)
    words = (made.stdout + made.stderr).split()
    return capture, int(words[words.index("packets") + 1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scratch = pathlib.Path(directory)
        capture, packets = capture_of(args.flows, scratch)
        commands = programs(capture, scratch)
        taken = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                taken[name].append(cpu_seconds(command))
    print(f"{packets:,} packets, {args.flows:,} flows, {args.rounds} rounds, median (range)\n")
    print("| program | CPU s | ns per packet | flows per CPU s |\n| -- | --: | --: | --: |")
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"| {name} | {median:.2f} ({min(seconds):.2f}-{max(seconds):.2f}) | "
              f"{median / packets * 1e9:,.0f} | {args.flows / median:,.0f} |")


if __name__ == "__main__":
    main()
