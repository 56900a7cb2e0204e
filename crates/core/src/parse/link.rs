//! Link layer: down to the first byte of the IP header.

use super::{Reject, be16, be32};
use crate::packet::{LinkType, Packet};

/// Where the IP header starts.
pub(super) struct Inner {
    pub(super) offset: usize,
    /// The IP version that the link header announced, when it did.
    pub(super) version: Option<u8>,
    /// The outermost VLAN id.
    pub(super) vlan: Option<u16>,
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Two tags are QinQ; a few more are seen in provider networks.
const MOST_TAGS: usize = 4;

pub(super) fn parse(packet: &Packet<'_>) -> Result<Inner, Reject> {
    let data = packet.data;
    match packet.link {
        LinkType::Ethernet => ether_type(data, 12),
        LinkType::LinuxSll => ether_type(data, 14),
        LinkType::LinuxSll2 => cooked_v2(data),
        LinkType::RawIp => Ok(Inner { offset: 0, version: None, vlan: None }),
        LinkType::Null | LinkType::Loop => loopback(data, packet.link),
        LinkType::Unsupported(_) => Err(Reject::UnsupportedLink),
    }
}

/// Reads the EtherType at `at`, stepping over VLAN tags.
fn ether_type(data: &[u8], at: usize) -> Result<Inner, Reject> {
    let kind = be16(data, at).ok_or(Reject::TruncatedLink)?;
    behind_tags(data, kind, at + 2)
}

/// The version 2 cooked header starts with the protocol and is 20 bytes long.
fn cooked_v2(data: &[u8]) -> Result<Inner, Reject> {
    let kind = be16(data, 0).ok_or(Reject::TruncatedLink)?;
    behind_tags(data, kind, 20)
}

fn behind_tags(data: &[u8], mut kind: u16, mut offset: usize) -> Result<Inner, Reject> {
    let mut vlan = None;
    for _ in 0..=MOST_TAGS {
        let version = match kind {
            IPV4 => 4,
            IPV6 => 6,
            // 802.1Q, 802.1ad, and the two tag types in use before 802.1ad.
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let tag = be16(data, offset).ok_or(Reject::TruncatedLink)?;
                // VLAN 0 is a priority tag (IEEE 802.1Q): the frame belongs to no VLAN.
                vlan = vlan.or(Some(tag & 0x0fff).filter(|&id| id != 0));
                kind = be16(data, offset + 2).ok_or(Reject::TruncatedLink)?;
                offset += 4;
                continue;
            }
            // Below 0x600 it is an 802.3 length: LLC, perhaps with a SNAP header that names IP.
            length if length < 0x600 => return snap(data, offset, vlan),
            _ => return Err(Reject::NotIp),
        };
        return Ok(Inner { offset, version: Some(version), vlan });
    }
    Err(Reject::TooManyHeaders)
}

/// RFC 1042: `aa aa 03 00 00 00` and an EtherType.
fn snap(data: &[u8], offset: usize, vlan: Option<u16>) -> Result<Inner, Reject> {
    let is_snap = data.get(offset..offset + 6) == Some(&[0xaa, 0xaa, 3, 0, 0, 0]);
    let version = match be16(data, offset + 6) {
        Some(IPV4) if is_snap => 4,
        Some(IPV6) if is_snap => 6,
        _ => return Err(Reject::NotIp),
    };
    Ok(Inner { offset: offset + 8, version: Some(version), vlan })
}

/// A four-byte address family. LINKTYPE_NULL is in the byte order of the capturing machine; a
/// family is a small number, so the order that makes it small is the right one.
fn loopback(data: &[u8], link: LinkType) -> Result<Inner, Reject> {
    let family = be32(data, 0).ok_or(Reject::TruncatedLink)?;
    let swapped = link == LinkType::Null && family > 0xffff;
    let family = if swapped { family.swap_bytes() } else { family };
    let version = match family {
        2 => 4,
        // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, macOS.
        10 | 24 | 28 | 30 => 6,
        _ => return Err(Reject::NotIp),
    };
    Ok(Inner { offset: 4, version: Some(version), vlan: None })
}
