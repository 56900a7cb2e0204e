#!/usr/bin/env python3
"""Makes the fixtures of tunnels, or what another dissector says of them.

    scripts/tunnels.py make    writes made-*.pcap (needs scapy)
    scripts/tunnels.py keys    writes *.keys.csv for all captures (needs tshark)

A line of keys is a frame: addresses, protocol and ports of its innermost packet, or dashes where
there is none.
"""

import struct
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "crates/core/tests/tunnels"
NUMBERS = {
    "tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ospf": 89, "pim": 103, "gre": 47, "esp": 50,
    "sctp": 132, "dccp": 33, "mipv6": 135,
}


def flow(number, v6=False):
    """Both directions of a small conversation, TCP or UDP."""
    from scapy.all import IP, TCP, UDP, IPv6, Raw

    hosts = (
        [f"fd00:{number}::1", f"fd00:{number}::2"]
        if v6
        else [f"192.168.{number}.1", f"192.168.{number}.2"]
    )
    ports = [40000 + number, 443]
    kind = IPv6 if v6 else IP
    for step in range(4):
        (src, sport), (dst, dport) = list(zip(hosts, ports))[:: 1 if step % 2 == 0 else -1]
        if number % 2:
            transport = UDP(sport=sport, dport=dport)
        else:
            transport = TCP(
                sport=sport, dport=dport, flags=["S", "SA", "A", "PA"][step], seq=step + 1
            )
        payload = b"" if step < 2 and number % 2 == 0 else bytes(range(step * 9))
        yield step, bytes(kind(src=src, dst=dst) / transport / Raw(payload))


def ether(packet, kind=None, tags=()):
    """A frame around a packet."""
    if kind is None:
        kind = 0x86DD if packet[0] >> 4 == 6 else 0x0800
    tagged = b"".join(struct.pack("!HH", 0x8100, tag) for tag in tags)
    return bytes.fromhex("02000000000a02000000000b") + tagged + struct.pack("!H", kind) + packet


def outer(step, proto, payload, v6=False):
    """An IP packet of the tunnel's ends around a payload."""
    from scapy.all import IP, IPv6, Raw

    hosts = ["2001:db8::a", "2001:db8::b"] if v6 else ["10.9.0.1", "10.9.0.2"]
    src, dst = hosts if step % 2 == 0 else hosts[::-1]
    layer = IPv6(src=src, dst=dst, nh=proto) if v6 else IP(src=src, dst=dst, proto=proto)
    return bytes(layer / Raw(payload))


def datagram(step, port, payload, v6=False, sport=None):
    """A datagram to a port of the tunnel's ends."""
    udp = struct.pack("!HHHH", sport or 50000 + step, port, 8 + len(payload), 0)
    return ether(outer(step, 17, udp + payload, v6))


def labels(*numbers):
    """A stack of MPLS labels."""
    last = len(numbers) - 1
    return b"".join(
        struct.pack("!I", label << 12 | (at == last) << 8 | 64) for at, label in enumerate(numbers)
    )


def gre_frames():
    for number, v6 in enumerate([False, True, False, True]):
        for step, packet in flow(number, v6):
            flags = [0, 0x2000, 0xB000, 0x1000][number]
            fields = b"\0\0\0\1" * bin(flags >> 12).count("1")
            kind = 0x86DD if v6 else 0x0800
            yield ether(
                outer(step, 47, struct.pack("!HH", flags, kind) + fields + packet, number == 3)
            )
    for step, packet in flow(4):
        bridged = struct.pack("!HHI", 0x2000, 0x6558, 7) + ether(packet, tags=[5])
        yield ether(outer(step, 47, bridged))
    for step, packet in flow(5):
        ppp = [b"\xff\x03\x00\x21", b"\x00\x21", b"\x21", b"\xff\x03\x21"][step] + packet
        head = struct.pack("!HHHHI", 0x3001, 0x880B, len(ppp), 9, step)
        yield ether(outer(step, 47, head + ppp))
    acknowledged = struct.pack("!HHHHI", 0x2081, 0x880B, 0, 9, 3)
    yield ether(outer(0, 47, acknowledged))
    yield ether(outer(0, 47, struct.pack("!HH", 0, 0x0000)))  # A keep-alive carries nothing.


def gtp_frames():
    for number in range(4):
        for step, packet in flow(number, number > 1):
            flags, more = [(0x30, b""), (0x32, b"\0\1\0\0"), (0x34, b"\0\0\0\x85\1\x10\x09\0"),
                           (0x36, b"\0\1\0\x40\1\x08\x68\x85\1\0\x09\0")][number]
            head = struct.pack("!BBHI", flags, 255, len(more) + len(packet), 77)
            yield datagram(step, 2152, head + more + packet, sport=2152)
    yield datagram(0, 2152, struct.pack("!BBHI", 0x32, 1, 4, 0) + b"\0\1\0\0")  # An echo request.


def mpls_frames():
    for number, v6 in enumerate([False, True, False]):
        for step, packet in flow(number, v6):
            kind = 0x8848 if number == 2 else 0x8847
            yield ether(labels(*[16000 + at for at in range(number + 1)]) + packet, kind)
    for step, packet in flow(3):
        yield ether(labels(17, 18) + b"\0\0\0\0" + ether(packet, tags=[9]), 0x8847)
    for step, packet in flow(4, True):
        yield ether(labels(2) + packet, 0x8847, tags=[100])


def pppoe_frames():
    for number, v6 in enumerate([False, True]):
        for step, packet in flow(number, v6):
            ppp = (b"\x00\x57" if v6 else b"\x00\x21") + packet
            yield ether(struct.pack("!HHH", 0x1100, 3, len(ppp)) + ppp, 0x8864, [7] if v6 else [])
    lcp = b"\xc0\x21\x09\x01\x00\x08\x00\x00\x00\x00"
    yield ether(struct.pack("!HHH", 0x1100, 3, len(lcp)) + lcp, 0x8864)


def ip_frames():
    for number, (v6, around) in enumerate(
        [(False, False), (True, False), (False, True), (True, True)]
    ):
        for step, packet in flow(number, v6):
            yield ether(outer(step, 41 if v6 else 4, packet, around))


def other_frames():
    for step, packet in flow(0, True):
        origin = b"\0\0\x12\x34\x01\x02\x03\x04"
        authentication = b"\0\1\0\0" + bytes(9)
        head = [b"", origin, authentication, authentication + origin][step]
        ports = (3544, 51000) if step % 2 == 0 else (51000, 3544)
        yield datagram(step, ports[0], head + packet, sport=ports[1])
    for step, packet in flow(1):
        yield datagram(step, 4790, b"\x0c\0\0\1\0\0\7\0" + packet)
    for step, packet in flow(2, True):
        yield datagram(step, 6635, labels(30, 31) + packet, v6=True)
    # A policy group beside the network, and one tunnel in another.
    for step, packet in flow(3):
        yield datagram(step, 4789, b"\x88\0\0\5\0\0\7\0" + ether(packet))
    for step, packet in flow(4, True):
        geneve = b"\x02\0\x65\x58\0\0\x07\0" + b"\x01\x02\x80\1\0\0\0\0" + ether(packet)
        inner = datagram(step, 6081, geneve)
        gre = struct.pack("!HH", 0, 0x6558) + inner
        yield ether(outer(step, 47, gre, True))


def make():
    """Writes the captures."""
    from scapy.all import wrpcap

    made = {
        "gre": gre_frames, "gtp": gtp_frames, "mpls": mpls_frames, "pppoe": pppoe_frames,
        "ip-in-ip": ip_frames, "others": other_frames,
    }
    for name, frames in made.items():
        packets = list(frames())
        # Frames of the link type Ethernet, which bytes alone do not say.
        wrpcap(str(FOLDER / f"made-{name}.pcap"), packets, linktype=1)


def shown(layer, name):
    """A field of a dissected layer."""
    return next(field.get("show") for field in layer.iter("field") if field.get("name") == name)


def innermost(packet):
    """The key of a packet, as the dissector's layers say, or dashes."""
    hosts, proto, ports = None, 0, (0, 0)
    for layer in packet.iter("proto"):
        name = layer.get("name")
        if name in ("ip", "ipv6"):
            hosts = (shown(layer, f"{name}.src"), shown(layer, f"{name}.dst"))
            proto, ports = int(shown(layer, "ip.proto" if name == "ip" else "ipv6.nxt")), (0, 0)
        elif hosts and name in NUMBERS:
            proto = NUMBERS[name]
            if name in ("tcp", "udp", "sctp", "dccp"):
                ports = (shown(layer, f"{name}.srcport"), shown(layer, f"{name}.dstport"))
            # What an error quotes is no packet.
            if name in ("tcp", "icmp", "icmpv6"):
                break
        elif hosts and name == "ah":
            proto = int(shown(layer, "ah.next_header"))
    return ",".join(map(str, (*hosts, proto, *ports))) if hosts else "-,-,-,-,-"


def keys():
    """Writes what the dissector says."""
    for capture in sorted(FOLDER.glob("*.pcap")):
        command = ["tshark", "-r", str(capture), "-T", "pdml", "-d", "udp.port==8472,vxlan"]
        # What only the routers know: this label is an Ethernet pseudowire's.
        command += ["-d", "mpls.label==18,pwethcw"]
        command += ["-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE"]
        told = subprocess.run(command, check=True, capture_output=True).stdout
        rows = [innermost(packet) for packet in ElementTree.fromstring(told).iter("packet")]
        lines = [f"{number},{row}" for number, row in enumerate(rows, 1)]
        text = "\n".join(["frame,src,dst,proto,src_port,dst_port", *lines])
        capture.with_suffix(".keys.csv").write_text(text + "\n")


if __name__ == "__main__":
    {"make": make, "keys": keys}[sys.argv[1]]()
