"""The figures of docs/results.md, section "Live, on a veth pair": `scripts/live.py --measure`."""

import json
import statistics
import subprocess
import threading
import time

from live_net import ROOT, sample, send, write_capture

RUNS = 3
LOAD_S = 10
# Frames a second at which latency is measured, and the frames of a run.
PACES = (1000, 20000)


def measure(net, tool, work):
    frames = sample()
    write_capture(work / "load.pcap", [(0, frame, len(frame)) for frame in frames])
    subprocess.run(["cc", "-O2", "-o", work / "send", ROOT / "scripts/live_send.c"], check=True)
    print("| workers | came | kernel drops | CPU a packet | of it in the program |\n| --: | --: | --: | --: | --: |")
    for workers in (1, 2):
        rows = [load(net, tool, work, workers) for _ in range(RUNS)]
        offered, dropped, total, user = map(statistics.median, zip(*rows))
        print(f"| {workers} | {offered:,.0f} packets/s | {100 * dropped:.3f} % | {total:,.0f} ns | {user:,.0f} ns |",
              flush=True)
    print("\n| frames a second | block_ms | verdicts | p50 | p90 | p99 |\n| --: | --: | --: | --: | --: | --: |")
    for pace in PACES:
        for block_ms in (1, 8):
            late = []
            for _ in range(RUNS):
                late.append(latency(net, tool, work, pace, block_ms))
            count = sum(map(len, late))
            cuts = [statistics.quantiles(run, n=100) for run in late]
            p50, p90, p99 = (statistics.median(1000 * cut[at - 1] for cut in cuts) for at in (50, 90, 99))
            print(f"| {pace:,} | {block_ms} | {count:,} | {p50:.2f} ms | {p90:.2f} ms | {p99:.2f} ms |", flush=True)


def load(net, tool, work, workers):
    """As many frames as the sender can: those that came a second, the share that was dropped, nanoseconds a frame."""
    live = tool.live(workers=workers)
    before = live.cpu_s(), live.user_s()
    started = time.monotonic()
    net.run("a", work / "send", work / "load.pcap", "va", LOAD_S)
    took_s = time.monotonic() - started
    time.sleep(0.2)
    total, user = live.cpu_s() - before[0], live.user_s() - before[1]
    ended = live.stop()
    received, dropped = ended.balanced()
    return (received + dropped) / took_s, dropped / (received + dropped), total / received * 1e9, user / received * 1e9


def latency(net, tool, work, pace, block_ms):
    """Seconds from the kernel's time stamp of the packet that decides to the verdict in a pipe's other end."""
    live = tool.live(config=f"[live]\nblock_ms = {block_ms}\n", pipe=True)
    read = []
    reader = threading.Thread(target=lambda: read.extend((line, time.time()) for line in live.process.stdout))
    reader.start()
    send(net, work / "load.pcap", f"--pps={pace}", f"--limit={8 * pace}", "--loop=0")
    live.process.terminate()
    reader.join(20)
    live.wait(10, [line for line, _ in read])
    late = []
    for line, read_at in read:
        verdict = json.loads(line)
        # Others wait for a timeout, and not for a packet.
        if verdict["reason"] in ("accepted", "final"):
            late.append(read_at - float(verdict["deciding_ts"]))
    return late
