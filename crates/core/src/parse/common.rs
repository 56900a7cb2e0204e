//! The frame that most traffic consists of, in one go: untagged Ethernet, IPv4 without options, TCP or
//! UDP, with every header whole.
//!
//! Whatever is odd in the least is left to the steps of the general parser, and what is answered here
//! is what they would answer: the tests of both hold them to each other.

use super::{Header, Parsed, Section};
use crate::key::FlowKey;
use crate::packet::{LinkType, Packet};

const IP_AT: usize = 14;
const IP_LEN: usize = 20;
const TRANSPORT_AT: usize = IP_AT + IP_LEN;
/// EtherType of IPv4, then version 4 and a header of five words.
const IPV4_PLAIN: [u8; 3] = [0x08, 0x00, 0x45];

fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Parses a frame of the common kind; `None` when it is of another.
#[inline]
pub(super) fn parse(packet: &Packet<'_>) -> Option<Parsed> {
    let data = packet.data;
    let head = data.first_chunk::<{ TRANSPORT_AT + 8 }>()?;
    let total = be16(head, IP_AT + 2);
    let is_common = packet.link == LinkType::Ethernet
        && head[12..15] == IPV4_PLAIN
        && be16(head, IP_AT + 6) & 0x1fff == 0
        // All that the header speaks of was on the wire.
        && IP_AT + usize::from(total) <= data.len().max(packet.orig_len as usize);
    if !is_common {
        return None;
    }
    let payload = total.checked_sub(IP_LEN as u16)?;
    let proto = head[IP_AT + 9];
    let (header, len, tcp_flags, tcp_seq) = match proto {
        6 => {
            let tcp = data.get(TRANSPORT_AT..)?.first_chunk::<20>()?;
            let word = be16(tcp, 12);
            (Header::Tcp, (word >> 12) * 4, word as u8, be32(tcp, 4))
        }
        17 => (Header::Udp, 8, 0, 0),
        _ => return None,
    };
    let least = if header == Header::Tcp { 20 } else { 8 };
    if len < least || len > payload || data.len() < TRANSPORT_AT + usize::from(len) {
        return None;
    }
    let (src, dst) = (be32(head, IP_AT + 12), be32(head, IP_AT + 16));
    let ports = be32(head, TRANSPORT_AT);
    let (key, sender_is_low) =
        FlowKey::of_ipv4((src, (ports >> 16) as u16), (dst, ports as u16), proto);
    Some(Parsed {
        key,
        sender_is_low,
        network: Section { header: Header::Ipv4, offset: IP_AT as u32, len: IP_LEN as u8 },
        transport: Some(Section { header, offset: TRANSPORT_AT as u32, len: len as u8 }),
        tcp_flags,
        tcp_seq,
        size: total,
        payload: payload - len,
    })
}
