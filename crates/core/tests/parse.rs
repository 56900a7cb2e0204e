//! The parser against another one, against any bytes, and against packets with known answers.
#![allow(clippy::unwrap_used)]

mod common;

use common::entry::fuzz_parse;
use common::frames::{
    Frame, IPV4, IPV6, LINKS, Rng, Tcp, ether, extensions, framed, icmp, ipv4, ipv4_with,
    ipv6_with, known_links, mutate, random_frame, udp,
};
use common::words::{column_values, packet_words};
use etherparse::{
    Icmpv4Slice, LinkSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{Header, KeyRules, Parsed, Reject, Tunnels, parse};
use std::net::IpAddr;

/// What the other parser does: it looks into no tunnel, and tells VLANs apart.
const OUTER: KeyRules = KeyRules { vlan_in_key: true, tunnels: Tunnels::Outer };
const ALL: [Header; 5] = [Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp, Header::Icmp];

/// Protocols whose header begins with ports and is otherwise none that features know: number,
/// bytes.
const PORTS_ALONE: [(u8, usize); 3] = [(132, 12), (33, 12), (136, 8)];

/// What two parsers can agree on.
#[derive(Debug, PartialEq)]
struct Facts {
    hosts: (IpAddr, IpAddr),
    proto: u8,
    ports: (u16, u16),
    network_len: usize,
    transport_len: usize,
    flags: u8,
    seq: u32,
    payload: usize,
}

fn our_facts(frame: &Frame, parsed: &Parsed) -> Facts {
    let flow = parsed.key.five_tuple(parsed.sender_is_low);
    let network = parsed.network;
    assert!(network.range().end <= frame.data.len());
    Facts {
        hosts: (flow.src, flow.dst),
        proto: flow.proto,
        ports: (flow.src_port, flow.dst_port),
        network_len: network.range().len(),
        transport_len: parsed.transport.map_or(0, |section| section.range().len()),
        flags: parsed.tcp_flags,
        seq: parsed.tcp_seq,
        payload: usize::from(parsed.payload),
    }
}

/// The frame as etherparse sees it; `None` where it refuses, or knows no such link.
fn sliced<'a>(frame: &'a Frame, ip_at: usize) -> Option<SlicedPacket<'a>> {
    match frame.link {
        LinkType::Ethernet => SlicedPacket::from_ethernet(&frame.data).ok(),
        LinkType::LinuxSll => SlicedPacket::from_linux_sll(&frame.data).ok(),
        LinkType::RawIp => SlicedPacket::from_ip(&frame.data).ok(),
        _ => SlicedPacket::from_ip(frame.data.get(ip_at..)?).ok(),
    }
}

fn their_facts(packet: &SlicedPacket<'_>) -> Option<Facts> {
    let (hosts, network_len, body) = match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            let hosts = (header.source_addr().into(), header.destination_addr().into());
            (hosts, usize::from(header.ihl()) * 4, ip.payload())
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            let hosts = (header.source_addr().into(), header.destination_addr().into());
            (hosts, 40, ip.payload())
        }
        NetSlice::Arp(_) => return None,
    };
    let mut facts = Facts {
        hosts,
        proto: body.ip_number.0,
        ports: (0, 0),
        network_len,
        transport_len: 0,
        flags: 0,
        seq: 0,
        payload: body.payload.len(),
    };
    // The other parser leaves the ports of a first fragment unread, unless asked.
    let transport = match packet.transport.clone() {
        None if body.fragmented => first_fragment(body.ip_number.0, body.payload)?,
        transport => transport,
    };
    match transport {
        Some(TransportSlice::Tcp(tcp)) => {
            facts.ports = (tcp.source_port(), tcp.destination_port());
            facts.transport_len = usize::from(tcp.data_offset()) * 4;
            facts.flags = tcp.slice()[13];
            facts.seq = tcp.sequence_number();
        }
        Some(TransportSlice::Udp(udp)) => {
            facts.ports = (udp.source_port(), udp.destination_port());
            facts.transport_len = 8;
        }
        // Theirs vary in length by type; ours is the first eight bytes.
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => facts.transport_len = 8,
        Some(TransportSlice::Igmp(_)) | None => {}
    }
    // The other parser knows nothing of these, but that they have a number.
    let mut unknown_len = 0;
    if let Some(&(_, len)) = PORTS_ALONE.iter().find(|known| known.0 == facts.proto) {
        let word = |at: usize| u16::from_be_bytes([body.payload[at], body.payload[at + 1]]);
        unknown_len = len;
        body.payload.get(..len)?;
        facts.ports = (word(0), word(2));
    }
    facts.payload = facts.payload.saturating_sub(facts.transport_len + unknown_len);
    Some(facts)
}

/// The transport header of a first fragment; the outer `None` where it is refused.
fn first_fragment(proto: u8, payload: &[u8]) -> Option<Option<TransportSlice<'_>>> {
    Some(match proto {
        6 => Some(TransportSlice::Tcp(TcpSlice::from_slice(payload).ok()?)),
        17 => Some(TransportSlice::Udp(UdpSlice::from_slice_lax(payload).ok()?)),
        1 | 58 if payload.len() >= 8 => {
            Some(TransportSlice::Icmpv4(Icmpv4Slice::from_slice(payload).ok()?))
        }
        1 | 58 => return None,
        _ => None,
    })
}

/// Compares one frame; `None` when one of the parsers refuses it.
fn compare(frame: &Frame) -> Option<()> {
    let Ok(parsed) = parse(&frame.packet(), OUTER) else { return None };
    let layout = HeaderLayout::new(&ALL);
    column_values(&layout, &packet_words(&layout, &frame.data, &parsed));
    let theirs = sliced(frame, parsed.network.range().start)?;
    let facts = their_facts(&theirs)?;
    // The other parser knows frames as long as what was captured, and nothing of offload.
    let whole = frame.orig_len as usize <= frame.data.len();
    let ours = our_facts(frame, &parsed);
    // It does not step over shim6, and takes padding for the payload of an IPv6 packet without one.
    let (network, data) = (parsed.network, &frame.data);
    let is_empty = network.header == Header::Ipv6 && data[network.range()][4..6] == [0, 0];
    let apart = facts.proto == 140 || is_empty;
    if !whole || apart || ours.network_len < facts.network_len {
        return None;
    }
    assert_eq!(ours, facts, "{frame:02x?}");
    let vlan = parsed.key.five_tuple(true).vlan;
    if let Some(LinkSlice::Ethernet2(_)) = theirs.link {
        // VLAN 0 is a priority, and no VLAN.
        let outer = theirs.vlan_ids().iter().map(|id| id.value()).find(|&id| id != 0);
        assert_eq!(vlan, outer, "{frame:02x?}");
    }
    Some(())
}

#[test]
fn well_formed_frames_read_as_another_parser_reads_them() {
    let mut rng = Rng(1);
    let mut agreed = 0;
    for _ in 0..30_000 {
        agreed += u32::from(compare(&random_frame(&mut rng)).is_some());
    }
    assert!(agreed > 20_000, "only {agreed} frames were read by both");
}

#[test]
fn spoilt_frames_read_as_another_parser_reads_them_or_are_refused() {
    let mut rng = Rng(2);
    let mut agreed = 0;
    for _ in 0..150_000 {
        let mut frame = random_frame(&mut rng);
        mutate(&mut rng, &mut frame);
        agreed += u32::from(compare(&frame).is_some());
    }
    assert!(agreed > 30_000, "only {agreed} frames were read by both");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_parse_or_are_refused(
        link in 0..LINKS.len(),
        orig_len in any::<u32>(),
        short in any::<bool>(),
        head in 0_usize..5,
        inner in any::<bool>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..160),
    ) {
        let link = LINKS[link];
        // Heads that lead deeper than random bytes would.
        let (v4, v6) = (ipv4(1, 2, 6, &[]), ipv6_with(1, 2, 0, &[], &[]));
        let heads = [vec![], framed(link, &v4), framed(link, &v6), v4, v6];
        let data = [heads[head].clone(), bytes.clone()].concat();
        let orig_len = if short { orig_len % 200 } else { orig_len };
        let packet = Packet { ts_ns: 0, orig_len, link, data: &data };
        let rules = OUTER.with_tunnels(Tunnels::ALL[usize::from(inner)]);
        let found = parse(&packet, rules);
        let is_unsupported = found == Err(Reject::UnsupportedLink);
        prop_assert!(is_unsupported == packet.unsupported_link().is_some());
        if let Ok(parsed) = found {
            let layout = HeaderLayout::new(&ALL);
            column_values(&layout, &packet_words(&layout, &data, &parsed));
            prop_assert!(parsed.payload <= parsed.size);
            let flow = parsed.key.five_tuple(parsed.sender_is_low);
            prop_assert!(flow.key() == (parsed.key, parsed.sender_is_low));
        }
        fuzz_parse(&data);
    }
}

fn parsed(frame: &Frame) -> Parsed {
    parse(&frame.packet(), OUTER).unwrap()
}

#[test]
fn every_link_type_leads_to_the_same_packet() {
    let mut rng = Rng(3);
    for _ in 0..200 {
        let segment = Tcp { src: 5, dst: 6, seq: 7, flags: 2, ..Tcp::default() }.bytes(&[1; 9]);
        let v4 = ipv4(0x0a00_0001, 0x0a00_0002, 6, &segment);
        let v6 = ipv6_with(1, 2, 6, &extensions(&mut rng), &segment);
        for packet in [v4, v6] {
            let plain = parsed(&Frame::new(0, LinkType::RawIp, packet.clone()));
            for link in known_links() {
                let frame = Frame::new(0, *link, framed(*link, &packet));
                let other = parsed(&frame);
                assert_eq!((other.key, other.tcp_seq), (plain.key, 7));
                assert_eq!((other.size, other.payload), (plain.size, 9));
                let layout = HeaderLayout::new(&ALL);
                assert_eq!(
                    packet_words(&layout, &frame.data, &other),
                    packet_words(&layout, &packet, &plain),
                );
            }
        }
    }
}

#[test]
fn tags_are_stepped_over_and_the_outer_one_counts() {
    let packet = ipv4(1, 2, 17, &udp(3, 4, &[]));
    let none = Frame::new(0, LinkType::Ethernet, ether(&[], IPV4, &packet));
    for (tags, outer) in [
        (vec![(0x8100, 0x6005)], 5),
        (vec![(0x88a8, 0x0064), (0x8100, 0x00c8)], 100),
        (vec![(0x9100, 7), (0x8100, 8), (0x8100, 9)], 7),
    ] {
        let frame = Frame::new(0, LinkType::Ethernet, ether(&tags, IPV4, &packet));
        assert_eq!(parsed(&frame).key.five_tuple(true).vlan, Some(outer));
        let blind = parse(&frame.packet(), KeyRules { vlan_in_key: false, ..OUTER }).unwrap();
        assert_eq!(blind.key, parsed(&none).key);
    }
    let many = vec![(0x8100, 1); 5];
    let frame = Frame::new(0, LinkType::Ethernet, ether(&many, IPV4, &packet));
    assert_eq!(parse(&frame.packet(), OUTER), Err(Reject::TooManyHeaders));
}

#[test]
fn what_belongs_to_no_flow_is_refused_for_its_reason() {
    let datagram = udp(3, 4, &[0; 4]);
    let raw = |data: &[u8]| Frame::new(0, LinkType::RawIp, data.to_vec());
    let eth = |kind, data: &[u8]| Frame::new(0, LinkType::Ethernet, ether(&[], kind, data));
    let whole = ipv4(1, 2, 17, &datagram);
    let later = ipv4_with(1, 2, 17, &[], 0x2001, &datagram);
    let first = ipv4_with(1, 2, 17, &[], 0x2000, &datagram);
    let later6 = ipv6_with(1, 2, 17, &[(44, vec![0, 0, 8, 0, 0, 0, 1])], &datagram);
    let cut = |mut frame: Frame, len: usize| {
        frame.data.truncate(len);
        frame
    };
    let mut short_header = whole.clone();
    short_header[0] = 0x44;
    let mut offset = ipv4(1, 2, 6, &Tcp::default().bytes(&[]));
    offset[32] = 0x40;
    let many: Vec<(u8, Vec<u8>)> = vec![(60, vec![0; 7]); 20];
    for (frame, reason) in [
        (Frame::new(0, LinkType::Unsupported(147), whole.clone()), Reject::UnsupportedLink),
        (cut(eth(IPV4, &whole), 13), Reject::TruncatedLink),
        (eth(0x0806, &[0; 28]), Reject::NotIp),
        (eth(IPV6, &whole), Reject::BadIpVersion),
        (raw(&[0x50; 40]), Reject::BadIpVersion),
        (cut(raw(&whole), 19), Reject::TruncatedNetwork),
        (raw(&short_header), Reject::BadIpLength),
        (raw(&ipv6_with(1, 2, 17, &many, &datagram)), Reject::TooManyHeaders),
        (raw(&later), Reject::LaterFragment),
        (raw(&later6), Reject::LaterFragment),
        (cut(raw(&whole), 23), Reject::TruncatedTransport),
        (raw(&ipv4(1, 2, 17, &datagram[..7])), Reject::BadTransport),
        (raw(&offset), Reject::BadTransport),
    ] {
        assert_eq!(parse(&frame.packet(), OUTER), Err(reason), "{frame:02x?}");
    }
    assert!(parse(&raw(&first).packet(), OUTER).is_ok(), "a first fragment has its ports");
    assert!(parse(&cut(raw(&whole), 24).packet(), OUTER).is_ok(), "the ports are enough");
}

/// ICMP needs no ports, so its header may lie behind the captured bytes altogether.
#[test]
fn an_icmp_header_behind_the_capture_is_absent() {
    let v4 = ipv4_with(1, 2, 1, &[1; 40], 0, &icmp(8, &[0; 8]));
    let padding = vec![(0, vec![0; 7]), (60, [vec![1], vec![0; 14]].concat())];
    let v6 = ipv6_with(1, 2, 58, &padding, &icmp(128, &[0; 8]));
    for (packet, captured) in [(v4, 20), (v6, 50)] {
        let mut frame = Frame::new(0, LinkType::RawIp, packet);
        frame.data.truncate(captured);
        let parsed = parsed(&frame);
        assert_eq!(parsed.transport, None);
        let layout = HeaderLayout::new(&ALL);
        let words = packet_words(&layout, &frame.data, &parsed);
        let present: u32 = words[layout.value_words()..].iter().map(|word| word.count_ones()).sum();
        assert_eq!(present as usize, parsed.network.range().len() / 4, "the IP words alone");
    }
}

/// A word that the capture cut is absent, and so is padding; the length on the wire still counts.
#[test]
fn a_cut_header_shows_the_words_that_were_captured() {
    let segment = Tcp { src: 1, dst: 2, options: vec![1; 12], ..Tcp::default() }.bytes(&[5; 100]);
    let whole = Frame::new(0, LinkType::RawIp, ipv4(1, 2, 6, &segment));
    let layout = HeaderLayout::default();
    for captured in 24..=whole.data.len() {
        let mut frame = whole.clone();
        frame.data.truncate(captured);
        let parsed = parsed(&frame);
        let words = packet_words(&layout, &frame.data, &parsed);
        let tcp = layout.first_word(Header::Tcp).unwrap();
        let present = (tcp..tcp + 15).filter(|&word| {
            let (at, bit) = layout.presence(word);
            words[at] >> bit & 1 == 1
        });
        assert_eq!(present.count(), ((captured - 20) / 4).min(8), "{captured} bytes");
        let full = captured >= 34;
        assert_eq!(parsed.size, 152);
        assert_eq!(parsed.payload, if full { 100 } else { 112 }, "{captured} bytes");
    }
}
