//! Tunnels: captures against what another dissector says, and frames in random stacks of tunnels
//! against the plain ones.
#![allow(clippy::unwrap_used)]

mod common;

use common::captures::frames;
use common::drive::{Drive, Told};
use common::entry::fuzz_parse;
use common::frames::{Frame, Rng, framed, ipv4, ipv4_with, ipv6_with, mutate, random_frame, udp};
use common::models::{cascade, inline_lanes, stage};
use common::traffic::{MS, Shape, traffic};
use common::tunnels::{Step, Wrapped, ip_of, stack, wrap};
use common::words::packet_words;
use serveflow_core::FlowConfig;
use serveflow_core::engine::{End, EngineConfig};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{Header, KeyRules, Parsed, Reject, Tunnels, parse};
use serveflow_core::shard::Sharder;
use std::path::{Path, PathBuf};

const ALL: [Header; 5] = [Header::Ipv4, Header::Ipv6, Header::Tcp, Header::Udp, Header::Icmp];
const INNER: KeyRules = KeyRules { vlan_in_key: true, tunnels: Tunnels::Inner };
const OUTER: KeyRules = KeyRules { vlan_in_key: true, tunnels: Tunnels::Outer };

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tunnels");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut captures: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "pcap")).collect();
    captures.sort();
    captures
}

/// The key of a frame as the expectations have it.
fn spelled(frame: &Frame, rules: KeyRules) -> String {
    let Ok(parsed) = parse(&frame.packet(), rules) else { return "-,-,-,-,-".to_owned() };
    let flow = parsed.key.five_tuple(parsed.sender_is_low);
    format!("{},{},{},{},{}", flow.src, flow.dst, flow.proto, flow.src_port, flow.dst_port)
}

#[test]
fn captures_have_the_keys_that_another_dissector_tells() {
    let (mut captures, mut compared, mut inside) = (0, 0, 0);
    for path in fixtures() {
        captures += 1;
        let told = std::fs::read_to_string(path.with_extension("keys.csv")).unwrap();
        let frames = frames(std::fs::read(&path).unwrap());
        let lines: Vec<&str> = told.lines().skip(1).collect();
        assert_eq!(frames.len(), lines.len(), "{}", path.display());
        for (number, (frame, line)) in frames.iter().zip(lines).enumerate() {
            let ours = format!("{},{}", number + 1, spelled(frame, INNER));
            assert_eq!(ours, line, "{}", path.display());
            compared += 1;
            inside += u32::from(spelled(frame, INNER) != spelled(frame, OUTER));
        }
    }
    assert_eq!((captures, compared, inside), (16, 363, 161), "no fixture was lost");
}

/// What of a packet its flow and its features are made of.
#[derive(Debug, PartialEq)]
struct Facts {
    key: String,
    sender_is_low: bool,
    words: Vec<u32>,
    sizes: [u16; 2],
    tcp: (u8, u32),
    lengths: [usize; 2],
}

fn facts(frame: &Frame, rules: KeyRules) -> Result<Facts, Reject> {
    let parsed: Parsed = parse(&frame.packet(), rules)?;
    let layout = HeaderLayout::new(&ALL);
    Ok(Facts {
        key: format!("{:?}", parsed.key),
        sender_is_low: parsed.sender_is_low,
        words: packet_words(&layout, &frame.data, &parsed),
        sizes: [parsed.size, parsed.payload],
        tcp: (parsed.tcp_flags, parsed.tcp_seq),
        lengths: [
            parsed.network.range().len(),
            parsed.transport.map_or(0, |section| section.range().len()),
        ],
    })
}

/// A plain frame without padding, its IP packet, and that in a stack of tunnels.
fn plain_and_wrapped(rng: &mut Rng) -> (Frame, Wrapped) {
    loop {
        let frame = random_frame(rng);
        let Some(packet) = ip_of(&frame) else { continue };
        let plain = Frame::new(frame.ts_ns, LinkType::RawIp, packet.clone());
        // Random packets that are tunnels themselves are no plain ones.
        if facts(&plain, INNER) != facts(&plain, OUTER) {
            continue;
        }
        let steps = stack(rng);
        return (plain, wrap(&packet, &steps, rng));
    }
}

#[test]
fn a_frame_in_any_stack_of_tunnels_is_the_plain_one() {
    let mut rng = Rng(21);
    let mut parsed = 0;
    for _ in 0..60_000 {
        let (plain, wrapped) = plain_and_wrapped(&mut rng);
        let expected = facts(&plain, INNER);
        assert_eq!(facts(&wrapped.frame, INNER), expected, "{:?}", wrapped.steps);
        parsed += u32::from(expected.is_ok());
    }
    assert!(parsed > 40_000, "only {parsed} frames have a flow");
}

#[test]
fn a_frame_that_was_cut_behind_the_tunnels_is_refused_or_read_as_the_plain_one() {
    let mut rng = Rng(22);
    let (mut refused, mut read) = (0, 0);
    for _ in 0..60_000 {
        let (mut plain, mut wrapped) = plain_and_wrapped(&mut rng);
        if wrapped.is_guessed {
            continue; // A pseudowire and Teredo are told by what they carry.
        }
        let keep = rng.below(plain.data.len() as u64 + 1) as usize;
        plain.data.truncate(keep);
        wrapped.frame.data.truncate(wrapped.at + keep);
        let expected = facts(&plain, INNER);
        assert_eq!(facts(&wrapped.frame, INNER), expected, "{:?} {keep}", wrapped.steps);
        *(if expected.is_ok() { &mut read } else { &mut refused }) += 1;
    }
    assert!(read > 5_000 && refused > 5_000, "{read} {refused}");
}

/// Where the cut is earlier, a frame may be a plain one of its outer flow, but never another inner
/// one.
#[test]
fn a_cut_anywhere_gives_the_inner_flow_an_outer_one_or_none() {
    let mut rng = Rng(23);
    for _ in 0..4_000 {
        let (_, wrapped) = plain_and_wrapped(&mut rng);
        let whole = facts(&wrapped.frame, INNER).map(|facts| facts.key);
        for keep in 0..wrapped.frame.data.len() {
            let mut frame = wrapped.frame.clone();
            frame.data.truncate(keep);
            let Ok(parsed) = parse(&frame.packet(), INNER) else { continue };
            let key = format!("{:?}", parsed.key);
            let is_inner = whole.as_ref().is_ok_and(|whole| *whole == key);
            assert!(is_inner || parsed.network.range().start < wrapped.at, "{:?}", wrapped.steps);
        }
    }
}

#[test]
fn both_directions_of_wrapped_flows_fall_into_one_shard() {
    let mut rng = Rng(24);
    let mut used = [0_u32; 5];
    for seed in 0..20 {
        let mut of_flow = std::collections::HashMap::new();
        for frame in traffic(&Shape::new(seed, 60, &[100 * MS])) {
            let Some(packet) = ip_of(&frame) else { continue };
            let sharder = Sharder::new(5, INNER, seed);
            let plain = sharder.shard(&frame.packet()).unwrap();
            let steps = stack(&mut rng);
            let wrapped = wrap(&packet, &steps, &mut rng);
            assert_eq!(sharder.shard(&wrapped.frame.packet()), Some(plain), "{steps:?}");
            let key = parse(&wrapped.frame.packet(), INNER).unwrap().key;
            assert_eq!(*of_flow.entry(key).or_insert(plain), plain);
            used[plain] += 1;
        }
    }
    assert!(used.iter().all(|&count| count > 500), "{used:?}");
}

/// With the outer packet, only what stands above IP is stepped over, as VLAN tags always were.
#[test]
fn the_outer_packet_is_that_of_the_tunnels_ends() {
    let mut rng = Rng(25);
    for _ in 0..20_000 {
        let (_, wrapped) = plain_and_wrapped(&mut rng);
        let is_tunnel = wrapped.steps.iter().any(|step| step.is_above_ip());
        let outer = parse(&wrapped.frame.packet(), OUTER);
        if is_tunnel {
            let flow = outer.unwrap().key.five_tuple(true);
            let expected = wrapped.steps.iter().rev().find_map(Step::proto).unwrap();
            let is_ip = (4, 41) == (expected, flow.proto);
            assert!(flow.proto == expected || is_ip, "{:?}", wrapped.steps);
        } else {
            assert_eq!(outer, parse(&wrapped.frame.packet(), INNER));
        }
    }
}

#[test]
fn damage_never_panics_and_every_packet_is_counted_once() {
    let mut rng = Rng(26);
    let mut all: Vec<Frame> =
        fixtures().iter().flat_map(|path| frames(std::fs::read(path).unwrap())).collect();
    for _ in 0..2_000 {
        all.push(plain_and_wrapped(&mut rng).1.frame);
    }
    let sound = all.clone();
    for round in 0..30 {
        for (at, frame) in all.iter_mut().enumerate() {
            *frame = sound[at].clone();
            mutate(&mut rng, frame);
            fuzz_parse(&[&[round, round * 8], frame.data.as_slice()].concat());
        }
        let tunnels = Tunnels::ALL[usize::from(round % 2)];
        let run = served(&all, KeyRules { tunnels, ..INNER });
        assert_eq!(run.1, all.len() as u64);
    }
}

/// Verdicts of frames under these rules, and packets counted.
fn served(frames: &[Frame], key: KeyRules) -> (Vec<Told>, u64) {
    let cascade = cascade(&[stage(1, 0, 0.3), stage(4, 300 * MS, 1.0)]);
    let flows = FlowConfig { key, ..FlowConfig::default() };
    let config = EngineConfig { flows, ..EngineConfig::default() };
    let lanes = inline_lanes(&cascade);
    let run = Drive { config, lanes, batch: 50, seed: 1, end: End::Silence };
    let run = run.run(&cascade, frames);
    (run.told(), run.accounts.packets.seen)
}

#[test]
fn verdicts_of_wrapped_traffic_are_those_of_the_plain_one() {
    let mut rng = Rng(27);
    for seed in 0..20 {
        let plain: Vec<Frame> = traffic(&Shape::new(seed, 80, &[1_000 * MS]));
        let wrap = |frame: &Frame| match ip_of(frame) {
            None => frame.clone(),
            Some(packet) => {
                let steps = stack(&mut rng);
                Frame { ts_ns: frame.ts_ns, ..wrap(&packet, &steps, &mut rng).frame }
            }
        };
        let wrapped: Vec<Frame> = plain.iter().map(wrap).collect();
        assert_eq!(served(&wrapped, INNER), served(&plain, OUTER), "seed {seed}");
    }
}

fn raw(packet: &[u8]) -> Frame {
    Frame::new(0, LinkType::RawIp, packet.to_vec())
}

/// A port alone makes no tunnel: what is no inner packet is a datagram as any other.
#[test]
fn datagrams_to_the_ports_of_tunnels_are_plain_ones_unless_they_carry_a_packet() {
    const PORTS: [u16; 7] = [4789, 8472, 4790, 6081, 2152, 3544, 6635];
    let mut rng = Rng(28);
    for _ in 0..100_000 {
        let port = rng.pick(&PORTS);
        let len = rng.below(90) as usize;
        let mut payload = rng.bytes(len);
        if rng.one_in(2) {
            // The beginning of a tunnel's header, and noise behind it.
            let heads: [&[u8]; 5] =
                [&[8, 0, 0, 0], &[0x0c, 0, 0, 3], &[0, 0, 0x65, 0x58], &[0x30, 255], &[1, 2, 0x31]];
            let head = rng.pick(&heads);
            payload.splice(..head.len().min(len), head.iter().copied());
        }
        let datagram = udp(50_000, port, &payload);
        let mut frame = raw(&ipv4(1, 2, 17, &datagram));
        if rng.one_in(2) {
            frame = Frame::new(0, LinkType::Ethernet, framed(LinkType::Ethernet, &frame.data));
        }
        let plain = parse(&frame.packet(), OUTER).unwrap();
        match parse(&frame.packet(), INNER) {
            Ok(parsed) => assert!(parsed == plain || parsed.network.offset > plain.network.offset),
            // Noise may be an inner packet by chance, and then it is judged as one.
            Err(reject) => assert!(
                matches!(reject, Reject::LaterFragment | Reject::BadTransport),
                "{reject:?} {frame:02x?}"
            ),
        }
    }
}

#[test]
fn datagrams_that_contradict_their_tunnel_stand_for_themselves() {
    let inner = ipv4(0x0101_0101, 0x0202_0202, 17, &udp(5, 6, &[7; 9]));
    let ethernet = framed(LinkType::Ethernet, &inner);
    let (vxlan, geneve, gtp) = (
        [8, 0, 0, 0, 0, 0, 7, 0],
        [0, 0, 0x65, 0x58, 0, 0, 7, 0],
        [0x30, 255, 0, inner.len() as u8, 0, 0, 0, 7],
    );
    let key = |port, head: &[u8], data: &[u8]| {
        let datagram = udp(50_000, port, &[head, data].concat());
        parse(&raw(&ipv4(1, 2, 17, &datagram)).packet(), INNER).unwrap().key.five_tuple(true)
    };
    for (port, head, data) in
        [(4789, vxlan, &ethernet), (6081, geneve, &ethernet), (2152, gtp, &inner)]
    {
        assert_eq!(key(port, &head, data).src_port, 5, "port {port}");
        // Each flag that is not as it should be.
        let spoilt: &[(usize, u8)] = match port {
            4789 => &[(0, 8)],
            6081 => &[(0, 0x40), (0, 0x3f), (1, 0x80), (2, 0xff)],
            _ => &[(0, 0x20), (0, 0x10), (1, 1), (2, 1)],
        };
        for &(at, bits) in spoilt {
            let mut head = head;
            head[at] ^= bits;
            assert_eq!(key(port, &head, data).src_port, 50_000, "port {port}: {head:02x?}");
        }
        // A length that does not fit, a version that is none, a tunnel to another port.
        let ip_at = data.len() - inner.len();
        for (at, byte) in [(ip_at + 3, 0xff), (ip_at, 0x55), (ip_at, 0x42)] {
            let mut data = data.clone();
            data[at] = byte;
            assert_eq!(key(port, &head, &data).src_port, 50_000, "port {port}");
        }
        assert_eq!(key(port + 10, &head, data).src_port, 50_000);
    }
}

/// Tunnels by a datagram's port or by a protocol, with the inner packet behind a header; and of
/// that the bits which mean nothing here.
fn headers(v6: bool, len: usize) -> Vec<(u16, Vec<u8>, Vec<u8>, bool)> {
    let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
    let len = (len as u16).to_be_bytes();
    let any = 0xff;
    vec![
        (4789, vec![8, 0, 0, 0, 0, 0, 7, 0], vec![0xf7, any, any, any, any, any, any, any], true),
        (8472, vec![8, 0, 0, 0, 0, 0, 7, 0], vec![0xf7, any, any, any, any, any, any, any], true),
        (4790, vec![0x0c, 0, 0, 3, 0, 0, 7, 0], vec![0xca, any, any, 0, any, any, any, any], true),
        (6081, vec![0, 0, 0x65, 0x58, 0, 0, 7, 0], vec![0, 0x7f, 0, 0, any, any, any, any], true),
        (
            2152,
            vec![0x30, 255, len[0], len[1], 0, 0, 0, 7],
            vec![8, 0, 0, 0, any, any, any, any],
            false,
        ),
        (47, vec![0, 0, kind[0], kind[1]], vec![3, 0xf8, 0, 0], false),
        (47, vec![0x20, 0, 0x65, 0x58, 0, 0, 0, 7], vec![3, 0xf8, 0, 0, any, any, any, any], true),
        (if v6 { 41 } else { 4 }, vec![], vec![], false),
    ]
}

/// What the outer packet carries: its protocol, and the bytes.
fn carried(port: u16, head: &[u8], ip: &[u8], is_bridged: bool) -> (u8, Vec<u8>) {
    let inner = if is_bridged { framed(LinkType::Ethernet, ip) } else { ip.to_vec() };
    let data = [head, &inner].concat();
    if port < 256 { (port as u8, data) } else { (17, udp(50_000, port, &data)) }
}

#[test]
fn reserved_bits_never_change_the_key() {
    let mut rng = Rng(29);
    for round in 0..3_000 {
        let v6 = round % 2 == 0;
        let payload = udp(5, 6, &[7; 9]);
        let ip = if v6 { ipv6_with(3, 4, 17, &[], &payload) } else { ipv4(3, 4, 17, &payload) };
        let plain = facts(&raw(&ip), INNER).unwrap();
        for (port, head, ignored, is_bridged) in headers(v6, ip.len()) {
            let noise = rng.bytes(head.len());
            let bits = noise.iter().zip(&ignored).map(|(noise, ignored)| noise & ignored);
            let head: Vec<u8> = head.iter().zip(bits).map(|(byte, bits)| byte ^ bits).collect();
            let (proto, body) = carried(port, &head, &ip, is_bridged);
            for outer in [ipv4(1, 2, proto, &body), ipv6_with(1, 2, proto, &[], &body)] {
                assert_eq!(facts(&raw(&outer), INNER).unwrap(), plain, "{port}: {head:02x?}");
            }
        }
    }
}

/// What an inner packet's size and payload are does not depend on how its outer packet was cut to
/// pieces.
#[test]
fn the_size_of_an_inner_packet_is_that_of_its_header_however_the_outer_one_was_fragmented() {
    for v6 in [false, true] {
        let payload = udp(5, 6, &[7; 300]);
        let ip = if v6 { ipv6_with(3, 4, 17, &[], &payload) } else { ipv4(3, 4, 17, &payload) };
        let plain = facts(&raw(&ip), INNER).unwrap();
        assert_eq!(plain.sizes, [ip.len() as u16, 300]);
        for (port, head, _, is_bridged) in headers(v6, ip.len()) {
            let (proto, body) = carried(port, &head, &ip, is_bridged);
            let least = (body.len() - 300).next_multiple_of(8);
            for cut in (least..body.len()).step_by(8) {
                let part = &body[..cut];
                let fragment = vec![(44, vec![0, 0, 1, 0, 0, 0, 9])];
                for outer in [
                    ipv4_with(1, 2, proto, &[], 0x2000, part),
                    ipv6_with(1, 2, proto, &fragment, part),
                ] {
                    // Padding behind a fragment is none of the packet's.
                    let mut frame = raw(&[outer.as_slice(), &[0; 9]].concat());
                    assert_eq!(facts(&frame, INNER).unwrap(), plain, "{port}, {cut} bytes");
                    // A cut frame says as much as its header does.
                    frame.data.truncate(outer.len() - (cut - least));
                    assert_eq!(facts(&frame, INNER).unwrap(), plain, "{port}, {cut} bytes");
                }
            }
        }
    }
}

/// Of an outer packet's fragments the first has the inner headers, and so the inner flow has it.
#[test]
fn a_first_fragment_belongs_to_the_inner_flow_and_later_ones_to_none() {
    let inner = ipv4(0x0101_0101, 0x0202_0202, 17, &udp(5, 6, &[7; 900]));
    let ethernet = framed(LinkType::Ethernet, &inner);
    let datagram = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], ethernet.as_slice()].concat());
    let whole = parse(&raw(&ipv4(1, 2, 17, &datagram)).packet(), INNER).unwrap();
    let first = [
        ipv4_with(1, 2, 17, &[], 0x2000, &datagram[..400]),
        ipv6_with(1, 2, 17, &[(44, vec![0, 0, 1, 0, 0, 0, 9])], &datagram[..400]),
    ];
    for packet in first {
        let parsed = parse(&raw(&packet).packet(), INNER).unwrap();
        assert_eq!((parsed.key, parsed.tcp_flags), (whole.key, whole.tcp_flags));
    }
    let later = [
        ipv4_with(1, 2, 17, &[], 0x2032, &datagram[400..]),
        ipv6_with(1, 2, 17, &[(44, vec![0, 1, 0x90, 0, 0, 0, 9])], &datagram[400..]),
    ];
    for packet in later {
        assert_eq!(parse(&raw(&packet).packet(), INNER), Err(Reject::LaterFragment));
    }
    // An inner fragment is one, as it would be without the tunnel.
    let part = framed(LinkType::Ethernet, &ipv4_with(3, 4, 17, &[], 0x0010, &[1; 50]));
    let datagram = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], part.as_slice()].concat());
    let packet = raw(&ipv4(1, 2, 17, &datagram));
    assert_eq!(parse(&packet.packet(), INNER), Err(Reject::LaterFragment));
    // And half of it is no plain packet, since nothing said that the datagram was in parts.
    let cut = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0], &ethernet[..300]].concat());
    let parsed = parse(&raw(&ipv4(1, 2, 17, &cut)).packet(), INNER).unwrap();
    assert_eq!(parsed.key.five_tuple(true).dst_port, 4789);
}

#[test]
fn more_tunnels_than_a_sane_packet_has_are_refused() {
    let nested = |depth| {
        let packet = ipv4(0x0101_0101, 0x0202_0202, 17, &udp(5, 6, &[]));
        (0..depth).fold(packet, |inner, _| ipv4(1, 2, 4, &inner))
    };
    assert!(parse(&raw(&nested(8)).packet(), INNER).unwrap().key.proto() == 17);
    assert_eq!(parse(&raw(&nested(9)).packet(), INNER), Err(Reject::TooManyHeaders));
    assert!(parse(&raw(&nested(9)).packet(), OUTER).unwrap().key.proto() == 4);
}

/// The tag that is met first from outside counts, wherever it stands.
#[test]
fn the_outermost_tag_is_the_key_s() {
    use common::frames::ether;
    let inner = ipv4(3, 4, 17, &udp(5, 6, &[]));
    let vlan = |outer: &[(u16, u16)], tags: &[(u16, u16)]| {
        let bridged = ether(tags, 0x0800, &inner);
        let gre = ipv4(1, 2, 47, &[&[0, 0, 0x65, 0x58], bridged.as_slice()].concat());
        let frame = Frame::new(0, LinkType::Ethernet, ether(outer, 0x0800, &gre));
        parse(&frame.packet(), INNER).unwrap().key.five_tuple(true).vlan
    };
    assert_eq!(vlan(&[(0x8100, 7)], &[(0x8100, 8)]), Some(7));
    assert_eq!(vlan(&[], &[(0x8100, 8), (0x8100, 9)]), Some(8));
    assert_eq!(vlan(&[(0x8100, 7)], &[]), Some(7));
    assert_eq!(vlan(&[], &[]), None);
}
