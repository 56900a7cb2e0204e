//! Packet builders: every layer is bytes around the bytes of the next one.

use serveflow_core::packet::{LinkType, Packet};
use std::net::IpAddr;

/// Seeded numbers (SplitMix64): equal on every machine.
#[derive(Clone, Debug)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// A frame that owns its bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    pub ts_ns: u64,
    pub orig_len: u32,
    pub link: LinkType,
    pub data: Vec<u8>,
}

impl Frame {
    pub fn new(ts_ns: u64, link: LinkType, data: Vec<u8>) -> Self {
        Self { ts_ns, orig_len: data.len() as u32, link, data }
    }

    pub fn packet(&self) -> Packet<'_> {
        Packet { ts_ns: self.ts_ns, orig_len: self.orig_len, link: self.link, data: &self.data }
    }
}

/// All link types that the parser knows, and one that it does not.
pub const LINKS: [LinkType; 14] = [
    LinkType::Ethernet,
    LinkType::RawIp,
    LinkType::LinuxSll,
    LinkType::LinuxSll2,
    LinkType::Null,
    LinkType::Loop,
    LinkType::Ppp,
    LinkType::CiscoHdlc,
    LinkType::FrameRelay,
    LinkType::Ppi,
    LinkType::Nflog,
    LinkType::Pktap(258),
    LinkType::Pktap(149),
    LinkType::Unsupported(147),
];

/// The link types that the parser knows.
pub fn known_links() -> &'static [LinkType] {
    &LINKS[..LINKS.len() - 1]
}

pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;

/// An Ethernet frame, with tags (tag type, tag control) outermost first.
pub fn ether(tags: &[(u16, u16)], kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tag_type, control) in tags {
        out.extend(tag_type.to_be_bytes());
        out.extend(control.to_be_bytes());
    }
    out.extend(kind.to_be_bytes());
    out.extend(payload);
    out
}

/// An IP packet behind the plainest header of a link type.
pub fn framed(link: LinkType, ip: &[u8]) -> Vec<u8> {
    let v6 = ip.first().is_some_and(|byte| byte >> 4 == 6);
    let kind = if v6 { IPV6 } else { IPV4 };
    let mut out = match link {
        LinkType::Ethernet => return ether(&[], kind, ip),
        LinkType::LinuxSll => {
            let mut out = vec![0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0];
            out.extend(kind.to_be_bytes());
            out
        }
        LinkType::LinuxSll2 => {
            let mut out = kind.to_be_bytes().to_vec();
            out.extend([0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
            out
        }
        LinkType::Null => (if v6 { 30_u32 } else { 2 }).to_le_bytes().to_vec(),
        LinkType::Loop => (if v6 { 24_u32 } else { 2 }).to_be_bytes().to_vec(),
        LinkType::Ppp => vec![0xff, 3, 0, if v6 { 0x57 } else { 0x21 }],
        LinkType::CiscoHdlc => [&[0x0f, 0], &kind.to_be_bytes()[..]].concat(),
        LinkType::FrameRelay => vec![0x18, 0x41, 3, if v6 { 0x8e } else { 0xcc }],
        // Both name Ethernet, behind a field of their own.
        LinkType::Ppi => {
            let head = [0, 0, 12, 0, 1, 0, 0, 0, 1, 0, 0, 0];
            [head.as_slice(), &ether(&[], kind, &[])].concat()
        }
        LinkType::Pktap(_) => {
            let mut head = vec![0; 108];
            (head[0], head[4], head[8]) = (108, 1, 1);
            [head, ether(&[], kind, &[])].concat()
        }
        LinkType::Nflog => {
            let head =
                [if v6 { 10 } else { 2 }, 0, 0, 0, 8, 0, 1, 0, 8, 0, 0, 0, 5, 0, 10, 0, 0, 0, 0, 0];
            let len = (ip.len() as u16 + 4).to_le_bytes();
            [head.as_slice(), &len, &[9, 0]].concat()
        }
        LinkType::RawIp | LinkType::Unsupported(_) => Vec::new(),
    };
    out.extend(ip);
    out
}

/// An IPv4 packet. `fragment` is the word of flags and offset; options are padded to four bytes.
pub fn ipv4_with(
    src: u32,
    dst: u32,
    proto: u8,
    options: &[u8],
    fragment: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().div_ceil(4) * 4, 0);
    let header_len = 20 + options.len();
    let mut out = vec![0x40 | (header_len / 4) as u8, 0];
    out.extend(((header_len + payload.len()) as u16).to_be_bytes());
    out.extend([0x12, 0x34]);
    out.extend(fragment.to_be_bytes());
    out.extend([64, proto, 0xab, 0xcd]);
    out.extend(src.to_be_bytes());
    out.extend(dst.to_be_bytes());
    out.extend(options);
    out.extend(payload);
    out
}

pub fn ipv4(src: u32, dst: u32, proto: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(src, dst, proto, &[], 0x4000, payload)
}

/// An IPv6 packet with extension headers (type, bytes behind the next-header byte).
pub fn ipv6_with(
    src: u128,
    dst: u128,
    proto: u8,
    extensions: &[(u8, Vec<u8>)],
    payload: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, (_, rest)) in extensions.iter().enumerate() {
        body.push(extensions.get(index + 1).map_or(proto, |next| next.0));
        body.extend(rest);
    }
    body.extend(payload);
    let mut out = vec![0x60, 0x01, 0x23, 0x45];
    out.extend((body.len() as u16).to_be_bytes());
    out.push(extensions.first().map_or(proto, |next| next.0));
    out.push(61);
    out.extend(src.to_be_bytes());
    out.extend(dst.to_be_bytes());
    out.extend(body);
    out
}

/// Random extension headers that are well-formed, none of them a later fragment.
pub fn extensions(rng: &mut Rng) -> Vec<(u8, Vec<u8>)> {
    let mut out = Vec::new();
    if rng.one_in(3) {
        out.push((0, vec![0, 1, 4, 0, 0, 0, 0]));
    }
    if rng.one_in(3) {
        out.push((60, [vec![1], vec![1, 12], vec![0; 12]].concat()));
    }
    if rng.one_in(4) {
        out.push((43, vec![0, 0, 0, 0, 0, 0, 0]));
    }
    if rng.one_in(4) {
        out.push((44, vec![0, 0, rng.next() as u8 & 1, 1, 2, 3, 4]));
    }
    if rng.one_in(4) {
        // Length 4: six words of four bytes.
        out.push((51, [vec![4, 0, 0], vec![7; 20]].concat()));
    }
    out
}

/// What a TCP header says.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    pub src: u16,
    pub dst: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub options: Vec<u8>,
}

impl Tcp {
    pub fn bytes(&self, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().div_ceil(4) * 4, 1);
        let mut out = self.src.to_be_bytes().to_vec();
        out.extend(self.dst.to_be_bytes());
        out.extend(self.seq.to_be_bytes());
        out.extend(self.ack.to_be_bytes());
        out.extend([(((20 + options.len()) / 4) << 4) as u8, self.flags]);
        out.extend([0x20, 0, 0xbe, 0xef, 0, 0]);
        out.extend(options);
        out.extend(payload);
        out
    }
}

pub fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = src.to_be_bytes().to_vec();
    out.extend(dst.to_be_bytes());
    out.extend(((8 + payload.len()) as u16).to_be_bytes());
    out.extend([0xca, 0xfe]);
    out.extend(payload);
    out
}

/// What a header that authenticates stands before.
pub fn authenticated(proto: u8, behind: &[u8]) -> Vec<u8> {
    // Length 4: six words of four bytes.
    [&[proto, 4, 0, 0], &[7; 20][..], behind].concat()
}

pub fn icmp(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0, 1, 2, 0, 7, 0, 1], payload].concat()
}

/// An IP packet of either version, by the addresses.
pub fn ip(src: IpAddr, dst: IpAddr, proto: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(src.into(), dst.into(), proto, payload),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            ipv6_with(src.into(), dst.into(), proto, &[], payload)
        }
        _ => panic!("addresses of one version"),
    }
}

/// A random well-formed frame of any link type, version and transport.
pub fn random_frame(rng: &mut Rng) -> Frame {
    let payload = {
        let len = rng.below(40) as usize;
        rng.bytes(len)
    };
    let (proto, transport) = match rng.below(5) {
        0 | 1 => {
            let options = {
                let len = rng.below(11) as usize * 4;
                rng.bytes(len)
            };
            let (src, dst) = (rng.next() as u16, rng.next() as u16);
            let (seq, ack, flags) = (rng.next() as u32, rng.next() as u32, rng.next() as u8);
            (6, Tcp { src, dst, seq, ack, flags, options }.bytes(&payload))
        }
        2 => (17, udp(rng.next() as u16, rng.next() as u16, &payload)),
        3 => (if rng.one_in(2) { 1 } else { 58 }, icmp(8, &payload)),
        _ => (rng.pick(&[47, 50, 89, 132, 33, 136, 135, 139, 2]), payload),
    };
    let ip = if rng.one_in(2) {
        // What authenticates is stepped over in either family.
        let (proto, transport) = match rng.one_in(6) {
            true => (51, authenticated(proto, &transport)),
            false => (proto, transport),
        };
        let options = {
            let len = rng.below(11) as usize * 4;
            vec![1; len]
        };
        let fragment = rng.pick(&[0, 0x4000, 0x4000, 0x2000, 0x2001]);
        ipv4_with(rng.next() as u32, rng.next() as u32, proto, &options, fragment, &transport)
    } else {
        let (src, dst) = (u128::from(rng.next()) << 64 | 1, u128::from(rng.next()) << 64 | 2);
        let extensions = extensions(rng);
        ipv6_with(src, dst, proto, &extensions, &transport)
    };
    let link = rng.pick(known_links());
    let data = if link == LinkType::Ethernet && rng.one_in(2) {
        let kind = if ip[0] >> 4 == 6 { IPV6 } else { IPV4 };
        let all = [(0x88a8, 0x6064), (0x8100, 0x0fff), (0x8100, 1)];
        ether(&all[rng.below(3) as usize..], kind, &ip)
    } else {
        framed(link, &ip)
    };
    let mut frame = Frame::new(rng.next() >> 8, link, data);
    if rng.one_in(4) {
        frame.data.extend(vec![0; rng.below(20) as usize]); // Padding behind the IP packet.
        frame.orig_len = frame.data.len() as u32;
    }
    frame
}

/// Spoils a frame: flipped bytes, a cut, a length on the wire that says something else.
pub fn mutate(rng: &mut Rng, frame: &mut Frame) {
    for _ in 0..rng.below(4) {
        // Headers are where it hurts.
        let near = (frame.data.len() as u64).clamp(1, 90);
        if let Some(byte) = frame.data.get_mut(rng.below(near) as usize) {
            *byte = if rng.one_in(2) { rng.next() as u8 } else { *byte ^ (1 << rng.below(8)) };
        }
    }
    if rng.one_in(3) {
        frame.data.truncate(rng.below(frame.data.len() as u64 + 1) as usize);
    }
    match rng.below(6) {
        0 => frame.orig_len = rng.below(100) as u32,
        1 => frame.orig_len = rng.next() as u32,
        _ => {}
    }
}
