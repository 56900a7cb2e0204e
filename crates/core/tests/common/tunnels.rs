//! Tunnels around packets: each step wraps the bytes of what it carries.

use super::frames::{Frame, Rng, ether, ipv4_with, ipv6_with, udp};
use serveflow_core::packet::LinkType;
use serveflow_core::parse::{KeyRules, Tunnels, parse};

/// One step outwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    IpInIp,
    Gre,
    GreBridged,
    Pptp,
    Erspan(u8),
    Vxlan,
    VxlanEarly,
    VxlanGpe,
    Geneve,
    GeneveBridged,
    Gtp,
    Teredo,
    MplsInUdp,
    Mpls,
    Pseudowire,
    Pppoe,
}

const STEPS: [Step; 18] = [
    Step::IpInIp,
    Step::Gre,
    Step::GreBridged,
    Step::Pptp,
    Step::Erspan(1),
    Step::Erspan(2),
    Step::Erspan(3),
    Step::Vxlan,
    Step::VxlanEarly,
    Step::VxlanGpe,
    Step::Geneve,
    Step::GeneveBridged,
    Step::Gtp,
    Step::Teredo,
    Step::MplsInUdp,
    Step::Mpls,
    Step::Pseudowire,
    Step::Pppoe,
];

impl Step {
    /// Whether it stands in an IP packet of the tunnel's ends.
    pub fn is_above_ip(&self) -> bool {
        self.proto().is_some()
    }

    /// The protocol of that packet; 4 stands for both versions.
    pub fn proto(&self) -> Option<u8> {
        match self {
            Self::IpInIp => Some(4),
            Self::Gre | Self::GreBridged | Self::Pptp | Self::Erspan(_) => Some(47),
            Self::Mpls | Self::Pseudowire | Self::Pppoe => None,
            _ => Some(17),
        }
    }
}

/// A packet in a stack of tunnels.
#[derive(Debug)]
pub struct Wrapped {
    pub frame: Frame,
    /// Where the innermost packet starts.
    pub at: usize,
    /// Whether something in it is told only by what it carries.
    pub is_guessed: bool,
    /// From the innermost step to the outermost.
    pub steps: Vec<Step>,
}

/// The IP packet of a frame, without padding; none when there is none that can be read, or it says
/// a length of 0, behind which padding is part of it.
pub fn ip_of(frame: &Frame) -> Option<Vec<u8>> {
    let rules = KeyRules { vlan_in_key: false, tunnels: Tunnels::Outer };
    let parsed = parse(&frame.packet(), rules).ok()?;
    let at = parsed.network.range().start;
    let packet = frame.data[at..at + usize::from(parsed.size)].to_vec();
    let says_nothing = packet[0] >> 4 == 6 && packet[4..6] == [0, 0] && packet.len() > 40;
    (!says_nothing).then_some(packet)
}

/// One to four random steps.
pub fn stack(rng: &mut Rng) -> Vec<Step> {
    (0..=rng.below(4)).map(|_| rng.pick(&STEPS)).collect()
}

/// What was wrapped so far: a packet, or a link's frame that an IP packet or an Ethernet frame
/// takes.
struct Onion<'a> {
    data: Vec<u8>,
    /// EtherType of `data`.
    kind: u16,
    rng: &'a mut Rng,
    is_guessed: bool,
}

/// Wraps an IP packet, the first step innermost.
pub fn wrap(packet: &[u8], steps: &[Step], rng: &mut Rng) -> Wrapped {
    let kind = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    let mut onion = Onion { data: packet.to_vec(), kind, rng, is_guessed: false };
    let steps: Vec<Step> = steps.iter().map(|&step| onion.add(step)).collect();
    let data = onion.framed();
    Wrapped {
        at: data.len() - packet.len(),
        frame: Frame::new(0, LinkType::Ethernet, data),
        is_guessed: onion.is_guessed,
        steps,
    }
}

/// A header of VXLAN with any bits where they are ignored.
fn vxlan(mut bits: [u8; 8]) -> [u8; 8] {
    bits[0] |= 8;
    bits
}

impl Onion<'_> {
    fn framed(&self) -> Vec<u8> {
        ether(&[], self.kind, &self.data)
    }

    fn is_ip(&self) -> bool {
        matches!(self.kind, 0x0800 | 0x86dd)
    }

    fn set(&mut self, kind: u16, data: Vec<u8>) {
        (self.kind, self.data) = (kind, data);
    }

    /// An IP packet of the tunnel's ends, of either version.
    fn carry(&mut self, proto: u8, data: &[u8]) {
        if self.rng.one_in(3) {
            let options = vec![(60, vec![0, 4, 1, 4, 0, 0, 0])];
            let extensions = if self.rng.one_in(2) { options } else { vec![] };
            self.set(0x86dd, ipv6_with(0xa, 0xb, proto, &extensions, data));
        } else {
            let options = vec![1; self.rng.below(3) as usize * 4];
            self.set(0x0800, ipv4_with(0x0a09_0001, 0x0a09_0002, proto, &options, 0x4000, data));
        }
    }

    fn datagram(&mut self, port: u16, parts: &[&[u8]]) {
        let from = 49_152 + self.rng.below(1_000) as u16;
        self.carry(17, &udp(from, port, &parts.concat()));
    }

    /// Adds a step, or VXLAN where that cannot carry what there is; says which it was.
    fn add(&mut self, step: Step) -> Step {
        let frame = self.framed();
        let data = self.data.clone();
        let kind = self.kind.to_be_bytes();
        let number = self.rng.next().to_be_bytes();
        match step {
            Step::IpInIp if self.is_ip() => {
                self.carry(if self.kind == 0x0800 { 4 } else { 41 }, &data);
            }
            Step::Gre => self.gre(self.kind, &data),
            Step::GreBridged => self.gre(0x6558, &frame),
            Step::Pptp if self.is_ip() => self.pptp(&data),
            Step::Erspan(version) => self.erspan(version, &frame),
            Step::VxlanGpe if self.is_ip() => {
                let next = if self.kind == 0x0800 { 1 } else { 2 };
                self.datagram(4790, &[&[0x0c, 0, 0, next, 0, 0, 7, 0], &data]);
            }
            Step::VxlanEarly => self.datagram(8472, &[&vxlan(number), &frame]),
            Step::Geneve => self.datagram(6081, &[&[0, 0], &kind, &[0, 0, 7, 0], &data]),
            Step::GeneveBridged => {
                let words = self.rng.below(4) as u8;
                let options = vec![0xee; usize::from(words) * 4];
                let head = [words, 0x40, 0x65, 0x58, 0, 0, 7, 0];
                self.datagram(6081, &[&head, &options, &frame]);
            }
            Step::Gtp if self.is_ip() => self.gtp(&data),
            Step::Teredo if self.kind == 0x86dd => {
                let origin: &[u8] =
                    if self.rng.one_in(2) { &[0, 0, 1, 2, 3, 4, 5, 6] } else { &[] };
                self.datagram(3544, &[origin, &data]);
                self.is_guessed = true;
            }
            Step::MplsInUdp if self.is_ip() => self.datagram(6635, &[&[1, 2, 0x31, 64], &data]),
            Step::Mpls if self.is_ip() => {
                let more = vec![[0, 0x10, 0, 9]; self.rng.below(5) as usize].concat();
                self.set(0x8847, [more.as_slice(), &[1, 2, 0x31, 64], &data].concat());
            }
            Step::Pseudowire if self.is_ip() => {
                let word: &[u8] = if self.rng.one_in(2) { &[0; 4] } else { &[] };
                self.set(0x8848, [&[1, 2, 0x31, 64], word, &frame].concat());
                self.is_guessed = true;
            }
            Step::Pppoe if self.is_ip() => {
                let head = [&[0x11, 0], &number[..2], &(data.len() as u16 + 2).to_be_bytes()];
                let ppp = self.ppp(&data);
                self.set(0x8864, [head.concat(), ppp].concat());
            }
            _ => {
                self.datagram(4789, &[&vxlan(number), &frame]);
                return Step::Vxlan;
            }
        }
        step
    }

    /// A PPP frame, its protocol in one byte or two.
    fn ppp(&mut self, data: &[u8]) -> Vec<u8> {
        let proto = if self.kind == 0x0800 { 0x21 } else { 0x57 };
        let head: &[u8] = if self.rng.one_in(2) { &[0, proto] } else { &[proto] };
        [head, data].concat()
    }

    fn gre(&mut self, kind: u16, data: &[u8]) {
        let flags = self.rng.pick(&[0, 0x80, 0x20, 0x10, 0xb0_u8]);
        let fields = vec![9; flags.count_ones() as usize * 4];
        self.carry(47, &[&[flags, 0], &kind.to_be_bytes()[..], &fields, data].concat());
    }

    fn pptp(&mut self, data: &[u8]) {
        let ppp = self.ppp(data);
        let acknowledges = self.rng.one_in(2);
        let flags = if acknowledges { 0x81 } else { 1 };
        let fields = vec![9; if acknowledges { 8 } else { 4 }];
        let len = (ppp.len() as u16).to_be_bytes();
        self.carry(47, &[&[0x30, flags, 0x88, 0x0b], &len[..], &[0, 7], &fields, &ppp].concat());
    }

    fn erspan(&mut self, version: u8, frame: &[u8]) {
        let head = match version {
            1 => vec![0, 0, 0x88, 0xbe],
            2 => [&[0x10, 0, 0x88, 0xbe], &[0; 4][..], &[0x10, 5, 0, 9, 0, 0, 0, 7]].concat(),
            _ => {
                let more = self.rng.below(2) as u8;
                let own = [0x20, 5, 0, 9, 0, 0, 0, 7, 0, 0, 0, more];
                let platform = vec![3; usize::from(more) * 8];
                [&[0x10, 0, 0x22, 0xeb], &[0; 4][..], &own, &platform].concat()
            }
        };
        self.carry(47, &[&head, frame].concat());
    }

    fn gtp(&mut self, data: &[u8]) {
        let (flags, more): (u8, &[u8]) = self.rng.pick(&[
            (0x30, &[][..]),
            (0x32, &[0, 1, 0, 0]),
            (0x34, &[0, 0, 0, 0x85, 1, 0x10, 9, 0]),
            (0x36, &[0, 1, 0, 0x40, 1, 8, 0x68, 0x85, 2, 0, 9, 0, 0, 0, 0, 0]),
        ]);
        let len = ((more.len() + data.len()) as u16).to_be_bytes();
        self.datagram(2152, &[&[flags, 255], &len, &[0, 0, 0, 77], more, data]);
    }
}
