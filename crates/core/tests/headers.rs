//! Laws of headers: what one family of IP has the other has too, and what is no part of a packet
//! counts nowhere.
#![allow(clippy::unwrap_used)]

mod common;

use common::frames::{
    Frame, IPV4, IPV6, Rng, Tcp, authenticated, ether, framed, ipv4, ipv4_with, ipv6_with,
    known_links, udp,
};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{KeyRules, Parsed, Reject, parse};

/// What of a packet does not tell its family.
#[derive(Debug, PartialEq)]
struct Facts {
    proto: u8,
    ports: (u16, u16),
    header: Option<usize>,
    flags: u8,
    behind_ip: u16,
    payload: u16,
}

fn parsed(link: LinkType, data: Vec<u8>, wire: usize) -> Result<Parsed, Reject> {
    let frame = Frame { orig_len: wire as u32, ..Frame::new(0, link, data) };
    parse(&frame.packet(), KeyRules::default())
}

/// The facts of a bare IP packet of which so many bytes were captured.
fn facts(packet: &[u8], captured: usize) -> Result<Facts, Reject> {
    let found = parsed(LinkType::RawIp, packet[..captured].to_vec(), packet.len())?;
    let flow = found.key.five_tuple(found.sender_is_low);
    let fixed = if packet[0] >> 4 == 4 { 20 } else { 40 };
    Ok(Facts {
        proto: flow.proto,
        ports: (flow.src_port, flow.dst_port),
        header: found.transport.map(|section| section.range().len()),
        flags: found.tcp_flags,
        behind_ip: found.size - fixed,
        payload: found.payload,
    })
}

/// A transport header and what it carries.
fn transport(proto: u8, rng: &mut Rng) -> Vec<u8> {
    let (src, dst, flags) = (rng.next() as u16, rng.next() as u16, rng.next() as u8);
    let len = 12 + rng.below(30) as usize;
    let payload = rng.bytes(len);
    match proto {
        6 => Tcp { src, dst, flags, ..Tcp::default() }.bytes(&payload),
        _ => udp(src, dst, &payload),
    }
}

/// What is stepped over in both families is so in the same way, wherever the capture ends.
#[test]
fn both_families_step_over_the_same_headers() {
    let mut rng = Rng(31);
    for round in 0..300_u32 {
        let proto = [6, 17, 33, 132, 136, 1, 47, 50, 89, 135, 139][round as usize % 11];
        let (mut outer, mut behind) = (proto, transport(proto, &mut rng));
        for _ in 0..round % 4 {
            (outer, behind) = (51, authenticated(outer, &behind));
        }
        let v4 = ipv4(1, 2, outer, &behind);
        let v6 = ipv6_with(1, 2, outer, &[], &behind);
        for captured in 0..=behind.len() {
            let (four, six) = (facts(&v4, 20 + captured), facts(&v6, 40 + captured));
            assert_eq!(four, six, "protocol {proto}, {captured} bytes");
            assert!(four.is_err() || four.unwrap().proto == proto);
        }
    }
}

#[test]
fn more_headers_that_authenticate_than_a_sane_packet_has_are_refused_in_both_families() {
    for (count, expected) in [(16, Ok(17)), (17, Err(Reject::TooManyHeaders))] {
        let wrap = |(proto, behind): (u8, Vec<u8>), _| (51, authenticated(proto, &behind));
        let (outer, behind) = (0..count).fold((17, udp(5, 6, &[])), wrap);
        for packet in [ipv4(1, 2, outer, &behind), ipv6_with(1, 2, outer, &[], &behind)] {
            assert_eq!(facts(&packet, packet.len()).map(|facts| facts.proto), expected);
        }
    }
}

/// A protocol that wraps nothing is the flow's, whatever it is of.
#[test]
fn every_other_protocol_is_one_of_its_own() {
    let behind = [7; 40];
    for proto in (0..=255).filter(|proto| ![4, 6, 41, 47, 51].contains(proto)) {
        let v4 = facts(&ipv4(1, 2, proto, &behind), 60).unwrap();
        assert_eq!(v4.proto, proto);
        let is_extension = [0, 43, 44, 60, 140].contains(&proto);
        if !is_extension {
            assert_eq!(facts(&ipv6_with(1, 2, proto, &[], &behind), 80), Ok(v4));
        }
    }
}

#[test]
fn protocols_with_ports_have_them_in_the_key_in_both_directions() {
    let mut rng = Rng(32);
    for round in 0..500_usize {
        let proto = [6, 17, 33, 132, 136][round % 5];
        let there = transport(proto, &mut rng);
        let back = [&there[2..4], &there[..2], &there[4..]].concat();
        let of = |src: u128, dst: u128, behind: &[u8]| match round % 2 {
            0 => ipv4(src as u32, dst as u32, proto, behind),
            _ => ipv6_with(src, dst, proto, &[], behind),
        };
        let whole = |packet: Vec<u8>| {
            let len = packet.len();
            parsed(LinkType::RawIp, packet, len).unwrap()
        };
        let (one, other) = (whole(of(7, 9, &there)), whole(of(9, 7, &back)));
        assert_eq!((one.key, one.sender_is_low), (other.key, !other.sender_is_low));
        let flow = one.key.five_tuple(one.sender_is_low);
        let word = |at: usize| u16::from_be_bytes([there[at], there[at + 1]]);
        assert_eq!((flow.src_port, flow.dst_port), (word(0), word(2)), "protocol {proto}");
    }
    // Without the whole of its header there is no such packet.
    for (proto, least) in [(6, 20), (17, 8), (33, 12), (132, 12), (136, 8)] {
        let short = ipv4(1, 2, proto, &[0x50; 20][..least - 1]);
        assert_eq!(facts(&short, short.len()), Err(Reject::BadTransport), "protocol {proto}");
        let ports_alone = ipv4(1, 2, proto, &[0x50; 20][..least]);
        assert!(facts(&ports_alone, 24).is_ok());
        assert_eq!(facts(&ports_alone, 23), Err(Reject::TruncatedTransport));
    }
}

/// What Ethernet adds to short frames, and check sequences, are no part of any packet, an empty
/// one's least.
#[test]
fn padding_counts_nowhere_whatever_the_length() {
    let mut rng = Rng(33);
    let protos = [6, 17, 132, 33, 136, 1, 58, 59, 47, 50, 89, 103, 135, 51, 0, 43, 60];
    for proto in protos {
        for len in 0..=46 {
            let mut body = rng.bytes(len);
            if proto == 6 && len > 12 {
                body[12] = 0x50;
            }
            for (kind, packet) in
                [(IPV4, ipv4(1, 2, proto, &body)), (IPV6, ipv6_with(1, 2, proto, &[], &body))]
            {
                let plain = ether(&[], kind, &packet);
                let expected = parsed(LinkType::Ethernet, plain.clone(), plain.len());
                for trailer in [0, 4] {
                    let mut padded = plain.clone();
                    padded.resize(plain.len().max(60) + trailer, 0xa5);
                    let len = padded.len();
                    let found = parsed(LinkType::Ethernet, padded, len);
                    assert_eq!(found, expected, "protocol {proto}, {packet:02x?}");
                }
                if let Ok(parsed) = expected {
                    assert_eq!(usize::from(parsed.size), packet.len());
                }
            }
        }
    }
}

/// An IPv6 packet whose payload length is 0, as a jumbogram or from segmentation offload.
#[test]
fn a_payload_length_of_0_is_a_jumbogram_s_offload_s_or_none() {
    let segment = Tcp { src: 5, dst: 6, ..Tcp::default() }.bytes(&[7; 3000]);
    let without_length = |mut packet: Vec<u8>| {
        packet[4..6].fill(0);
        packet
    };
    let jumbo = |len: u32| {
        let len = len.to_be_bytes();
        (0, [&[0, 0xc2, 4], len.as_slice()].concat())
    };
    let sizes = |packet: Vec<u8>| {
        let padded = [packet.as_slice(), &[0; 9]].concat();
        let wire = padded.len();
        let of = |found: Result<Parsed, Reject>| found.map(|found| (found.size, found.payload));
        [
            of(parsed(LinkType::RawIp, packet.clone(), packet.len())),
            of(parsed(LinkType::RawIp, padded, wire)),
        ]
    };
    let plain = without_length(ipv6_with(1, 2, 6, &[], &segment));
    assert_eq!(sizes(plain)[0], Ok((3060, 3000)));
    // With the length in an option the padding is known for what it is; a longer one is capped.
    let option = without_length(ipv6_with(1, 2, 6, &[jumbo(3028)], &segment));
    assert_eq!(sizes(option), [Ok((3068, 3000)); 2]);
    let longer = without_length(ipv6_with(1, 2, 6, &[jumbo(70_000)], &segment));
    assert_eq!(sizes(longer)[0], Ok((3068, 3000)));
    // Behind other options, and behind padding of one byte and of two.
    let behind = [vec![1, 0, 1, 0, 0xc2, 4, 0, 0, 0x0b, 0xd4, 1, 1, 0, 0, 0]].concat();
    let option = without_length(ipv6_with(1, 2, 6, &[(0, behind)], &segment[..3012]));
    assert_eq!(sizes(option), [Ok((3068, 2992)); 2]);
    // Nothing but padding: no protocol but these two is offloaded.
    for proto in [58, 59, 132, 47] {
        let empty = without_length(ipv6_with(1, 2, proto, &[], &[0; 900]));
        assert!(sizes(empty.clone())[0].is_err() || sizes(empty)[0] == Ok((40, 0)), "{proto}");
    }
    let short = without_length(ipv6_with(1, 2, 17, &[], &[0; 19]));
    assert_eq!(sizes(short)[0], Err(Reject::BadTransport));
}

/// The same packet in the other framings of links that have several.
#[test]
fn links_with_several_framings_lead_to_the_same_packet() {
    for ip in [ipv4(1, 2, 17, &udp(5, 6, &[7; 9])), ipv6_with(1, 2, 17, &[], &udp(5, 6, &[7; 9]))] {
        let v6 = ip[0] >> 4 == 6;
        let kind: [u8; 2] = if v6 { [0x86, 0xdd] } else { [8, 0] };
        let (ppp, nlpid) = if v6 { (0x57, 0x8e) } else { (0x21, 0xcc) };
        let bridged = ether(&[(0x8100, 3)], u16::from_be_bytes(kind), &[]);
        let attribute = (ip.len() as u16 + 4).to_be_bytes();
        let family = if v6 { 10 } else { 2 };
        let pktap = |link: u8| {
            let mut head = vec![0; 112];
            (head[0], head[4], head[8]) = (112, 1, link);
            head
        };
        let heads: Vec<(u16, Vec<u8>)> = vec![
            (9, vec![0, ppp]),
            (9, vec![ppp]),
            (50, vec![0xff, 3, 0, ppp]),
            (50, vec![0x0f, 0, kind[0], kind[1]]),
            (9, vec![0x8f, 0, kind[0], kind[1]]),
            (107, vec![0x18, 0x42, 0x01, 3, nlpid]),
            (107, vec![0x18, 0x42, 0x00, 0x01, 3, 0, nlpid]),
            (107, vec![0x18, 0x41, 3, 0, 0x80, 0, 0, 0, kind[0], kind[1]]),
            (107, [&[0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xc2, 0, 7], bridged.as_slice()].concat()),
            (107, vec![0x18, 0x41, kind[0], kind[1]]),
            (107, vec![0x18, 0x41, 3, 0xcf, 0, ppp]),
            (192, vec![0, 0, 8, 0, 12, 0, 0, 0]),
            (192, [vec![0, 0, 8, 0, 113, 0, 0, 0], vec![0; 14], kind.to_vec()].concat()),
            (
                239,
                [&[family, 0, 0, 0, 0, 8, 0, 1, 1, 2, 3, 4], attribute.as_slice(), &[0, 9]]
                    .concat(),
            ),
            (258, pktap(12)),
            (149, [pktap(0), if v6 { vec![30, 0, 0, 0] } else { vec![2, 0, 0, 0] }].concat()),
            (0, vec![0x0f, 0, kind[0], kind[1]]),
        ];
        let plain = parsed(LinkType::RawIp, ip.clone(), ip.len()).unwrap();
        for (number, head) in heads {
            let frame = [head.as_slice(), &ip].concat();
            let len = frame.len();
            let found = parsed(LinkType::from_number(number), frame, len);
            let found = found.unwrap_or_else(|why| panic!("{number} {head:02x?}: {why:?}"));
            assert_eq!(
                (found.key, found.size, found.payload),
                (plain.key, plain.size, plain.payload)
            );
        }
    }
}

#[test]
fn frames_that_name_a_link_type_are_unsupported_as_that_is() {
    let ppi = |link: u32| [&[0, 0, 8, 0], link.to_le_bytes().as_slice(), &[0x45; 30]].concat();
    let user = vec![9; 200];
    for (link, data, expected) in [
        (LinkType::Ppi, ppi(105), Some(105)),
        (LinkType::Ppi, ppi(192), Some(192)),
        (LinkType::Ppi, ppi(0x1_0001), Some(u16::MAX)),
        (LinkType::Ppi, ppi(1)[..7].to_vec(), None),
        (LinkType::Pktap(149), user, Some(149)),
        (LinkType::Unsupported(127), vec![], Some(127)),
        (LinkType::Ethernet, vec![], None),
    ] {
        let frame = Frame::new(0, link, data);
        let found = parse(&frame.packet(), KeyRules::default()).unwrap_err();
        assert_eq!(frame.packet().unsupported_link(), expected, "{link:?}");
        assert_eq!(found == Reject::UnsupportedLink, expected.is_some(), "{link:?}");
    }
}

/// No link type's reading looks behind the capture, and a cut one is refused as cut.
#[test]
fn a_cut_link_header_is_refused_as_cut() {
    let ip = ipv4_with(1, 2, 17, &[], 0, &udp(5, 6, &[]));
    for &link in known_links() {
        let frame = framed(link, &ip);
        let at = frame.len() - ip.len();
        for captured in 0..at {
            let found = parsed(link, frame[..captured].to_vec(), frame.len());
            // A byte of PPP's framing alone reads as a protocol.
            let other = if link == LinkType::Ppp { Reject::NotIp } else { Reject::TruncatedLink };
            let expected = [Reject::TruncatedLink, Reject::TruncatedNetwork, other];
            assert!(
                found.is_err_and(|why| expected.contains(&why)),
                "{link:?} {captured} {found:?}"
            );
        }
    }
}
