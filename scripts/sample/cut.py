#!/usr/bin/env python3
"""Cuts a labelled task down to the flows of some sources, and checks a task.

    cut.py cut SOURCE_DIR TARGET_DIR REPOSITORY...
    cut.py check TASK_DIR...

A task is a directory of captures, `{train,val,test}/<label>[.pN].pcap.zst`, and a `labels.csv` with
one line a flow. `cut` keeps the packets of the flows whose `source_repo` is named, byte for byte,
and the lines of these flows. `check` follows the flows of each capture again, by the rule below,
and compares them with `labels.csv`, both ways: each flow must have its line, and each line its
flow, with the same five-tuple, first time stamp and packet count.

The flow rule: both directions of a five-tuple are one flow; forward is the sender of its first
packet. A new flow starts after more than 120 seconds without a packet, or on a forward TCP SYN
without ACK whose sequence number is not that of the flow's first SYN. Fragments other than the
first belong to no flow. Each capture has a flow table of its own.

Needs the package `zstandard`.
"""

import csv
import pathlib
import struct
import sys

import zstandard

IDLE_US = 120_000_000
MAGIC_US = 0xA1B2C3D4
ETHERNET = 1
FILE_HEADER, RECORD_HEADER, ETHERNET_HEADER = 24, 16, 14
SYN, ACK = 0x02, 0x10
# TCP, UDP, DCCP, SCTP, UDP-Lite: their headers begin with ports.
WITH_PORTS = (6, 17, 33, 132, 136)


def address(four_bytes):
    return ".".join(str(byte) for byte in four_bytes)


def headers(frame):
    """The five-tuple of a frame as sent, its TCP flags and its sequence number; None for what
    belongs to no flow."""
    if len(frame) < ETHERNET_HEADER + 20 or frame[12:14] != b"\x08\x00":
        return None
    ip = frame[ETHERNET_HEADER:]
    protocol, fragment_offset = ip[9], struct.unpack(">H", ip[6:8])[0] & 0x1FFF
    transport = ip[(ip[0] & 15) * 4 :]
    if fragment_offset or protocol not in WITH_PORTS or len(transport) < 8:
        return None
    source_port, target_port, sequence = struct.unpack(">HHI", transport[:8])
    flags = transport[13] if protocol == 6 and len(transport) > 13 else 0
    sender, receiver = (address(ip[12:16]), source_port), (address(ip[16:20]), target_port)
    return (protocol, sender, receiver), flags, sequence


def records(capture):
    """The time stamp in microseconds, the frame and the whole record of each packet of a classic
    capture."""
    magic, _, _, _, _, _, link = struct.unpack("<IHHiIII", capture[:FILE_HEADER])
    if magic != MAGIC_US or link != ETHERNET:
        raise ValueError(
            f"not a little-endian Ethernet capture in microseconds: magic {magic:#x}, link type"
            f" {link}"
        )
    at = FILE_HEADER
    while at < len(capture):
        seconds, micros, kept, _ = struct.unpack("<IIII", capture[at : at + RECORD_HEADER])
        end = at + RECORD_HEADER + kept
        if end > len(capture):
            raise ValueError(f"the record at byte {at} is cut off")
        yield seconds * 1_000_000 + micros, capture[at + RECORD_HEADER : end], capture[at:end]
        at = end


class Flow:
    """One flow of one capture: its five-tuple as first sent, and what the flow rule must remember
    of it."""

    def __init__(self, number, tuple5, time_us):
        self.number, self.tuple5, self.first_us, self.last_us = number, tuple5, time_us, time_us
        self.packets, self.first_syn = 0, None

    def ends_before(self, tuple5, time_us, flags, sequence):
        if time_us - self.last_us > IDLE_US:
            return True
        opens = flags & (SYN | ACK) == SYN and tuple5 == self.tuple5
        return opens and self.packets > 0 and sequence != self.first_syn

    def add(self, time_us, flags, sequence):
        if self.first_syn is None and flags & (SYN | ACK) == SYN:
            self.first_syn = sequence
        self.packets += 1
        self.last_us = time_us

    def key(self):
        protocol, (source, source_port), (target, target_port) = self.tuple5
        return (protocol, source, source_port, target, target_port, self.first_us)


def follow(capture):
    """Each record of a capture with its flow, or with None."""
    table, count = {}, 0
    for time_us, frame, record in records(capture):
        found = headers(frame)
        if found is None:
            yield None, record
            continue
        tuple5, flags, sequence = found
        protocol, sender, receiver = tuple5
        place = (protocol, *sorted((sender, receiver)))
        flow = table.get(place)
        if flow is None or flow.ends_before(tuple5, time_us, flags, sequence):
            flow = table[place] = Flow(count, tuple5, time_us)
            count += 1
        flow.add(time_us, flags, sequence)
        yield flow, record


def read_capture(path):
    return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()


def line_key(line):
    return (
        int(line["proto"]), line["src_ip"], int(line["src_port"]), line["dst_ip"],
        int(line["dst_port"]), int(line["first_ts_us"]),
    )


def read_labels(task):
    """The column names, and the lines of each capture."""
    with open(task / "labels.csv", newline="") as file:
        reader = csv.DictReader(file)
        lines = {}
        for line in reader:
            lines.setdefault(line["file"], []).append(line)
        return reader.fieldnames, lines


def cut(source, target, repositories):
    columns, lines = read_labels(source)
    kept_lines = []
    for name in lines:
        wanted = [line for line in lines[name] if line["source_repo"] in repositories]
        if not wanted:
            continue
        keys = {line_key(line) for line in wanted}
        capture = read_capture(source / name)
        body = b"".join(
            record for flow, record in follow(capture) if flow is not None and flow.key() in keys
        )
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(zstandard.ZstdCompressor(level=19).compress(capture[:FILE_HEADER] + body))
        kept_lines += wanted
    with open(target / "labels.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept_lines)
    print(f"{target}: kept {len(kept_lines)} flows")


def check(task):
    """Prints what differs between the captures and `labels.csv`, and returns how much."""
    _, lines = read_labels(task)
    captures = {str(path.relative_to(task)) for path in task.glob("*/*.pcap.zst")}
    faults = [f"{name}: in labels.csv alone" for name in sorted(lines.keys() - captures)]
    faults += [f"{name}: has no line in labels.csv" for name in sorted(captures - lines.keys())]
    flows_seen = packets_seen = 0
    for name in sorted(lines.keys() & captures):
        flows, outside = {}, 0
        for flow, _ in follow(read_capture(task / name)):
            if flow is None:
                outside += 1
            else:
                flows[flow.number] = flow
        found = sorted((*flow.key(), flow.packets) for flow in flows.values())
        listed = sorted((*line_key(line), int(line["pkts_kept"])) for line in lines[name])
        flows_seen, packets_seen = flows_seen + len(found), packets_seen + sum(
            flow[-1] for flow in found
        )
        if outside:
            faults.append(f"{name}: {outside} packets belong to no flow")
        if found != listed:
            extra, missing = len(set(found) - set(listed)), len(set(listed) - set(found))
            faults.append(
                f"{name}: {extra} flows without their line, {missing} lines without their flow"
            )
        faults += [f"{name}: a line of split {line['split']}" for line in lines[name]
                   if not name.startswith(line["split"] + "/")]
    print(
        f"{task}: {len(captures)} captures, {flows_seen} flows, {packets_seen} packets,"
        f" {len(faults)} faults"
    )
    for fault in faults:
        print("  " + fault)
    return len(faults)


def main(arguments):
    match arguments:
        case ["cut", source, target, *repositories] if repositories:
            cut(pathlib.Path(source), pathlib.Path(target), set(repositories))
            return 0
        case ["check", *tasks] if tasks:
            return 1 if sum(check(pathlib.Path(task)) for task in tasks) else 0
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
