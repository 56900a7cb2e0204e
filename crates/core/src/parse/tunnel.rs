//! Tunnels: from a packet to the one that it carries.
//!
//! An IP protocol says for sure that it is a tunnel; a UDP port only hints at it. So what a
//! datagram carries must be plausible besides: the tunnel's header as its specification has it, and
//! an inner IP header whose lengths fit. In all other cases the packet stands for itself, as one of
//! its outer flow: no packet is refused for a port that it uses, nor for what a tunnel carries
//! besides IP.
//!
//! A first fragment of an outer packet belongs to the inner flow, whose headers it has; the later
//! ones have none and are refused, as those of any packet. A frame that was cut inside the inner
//! headers is refused as a plain one would be, since its flow cannot be known. Where the cut is
//! before them, in the header of a UDP tunnel, nothing tells the tunnel from a plain datagram, and
//! so it is taken for one.

use super::link::{self, IPV4, IPV6, Next};
use super::network::{self, Room};
use super::transport::UDP;
use super::{Layer, Network, Reject, be16, be32};

const IPV4_IN_IP: u8 = 4;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;

const VXLAN: u16 = 4789;
/// What Linux and several virtual switches took for VXLAN before it had a number.
const VXLAN_EARLY: u16 = 8472;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;
const GTP_USER: u16 = 2152;
const TEREDO: u16 = 3544;
const MPLS_IN_UDP: u16 = 6635;
/// The ports that datagrams through tunnels are sent to; Teredo's is the source of answers, too.
pub const PORTS: [u16; 7] = [VXLAN, VXLAN_EARLY, VXLAN_GPE, GENEVE, GTP_USER, TEREDO, MPLS_IN_UDP];

/// Transparent Ethernet bridging: what GRE and Geneve call an Ethernet frame.
const BRIDGED: u16 = 0x6558;
/// ERSPAN of type I and II.
const ERSPAN: u16 = 0x88be;
const ERSPAN_3: u16 = 0x22eb;
/// PPP in the GRE of PPTP.
const PPP: u16 = 0x880b;

/// Far above what GTP-U is used with, which is one or two.
const MOST_GTP_EXTENSIONS: usize = 8;

/// What a tunnel carries.
struct Carried {
    next: Next,
    offset: usize,
    /// Offset behind its last byte, as lengths say: behind what the frame brings of it where the
    /// outer packet is the first of several fragments, and [`OPEN`] where nothing says.
    end: usize,
}

/// The end of what is in fragments and has no length of its own.
const OPEN: usize = usize::MAX;

/// The capture ends inside the tunnel's own header.
struct Cut;

/// A multiplier that gives each of [`PORTS`] a slot of its own: any that does, found by trying.
const PARTING: u32 = 0xd47e_5029;
const _: () = assert!(all_parted(), "another multiplier is needed for these ports");

/// The ports by slot, so that a look at one slot tells whether a port is among them.
const SLOTS: [u16; 8] = {
    let (mut slots, mut index) = ([0; 8], 0);
    while index < PORTS.len() {
        slots[slot(PORTS[index])] = PORTS[index];
        index += 1;
    }
    slots
};

const fn slot(port: u16) -> usize {
    ((port as u32).wrapping_mul(PARTING) >> 29) as usize
}

const fn all_parted() -> bool {
    let (mut taken, mut index) = (0_u32, 0);
    while index < PORTS.len() {
        taken |= 1 << slot(PORTS[index]);
        index += 1;
    }
    taken.count_ones() as usize == PORTS.len()
}

/// Whether a datagram with these ports may be a tunnel's, in a few instructions and without a
/// branch.
#[inline]
pub(super) fn may_be_tunnel(src_port: u16, dst_port: u16) -> bool {
    (SLOTS[slot(dst_port)] == dst_port) | (src_port == TEREDO)
}

/// The packet that another one carries, if it carries one that can be read.
///
/// # Errors
/// When it carries a packet that belongs to no flow.
pub(super) fn inside(data: &[u8], outer: &Layer) -> Result<Option<Layer>, Reject> {
    // Bytes behind the IP packet are padding.
    let data = &data[..data.len().min(outer.wire)];
    let is_udp = outer.network.proto == UDP;
    let carried = match carried(data, outer) {
        Ok(None) => return Ok(None),
        Ok(Some(carried)) => carried,
        Err(Cut) if !is_udp && data.len() < outer.wire => {
            return Err(Reject::TruncatedNetwork);
        }
        Err(Cut) => return Ok(None),
    };
    let data = &data[..data.len().min(carried.end)];
    let room = Room { wire: outer.wire.min(carried.end), limit: carried.end };
    let was_cut = data.len() < room.wire;
    match read(data, &carried, room, is_udp) {
        Err(Reject::TruncatedLink | Reject::TruncatedNetwork) if !was_cut => Ok(None),
        Err(Reject::NotIp | Reject::BadIpVersion | Reject::BadIpLength) => Ok(None),
        layer => layer.map(Some),
    }
}

/// Reads what a tunnel carries. If it `must_fit`, then by its lengths.
fn read(data: &[u8], carried: &Carried, room: Room, must_fit: bool) -> Result<Layer, Reject> {
    let ip = link::down(data, carried.end, carried.next, carried.offset)?;
    if must_fit && network::fits(data, ip.offset, carried.end) == Some(false) {
        return Err(Reject::BadIpLength);
    }
    Layer::read(data, &ip, room)
}

fn carried(data: &[u8], outer: &Layer) -> Result<Option<Carried>, Cut> {
    let network = &outer.network;
    let (offset, end) = (network.transport_at, end_of(network));
    match network.proto {
        IPV4_IN_IP => Ok(Some(Carried { next: IPV4, offset, end })),
        IPV6_IN_IP => Ok(Some(Carried { next: IPV6, offset, end })),
        GRE => gre(data, offset, end),
        UDP => datagram(data, outer),
        _ => Ok(None),
    }
}

/// Where what an IP packet carries ends, unless it says so itself.
fn end_of(network: &Network) -> usize {
    if network.is_fragment { OPEN } else { network.end }
}

fn word(data: &[u8], at: usize) -> Result<u32, Cut> {
    be32(data, at).ok_or(Cut)
}

fn half(data: &[u8], at: usize) -> Result<u16, Cut> {
    be16(data, at).ok_or(Cut)
}

/// What a number names that is an EtherType or that of bridging.
fn named(kind: u16) -> Option<Next> {
    match kind {
        BRIDGED => Some(Next::Ethernet),
        // Below are lengths, and no types.
        0..0x600 => None,
        kind => Some(Next::EtherType(kind)),
    }
}

/// GRE with checksum, key and sequence number (RFC 2784, 2890); in version 1 that of PPTP (RFC
/// 2637).
fn gre(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    const CHECKSUM: u32 = 0x8000;
    const KEY: u32 = 0x2000;
    const SEQUENCE: u32 = 0x1000;
    const ACKNOWLEDGED: u32 = 0x0080;
    /// In version 0 what RFC 1701 made of the first bits: a source route and its like. The bits
    /// behind them are reserved, and ignored on receipt.
    const ROUTED: u32 = 0x4c00;
    let head = word(data, at)?;
    let (flags, kind) = (head >> 16, head as u16);
    let fields = |all: u32| (flags & all).count_ones() as usize * 4;
    match flags & 7 {
        0 if flags & ROUTED == 0 => {
            let offset = at + 4 + fields(CHECKSUM | KEY | SEQUENCE);
            match kind {
                ERSPAN | ERSPAN_3 => erspan(data, kind, flags & SEQUENCE != 0, offset, end),
                kind => Ok(named(kind).map(|next| Carried { next, offset, end })),
            }
        }
        // Without a sequence number it is an acknowledgement alone, and carries nothing.
        1 if flags & !ACKNOWLEDGED == KEY | SEQUENCE | 1 && kind == PPP => {
            let offset = at + 8 + fields(SEQUENCE | ACKNOWLEDGED);
            let end = end.min(offset + usize::from(half(data, at + 4)?));
            Ok(Some(Carried { next: Next::Ppp, offset, end }))
        }
        _ => Ok(None),
    }
}

/// A mirrored frame: without a header, with one of 8 bytes, or with one of 12 or 20.
fn erspan(
    data: &[u8],
    kind: u16,
    has_sequence: bool,
    offset: usize,
    end: usize,
) -> Result<Option<Carried>, Cut> {
    let frame = |offset| Ok(Some(Carried { next: Next::Ethernet, offset, end }));
    if kind == ERSPAN && !has_sequence {
        return frame(offset);
    }
    match (kind, half(data, offset)? >> 12) {
        (ERSPAN, 1) => frame(offset + 8),
        (ERSPAN_3, 2) => {
            let flags = half(data, offset + 10)?;
            let offset = offset + if flags & 1 == 1 { 20 } else { 12 };
            match flags >> 10 & 0x1f {
                0 => frame(offset),
                2 => Ok(Some(Carried { next: Next::Ip, offset, end })),
                _ => Ok(None),
            }
        }
        _ => Ok(None),
    }
}

fn datagram(data: &[u8], outer: &Layer) -> Result<Option<Carried>, Cut> {
    let (src_port, dst_port) = (outer.transport.src_port, outer.transport.dst_port);
    if !may_be_tunnel(src_port, dst_port) {
        return Ok(None);
    }
    let (start, limit) = (outer.network.transport_at, end_of(&outer.network));
    let at = start + 8;
    // Segmentation offload and jumbograms leave a length of 0.
    let end = match half(data, start + 4)? {
        0 => outer.network.end,
        len => start + usize::from(len),
    };
    if end < at || end > limit {
        return Ok(None);
    }
    match dst_port {
        VXLAN | VXLAN_EARLY => vxlan(data, at, end),
        VXLAN_GPE => vxlan_gpe(data, at, end),
        GENEVE => geneve(data, at, end),
        GTP_USER => gtp_user(data, at, end),
        // A label at least, or nothing tells it from any other datagram.
        MPLS_IN_UDP => {
            word(data, at).map(|_| Some(Carried { next: Next::Labels, offset: at, end }))
        }
        _ if dst_port == TEREDO || src_port == TEREDO => teredo(data, at, end),
        _ => Ok(None),
    }
}

/// RFC 7348: flag I. What else there is, is reserved or an extension's, and ignored on receipt.
fn vxlan(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    let flags = word(data, at)?;
    // The network's number means nothing here, but belongs to the header.
    word(data, at + 4)?;
    let has_network = flags & 0x0800_0000 != 0;
    Ok(has_network.then_some(Carried { next: Next::Ethernet, offset: at + 8, end }))
}

/// The generic protocol extension: flag P, version 0, no flag O, and what the header names.
fn vxlan_gpe(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    let flags = word(data, at)?;
    word(data, at + 4)?;
    let next = match flags as u8 {
        1 => IPV4,
        2 => IPV6,
        3 => Next::Ethernet,
        5 => Next::Labels,
        _ => return Ok(None),
    };
    let is_sound = flags & 0x3500_0000 == 0x0400_0000;
    Ok(is_sound.then_some(Carried { next, offset: at + 8, end }))
}

/// RFC 8926: version 0, no control packet, options stepped over.
fn geneve(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    let head = word(data, at)?;
    word(data, at + 4)?;
    let offset = at + 8 + (head >> 24 & 0x3f) as usize * 4;
    let is_sound = head & 0xc080_0000 == 0 && offset <= end;
    Ok(named(head as u16).filter(|_| is_sound).map(|next| Carried { next, offset, end }))
}

/// 3GPP TS 29.281: version 1 of GTP and not GTP', a user's packet, optional fields stepped over.
fn gtp_user(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    const USER_PACKET: u32 = 0xff;
    let head = word(data, at)?;
    // The tunnel's number means nothing here, but belongs to the header.
    word(data, at + 4)?;
    let (flags, said) = (head >> 24, at + 8 + (head & 0xffff) as usize);
    // The fifth bit is spare, and not to be looked at.
    if flags & 0xf0 != 0x30 || head >> 16 & 0xff != USER_PACKET || said > end {
        return Ok(None);
    }
    let mut offset = at + 8;
    if flags & 7 != 0 {
        let mut extension = *data.get(at + 11).ok_or(Cut)?;
        offset += 4;
        if flags & 4 == 0 {
            extension = 0;
        }
        for _ in 0..MOST_GTP_EXTENSIONS {
            if extension == 0 {
                break;
            }
            let words = usize::from(*data.get(offset).ok_or(Cut)?);
            if words == 0 {
                return Ok(None);
            }
            offset += words * 4;
            extension = *data.get(offset - 1).ok_or(Cut)?;
        }
        if extension != 0 {
            return Ok(None);
        }
    }
    Ok(Some(Carried { next: Next::Ip, offset, end: end.min(said) }))
}

/// RFC 4380: an IPv6 packet that takes up the datagram to its end, perhaps behind an authentication
/// and the origin's address.
fn teredo(data: &[u8], at: usize, end: usize) -> Result<Option<Carried>, Cut> {
    let mut offset = at;
    if half(data, offset)? == 1 {
        let lengths = half(data, offset + 2)?;
        offset += 13 + usize::from(lengths >> 8) + usize::from(lengths & 0xff);
    }
    if half(data, offset)? == 0 {
        offset += 8;
    }
    let is_v6 = half(data, offset)? >> 12 == 6;
    let fills = offset + 40 + usize::from(half(data, offset + 4)?) == end;
    Ok((is_v6 && fills).then_some(Carried { next: IPV6, offset, end }))
}
