//! Link layer: down to the first byte of the IP header.
//!
//! What carries IP carries other links, too: MPLS an Ethernet frame, PPPoE a PPP frame. So each
//! header says what stands behind it, and the way down is a loop over these words.

use super::numbers::{
    ETHER_IPV4, ETHER_IPV6, ETHER_MPLS, ETHER_PPPOE, ETHER_TAGS, MOST_STEPS, MOST_TAGS,
};
use super::{Reject, be16, be32, network};
use crate::packet::{LinkType, Packet};

/// Where the IP header starts.
pub(super) struct Inner {
    pub(super) offset: usize,
    /// The IP version that the header before it announced, when it did.
    pub(super) version: Option<u8>,
    /// The outermost VLAN id.
    pub(super) vlan: Option<u16>,
}

/// What stands at an offset, as the header before it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// What an EtherType names.
    EtherType(u16),
    /// An Ethernet header.
    Ethernet,
    /// A PPP frame.
    Ppp,
    /// A stack of MPLS labels.
    Labels,
    /// An IP header of either version.
    Ip,
}

/// MPLS with a label of the next hop, and of a group.
const MPLS_UNICAST: u16 = ETHER_MPLS[0];
const MPLS_MULTICAST: u16 = ETHER_MPLS[1];

pub(super) const IPV4: Next = Next::EtherType(ETHER_IPV4);
pub(super) const IPV6: Next = Next::EtherType(ETHER_IPV6);

pub(super) fn parse(packet: &Packet<'_>, wire: usize) -> Result<Inner, Reject> {
    let data = packet.data;
    let (link, at) = packet.named_link().ok_or(Reject::TruncatedLink)?;
    match link {
        LinkType::Ethernet => down(data, wire, Next::Ethernet, at),
        LinkType::LinuxSll => ether_type(data, wire, at + 14, at + 16),
        // The version 2 cooked header starts with the protocol and is 20 bytes long.
        LinkType::LinuxSll2 => ether_type(data, wire, at, at + 20),
        LinkType::RawIp => Ok(Inner { offset: at, version: None, vlan: None }),
        LinkType::Null | LinkType::Loop => loopback(data, link, at),
        // Cisco's framing on what is else a PPP line.
        LinkType::Ppp if !matches!(be16(data, at), Some(0x0f00 | 0x8f00)) => {
            down(data, wire, Next::Ppp, at)
        }
        LinkType::Ppp | LinkType::CiscoHdlc => ether_type(data, wire, at + 2, at + 4),
        LinkType::FrameRelay => {
            let (next, at) = frame_relay(data, at)?;
            down(data, wire, next, at)
        }
        LinkType::Nflog => nflog(data, wire, at),
        LinkType::Ppi | LinkType::Pktap(_) | LinkType::Unsupported(_) => {
            Err(Reject::UnsupportedLink)
        }
    }
}

/// Reads the EtherType at `at` and goes on behind the header.
fn ether_type(data: &[u8], wire: usize, at: usize, behind: usize) -> Result<Inner, Reject> {
    let kind = be16(data, at).ok_or(Reject::TruncatedLink)?;
    down(data, wire, Next::EtherType(kind), behind)
}

/// Steps over everything that stands above an IP header. `wire` is where the frame, or what carries
/// it, ends on the wire.
pub(super) fn down(
    data: &[u8],
    wire: usize,
    mut next: Next,
    mut offset: usize,
) -> Result<Inner, Reject> {
    let (mut vlan, mut tags) = (None, 0);
    for _ in 0..MOST_STEPS {
        let version = match next {
            Next::Ip => None,
            IPV4 => Some(4),
            IPV6 => Some(6),
            Next::EtherType(kind) if is_tag(kind) => {
                let tag = be16(data, offset).ok_or(Reject::TruncatedLink)?;
                // VLAN 0 is a priority tag (IEEE 802.1Q): the frame belongs to no VLAN.
                vlan = vlan.or(Some(tag & 0x0fff).filter(|&id| id != 0));
                next = Next::EtherType(be16(data, offset + 2).ok_or(Reject::TruncatedLink)?);
                offset += 4;
                tags += 1;
                if tags > MOST_TAGS {
                    return Err(Reject::TooManyHeaders);
                }
                continue;
            }
            _ => {
                (next, offset) = step(data, wire, next, offset)?;
                continue;
            }
        };
        return Ok(Inner { offset, version, vlan });
    }
    Err(Reject::TooManyHeaders)
}

fn is_tag(kind: u16) -> bool {
    ETHER_TAGS.contains(&kind)
}

/// Steps over one header that is no tag.
fn step(data: &[u8], wire: usize, next: Next, at: usize) -> Result<(Next, usize), Reject> {
    match next {
        Next::Ethernet => {
            let kind = be16(data, at + 12).ok_or(Reject::TruncatedLink)?;
            Ok((Next::EtherType(kind), at + 14))
        }
        Next::Labels | Next::EtherType(MPLS_UNICAST | MPLS_MULTICAST) => label(data, wire, at),
        Next::EtherType(ETHER_PPPOE) => match be16(data, at) {
            // Version 1, type 1, code 0.
            Some(0x1100) => Ok((Next::Ppp, at + 6)),
            Some(_) => Err(Reject::NotIp),
            None => Err(Reject::TruncatedLink),
        },
        // Below 0x600 it is an 802.3 length: LLC, perhaps with a SNAP header that names IP.
        Next::EtherType(length) if length < 0x600 => snap(data, at),
        Next::Ppp => ppp(data, at),
        Next::EtherType(_) | Next::Ip => Err(Reject::NotIp),
    }
}

/// RFC 1042: `aa aa 03 00 00 00` and an EtherType.
fn snap(data: &[u8], at: usize) -> Result<(Next, usize), Reject> {
    let is_snap = data.get(at..at + 6) == Some(&[0xaa, 0xaa, 3, 0, 0, 0]);
    match be16(data, at + 6) {
        Some(kind @ (ETHER_IPV4 | ETHER_IPV6)) if is_snap => Ok((Next::EtherType(kind), at + 8)),
        _ => Err(Reject::NotIp),
    }
}

/// A PPP frame (RFC 1661): the protocol in two bytes, or in one, which then is odd. Address and
/// control bytes stand before it where they were not negotiated away.
fn ppp(data: &[u8], at: usize) -> Result<(Next, usize), Reject> {
    let at = if be16(data, at) == Some(0xff03) { at + 2 } else { at };
    let first = *data.get(at).ok_or(Reject::TruncatedLink)?;
    let (proto, behind) = if first & 1 == 1 {
        (u16::from(first), at + 1)
    } else {
        (be16(data, at).ok_or(Reject::TruncatedLink)?, at + 2)
    };
    match proto {
        0x0021 => Ok((IPV4, behind)),
        0x0057 => Ok((IPV6, behind)),
        0x0281 | 0x0283 => Ok((Next::Labels, behind)),
        _ => Err(Reject::NotIp),
    }
}

/// One MPLS label (RFC 3032). The last of a stack says so, but not what it stands for: that is
/// known to the routers, and to be guessed from what stands behind.
fn label(data: &[u8], wire: usize, at: usize) -> Result<(Next, usize), Reject> {
    let entry = be32(data, at).ok_or(Reject::TruncatedLink)?;
    let at = at + 4;
    if entry & 0x100 == 0 {
        return Ok((Next::Labels, at));
    }
    match data.get(at).map(|byte| byte >> 4) {
        // Some Ethernet addresses begin with these digits, too, but then no lengths fit.
        Some(4 | 6) if network::fits(data, at, wire) == Some(false) && is_frame(data, wire, at) => {
            Ok((Next::Ethernet, at))
        }
        None | Some(4 | 6) => Ok((Next::Ip, at)),
        // The control word of an Ethernet pseudowire (RFC 4448) begins with four bits 0.
        Some(0) if is_frame(data, wire, at + 4) => Ok((Next::Ethernet, at + 4)),
        Some(_) if is_frame(data, wire, at) => Ok((Next::Ethernet, at)),
        Some(_) => Err(Reject::NotIp),
    }
}

/// Whether this is certainly an Ethernet frame: one whose EtherType names what really stands there.
fn is_frame(data: &[u8], wire: usize, at: usize) -> bool {
    let mut at = at + 12;
    for _ in 0..=MOST_TAGS {
        match be16(data, at) {
            Some(kind) if is_tag(kind) => at += 4,
            Some(kind @ (ETHER_IPV4 | ETHER_IPV6)) => {
                let version = if kind == ETHER_IPV4 { 4 } else { 6 };
                let is_version = data.get(at + 2).is_some_and(|byte| byte >> 4 == version);
                return is_version && network::fits(data, at + 2, wire) == Some(true);
            }
            Some(ETHER_PPPOE) => return be16(data, at + 2) == Some(0x1100),
            _ => return false,
        }
    }
    false
}

/// A four-byte address family. LINKTYPE_NULL is in the byte order of the capturing machine; a
/// family is a small number, so the order that makes it small is the right one.
fn loopback(data: &[u8], link: LinkType, at: usize) -> Result<Inner, Reject> {
    let family = be32(data, at).ok_or(Reject::TruncatedLink)?;
    let swapped = link == LinkType::Null && family > 0xffff;
    let family = if swapped { family.swap_bytes() } else { family };
    let version = match family {
        2 => 4,
        // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        10 | 24 | 28 | 30 => 6,
        // Some write an EtherType into the last two bytes.
        _ => match be16(data, at + 2) {
            Some(ETHER_IPV4) => 4,
            Some(ETHER_IPV6) => 6,
            _ => return Err(Reject::NotIp),
        },
    };
    Ok(Inner { offset: at + 4, version: Some(version), vlan: None })
}

/// A Frame Relay address (Q.922), whose last byte is odd, then a control byte and a protocol (RFC
/// 2427), or in Cisco's framing an EtherType.
fn frame_relay(data: &[u8], at: usize) -> Result<(Next, usize), Reject> {
    const UNNUMBERED: u8 = 3;
    let byte = |at: usize| data.get(at).copied().ok_or(Reject::TruncatedLink);
    let mut behind = at + 2;
    while byte(behind - 1)? & 1 == 0 {
        behind += 1;
        if behind > at + 4 {
            return Err(Reject::NotIp);
        }
    }
    if byte(behind)? != UNNUMBERED {
        let kind = be16(data, behind).ok_or(Reject::TruncatedLink)?;
        return Ok((Next::EtherType(kind), behind + 2));
    }
    // A byte of padding may stand before the protocol.
    let at = if byte(behind + 1)? == 0 { behind + 2 } else { behind + 1 };
    match byte(at)? {
        0xcc => Ok((IPV4, at + 1)),
        0x8e => Ok((IPV6, at + 1)),
        0xcf => Ok((Next::Ppp, at + 1)),
        0x80 => {
            let owner = be32(data, at).ok_or(Reject::TruncatedLink)? & 0xff_ffff;
            let kind = be16(data, at + 4).ok_or(Reject::TruncatedLink)?;
            match (owner, kind) {
                (0, kind) => Ok((Next::EtherType(kind), at + 6)),
                // A bridged Ethernet frame, with its check sequence or without.
                (0x80c2, 1 | 7) => Ok((Next::Ethernet, at + 6)),
                _ => Err(Reject::NotIp),
            }
        }
        _ => Err(Reject::NotIp),
    }
}

/// A netfilter log: the family, then attributes in the byte order of the machine that wrote them,
/// padded to words. Kinds are small numbers, so the order that makes the first one small is the
/// right one.
fn nflog(data: &[u8], wire: usize, at: usize) -> Result<Inner, Reject> {
    const PAYLOAD: u16 = 9;
    let version = match data.get(at).ok_or(Reject::TruncatedLink)? {
        2 => Some(4),
        10 => Some(6),
        _ => None,
    };
    let mut at = at + 4;
    let is_big = be16(data, at + 2).is_some_and(|kind| kind < 0x100);
    let half = |at| be16(data, at).map(|half| if is_big { half } else { half.swap_bytes() });
    // Each attribute takes four bytes at least.
    while at < wire {
        let (len, kind) = half(at).zip(half(at + 2)).ok_or(Reject::TruncatedLink)?;
        if kind == PAYLOAD {
            return Ok(Inner { offset: at + 4, version, vlan: None });
        }
        if len < 4 {
            return Err(Reject::NotIp);
        }
        at += usize::from(len).next_multiple_of(4);
    }
    Err(Reject::NotIp)
}
