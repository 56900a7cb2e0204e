"""The figures of docs/results.md, section "Live, on a veth pair": `scripts/live.py --measure`."""

import itertools
import json
import re
import statistics
import subprocess
import threading
import time

import live_soak
from live_net import ROOT, sample, send, write_capture

RUNS = 3
LOAD_S = 10
# Frames a second at which latency is measured, and the frames of a run.
PACES = (1000, 20000)
HAND_OVERS = {
    "by frame, spinning": "[live]\nspin_us = 50000\n",
    "by frame": "",
    "by block": '[live]\nrx_mode = "block"\n',
    "by block, 8 ms": '[live]\nrx_mode = "block"\nblock_ms = 8\n',
}


def measure(net, tool, work):
    frames = sample()
    write_capture(work / "load.pcap", [(0, frame, len(frame)) for frame in frames])
    subprocess.run(["cc", "-O2", "-o", work / "send", ROOT / "scripts/live_send.c"], check=True)
    print("| workers | handed over | came | kernel drops | CPU a packet | of it in the program |\n"
          "| --: | -- | --: | --: | --: | --: |")
    for workers, name in itertools.product((1, 2), ("by frame", "by block")):
        rows = [load(net, tool, work, workers, HAND_OVERS[name]) for _ in range(RUNS)]
        offered, dropped, total, user = map(statistics.median, zip(*rows))
        print(
            f"| {workers} | {name} | {offered:,.0f} packets/s | {100 * dropped:.3f} % |"
            f" {total:,.0f} ns | {user:,.0f} ns |",
            flush=True,
        )
    print(
        "\n| frames a second | handed over | verdicts | p50 | p90 | p99 | in the pipe: p50 | p99"
        " |\n| --: | -- | --: | --: | --: | --: | --: | --: |"
    )
    for pace, (name, config) in itertools.product(PACES, HAND_OVERS.items()):
        runs = [latency(net, tool, work, pace, config) for _ in range(RUNS)]
        count = sum(len(run) for run, _ in runs)
        written = (quantile([ages for _, ages in runs], share) for share in (0.5, 0.9, 0.99))
        cuts = [statistics.quantiles(run, n=100) for run, _ in runs]
        read = (statistics.median(1e6 * cut[at - 1] for cut in cuts) for at in (50, 99))
        times = " | ".join(
            [*(f"at most {us:,.0f} us" for us in written), *(f"{us:,.0f} us" for us in read)]
        )
        print(f"| {pace:,} | {name} | {count:,} | {times} |", flush=True)


def quantile(histograms, share):
    """The bound that this share of all times is not above, microseconds; a histogram is a list of
    (bound, times below)."""
    total = sum(below[-1][1] for below in histograms)
    for rows in zip(*histograms):
        if sum(below for _, below in rows) >= share * total:
            return rows[0][0] * 1e6
    return float("inf")


def load(net, tool, work, workers, config):
    """As many frames as the sender can: those that came a second, the share that was dropped,
    nanoseconds a frame."""
    live = tool.live(workers=workers, config=config)
    before = live.cpu_s(), live.user_s()
    started = time.monotonic()
    net.run("a", work / "send", work / "load.pcap", "va", LOAD_S)
    took_s = time.monotonic() - started
    time.sleep(0.2)
    total, user = live.cpu_s() - before[0], live.user_s() - before[1]
    ended = live.stop()
    received, dropped = ended.balanced()
    return (
        (received + dropped) / took_s, dropped / (received + dropped), total / received * 1e9,
        user / received * 1e9,
    )


def latency(net, tool, work, pace, config):
    """From the kernel's time stamp of the packet that decides: seconds to the verdict in a pipe's
    other end, of each flow, and the program's own histogram of times until it was written."""
    socket = work / "control"
    live = tool.live(config=f'{config}[service]\ncontrol = "{socket}"\n', pipe=True)
    read = []
    reader = threading.Thread(
        target=lambda: read.extend((line, time.time()) for line in live.process.stdout)
    )
    reader.start()
    send(net, work / "load.pcap", f"--pps={pace}", f"--limit={8 * pace}", "--loop=0")
    metrics = live_soak.Control(tool, socket)("metrics")
    live.process.terminate()
    reader.join(20)
    live.wait(10, [line for line, _ in read])
    late = []
    for line, read_at in read:
        verdict = json.loads(line)
        # Others wait for a timeout, and not for a packet.
        if verdict["reason"] in ("accepted", "final"):
            late.append(read_at - float(verdict["deciding_ts"]))
    written = re.findall(r'verdict_delay_seconds_bucket\{le="([^"]+)"\} (\d+)', metrics)
    return late, [(float(bound), int(below)) for bound, below in written]
