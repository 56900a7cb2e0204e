//! The program by which the kernel shares frames among workers, run on frames as the kernel would.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub)]
#[path = "../../core/tests/common/frames.rs"]
mod frames;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
#[path = "../../core/tests/common/tunnels.rs"]
mod tunnels;

use frames::{Frame, Rng};
use serveflow_core::key::FlowKey;
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{KeyRules, Tunnels, parse};
use serveflow_io::live::bpf::Instruction;
use serveflow_io::live::fanout::{FanoutRules, FirstHeader, symmetric};
use std::collections::HashSet;

/// A frame as the kernel has it when it asks a program.
#[derive(Clone, Copy)]
struct Seen<'a> {
    /// Where offsets count from.
    data: &'a [u8],
    is_sent: bool,
    /// Type of the frame, as the kernel knows it.
    proto: u16,
}

/// An Ethernet frame that is sent.
fn sent(frame: &[u8]) -> Seen<'_> {
    Seen { data: frame, is_sent: true, proto: 0 }
}

/// An Ethernet frame that came: the outer tag, if any, is off.
fn came(frame: &[u8]) -> Seen<'_> {
    let kind = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    match kind(12) {
        0x8100 | 0x88a8 => Seen { data: &frame[18..], is_sent: false, proto: kind(16) },
        // A length: the kernel says that LLC follows.
        ..0x600 => Seen { data: &frame[14..], is_sent: false, proto: 4 },
        proto => Seen { data: &frame[14..], is_sent: false, proto },
    }
}

/// A packet of an interface without Ethernet.
fn bare(ip: &[u8]) -> Seen<'_> {
    Seen { data: ip, is_sent: false, proto: 0 }
}

/// The answer for an Ethernet frame, which does not ask whether it came or is sent.
fn run_ether(program: &[Instruction], frame: &[u8]) -> u32 {
    let answer = run(program, sent(frame));
    assert_eq!(answer, run(program, came(frame)));
    answer
}

/// What a program answers for a frame, as the kernel computes it: 0 where it looks behind the
/// frame's end.
fn run(program: &[Instruction], frame: Seen<'_>) -> u32 {
    let (mut a, mut x, mut cells, mut at) = (0_u32, 0_u32, [0_u32; 16], 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let load = |len: usize| {
            let from = x.wrapping_add(k) as usize;
            let bytes = frame.data.get(from..from.checked_add(len)?)?;
            Some(bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
        };
        let jump = |holds: bool| usize::from(if holds { jt } else { jf });
        // Class, size or operation, and source, as in linux/bpf_common.h.
        match code {
            0x40 | 0x48 | 0x50 => match load([4, 2, 1][usize::from((code & 0x18) >> 3)]) {
                Some(number) => a = number,
                None => return 0,
            },
            // What the kernel knows: SKF_AD_PROTOCOL and SKF_AD_PKTTYPE behind SKF_AD_OFF.
            0x20 => match k.wrapping_add(0x1000) {
                0 => a = frame.proto.into(),
                4 => a = if frame.is_sent { 4 } else { 0 },
                _ => panic!("the kernel is asked for {k:#x}"),
            },
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = cells[k as usize],
            0x61 => x = cells[k as usize],
            0x02 => cells[k as usize] = a,
            0x04 => a = a.wrapping_add(k),
            0x0c => a = a.wrapping_add(x),
            0x1c => a = a.wrapping_sub(x),
            0x80 => a = frame.data.len() as u32,
            0x24 => a = a.wrapping_mul(k),
            0x54 => a &= k,
            0x64 => a <<= k,
            0x74 => a >>= k,
            0xac => a ^= x,
            0x05 => at += k as usize,
            0x15 => at += jump(a == k),
            0x25 => at += jump(a > k),
            0x45 => at += jump(a & k != 0),
            0x06 => return k,
            0x16 => return a,
            0x07 => x = a,
            0x87 => a = x,
            _ => panic!("no such instruction: {code:#x}"),
        }
    }
}

fn rules(first: FirstHeader) -> FanoutRules {
    FanoutRules { first, inner_keys: true, seed: [0x1234_5677, 0x9abc_def0] }
}

/// Two ends that talk by a protocol.
#[derive(Clone, Copy)]
struct Talk {
    v6: bool,
    ends: [(u128, u16); 2],
    proto: u8,
}

impl Talk {
    fn new(rng: &mut Rng) -> Self {
        let v6 = rng.one_in(2);
        let mut end = || {
            let addr = u128::from(rng.next()) << 64 | u128::from(rng.next());
            (if v6 { addr } else { addr >> 96 }, rng.next() as u16)
        };
        Self {
            v6,
            ends: [end(), end()],
            proto: rng.pick(&[6, 6, 17, 17, 1, 33, 47, 132, 135, 136]),
        }
    }

    /// A packet of it, in any direction and with any headers around what matters.
    fn ip(&self, rng: &mut Rng) -> Vec<u8> {
        let turn = rng.below(2) as usize;
        let ((src, src_port), (dst, dst_port)) = (self.ends[turn], self.ends[1 - turn]);
        let rest = rng.bytes(8);
        let behind = match self.proto {
            6 => {
                let (src, dst) = (src_port, dst_port);
                let options = vec![1; 4 * rng.below(11) as usize];
                let flags = rng.next() as u8;
                frames::Tcp { src, dst, seq: 1, ack: 2, flags, options }.bytes(&rest)
            }
            17 | 33 | 132 | 136 => frames::udp(src_port, dst_port, &rest),
            _ => rest,
        };
        let (mut proto, mut behind) = (self.proto, behind);
        for _ in 0..rng.below(8).saturating_sub(5) {
            (proto, behind) = (51, frames::authenticated(proto, &behind));
        }
        if self.v6 {
            let extensions = if rng.one_in(2) { frames::extensions(rng) } else { Vec::new() };
            return frames::ipv6_with(src, dst, proto, &extensions, &behind);
        }
        let options = vec![1; 4 * rng.below(11) as usize];
        let fragment = rng.pick(&[0, 0x4000, 0x2000]);
        frames::ipv4_with(src as u32, dst as u32, proto, &options, fragment, &behind)
    }
}

/// An Ethernet frame around an IP packet, with or without tags.
fn tagged(rng: &mut Rng, ip: &[u8]) -> Vec<u8> {
    let kind = if ip[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    let all = [(0x88a8, 0x6064), (0x9100, 3), (0x8100, 0x0fff), (0x8100, 1)];
    frames::ether(&all[rng.below(5) as usize..], kind, ip)
}

#[test]
fn all_packets_of_a_flow_have_one_answer() {
    let [ether, no_ether] =
        [FirstHeader::Ethernet, FirstHeader::Ip].map(|first| symmetric(&rules(first)));
    let mut rng = Rng(7);
    let mut answers = HashSet::new();
    for _ in 0..3000 {
        let talk = Talk::new(&mut rng);
        let (mut keys, mut found) = (HashSet::<FlowKey>::new(), HashSet::new());
        for _ in 0..20 {
            let ip = talk.ip(&mut rng);
            let frame = Frame::new(0, LinkType::Ethernet, tagged(&mut rng, &ip));
            // More extension headers than a sane packet carries belong to no flow.
            let Ok(parsed) = parse(&frame.packet(), KeyRules::default()) else { continue };
            keys.insert(parsed.key);
            found.insert(run_ether(&ether, &frame.data));
            found.insert(run(&no_ether, bare(&ip)));
        }
        assert_eq!((keys.len(), found.len()), (1, 1), "{found:?} for {keys:?}");
        answers.extend(found);
    }
    assert!(answers.len() > 2990, "{} answers for 3000 flows", answers.len());
}

#[test]
fn workers_get_even_shares_of_flows_that_look_alike() {
    let program = symmetric(&rules(FirstHeader::Ip));
    let mut rng = Rng(3);
    for workers in [2_u32, 3, 8] {
        let mut shares = vec![0_u32; workers as usize];
        for flow in 0..8000_u32 {
            // One server, clients that count up, and ports that do.
            let (src, dst) = (40_000 + flow as u16 % 7, 443);
            let tcp = frames::udp(src, dst, &rng.bytes(16));
            let ip = frames::ipv4(0x0a00_0001 + flow / 7, 0x0a01_0001, 17, &tcp);
            shares[(run(&program, bare(&ip)) % workers) as usize] += 1;
        }
        let even = 8000 / workers;
        assert!(shares.iter().all(|share| share.abs_diff(even) < even / 8), "{shares:?}");
    }
}

#[test]
fn what_is_behind_labels_and_sessions_is_found() {
    let program = symmetric(&rules(FirstHeader::Ethernet));
    let mut rng = Rng(9);
    for _ in 0..2000 {
        let ip = Talk::new(&mut rng).ip(&mut rng);
        let plain = run_ether(&program, &tagged(&mut rng, &ip));
        let mut labels: Vec<u8> =
            (0..rng.below(6)).flat_map(|label| [0, label as u8, 0x20, 64]).collect();
        labels.extend([0, 1, 0x21, 64]);
        labels.extend(&ip);
        assert_eq!(plain, run_ether(&program, &frames::ether(&[(0x8100, 5)], 0x8847, &labels)));
        // As a mirror leaves it that cuts frames: more is announced than is there.
        let mut cut = labels.clone();
        let length = labels.len() - ip.len() + if ip[0] >> 4 == 6 { 4 } else { 2 };
        cut[length] += 3;
        assert_eq!(plain, run_ether(&program, &frames::ether(&[], 0x8847, &cut)));
        let kind = if ip[0] >> 4 == 6 { [0x86, 0xdd] } else { [0x08, 0] };
        let snap = [&[0xaa, 0xaa, 3, 0, 0, 0], kind.as_slice(), &ip].concat();
        assert_eq!(plain, run_ether(&program, &frames::ether(&[], snap.len() as u16, &snap)));
        let proto = if ip[0] >> 4 == 6 { 0x57 } else { 0x21 };
        let mut session = vec![0x11, 0, 0, 9, 0, 0, 0, proto];
        session.extend(&ip);
        assert_eq!(plain, run_ether(&program, &frames::ether(&[], 0x8864, &session)));
    }
}

#[test]
fn the_ports_of_a_tunnel_do_not_count() {
    let of = |inner_keys, ports: [u16; 2]| {
        let rules = FanoutRules { inner_keys, ..rules(FirstHeader::Ip) };
        let udp = frames::udp(ports[0], ports[1], &[8; 8]);
        run(&symmetric(&rules), bare(&frames::ipv4(1, 2, 17, &udp)))
    };
    for port in [4789, 8472, 6081, 2152, 3544, 6635] {
        assert_eq!(of(true, [50_000, port]), of(true, [port, 50_001]));
        assert_ne!(of(false, [50_000, port]), of(false, [port, 50_001]));
    }
    assert_ne!(of(true, [50_000, 443]), of(true, [443, 50_001]));
}

/// A stack of headers that reads the same in both directions: what is above IP has its ends in the
/// order in which the flow has its own, so that both directions go through one tunnel.
#[test]
fn flows_inside_of_tunnels_have_one_answer() {
    let program = symmetric(&rules(FirstHeader::Ethernet));
    let inner = KeyRules { tunnels: Tunnels::Inner, ..KeyRules::default() };
    let mut rng = Rng(11);
    let (mut below, mut above) = (0, 0);
    for _ in 0..4000 {
        let talk = Talk::new(&mut rng);
        let steps = tunnels::stack(&mut rng);
        let is_above = steps.iter().any(tunnels::Step::is_above_ip);
        let (mut keys, mut found) = (HashSet::<FlowKey>::new(), HashSet::new());
        for _ in 0..8 {
            let ip = talk.ip(&mut rng);
            // What differs from packet to packet of one tunnel is drawn anew; its ends are those of
            // the seed.
            let wrapped = tunnels::wrap(&ip, &steps, &mut Rng(7));
            let Ok(parsed) = parse(&wrapped.frame.packet(), inner) else { continue };
            keys.insert(parsed.key);
            found.insert(run_ether(&program, &wrapped.frame.data));
        }
        assert!(keys.len() <= 1 && found.len() <= 1, "{found:?} for {keys:?}: {steps:?}");
        above += usize::from(is_above);
        below += usize::from(!is_above);
    }
    assert!(above > 500 && below > 100, "{above} stacks above IP, {below} below");
}
