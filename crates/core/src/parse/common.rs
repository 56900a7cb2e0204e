//! The frames that most traffic consists of, in one go: untagged Ethernet, IPv4 without options or
//! IPv6 without extensions, TCP or UDP, with every header whole.
//!
//! Whatever is odd in the least, or may be a tunnel that the rules look into, is left to the steps
//! of the general parser, and what is answered here is what they would answer: the tests of both
//! hold them to each other.

use super::{Header, HeaderSpan, KeyRules, Parsed, Tunnels, tunnel};
use crate::key::FlowKey;
use crate::packet::{LinkType, Packet};

const IP_AT: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
/// EtherType of IPv4, then version 4 and a header of five words.
const IPV4_PLAIN: [u8; 3] = [0x08, 0x00, 0x45];
/// EtherType of IPv6.
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Bytes of a transport header that are read: all of TCP's, and of UDP's payload what stands there.
const READ: usize = 20;

fn be16<const N: usize>(bytes: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32<const N: usize>(bytes: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Parses a frame of a common kind; false when it is of another, and `parsed` then means nothing.
///
/// The result is written where it stays: a structure of small fields that is copied as soon as it
/// was made costs more than all the rest, since the processor cannot hand narrow stores to wide
/// loads.
#[inline]
pub(super) fn parse(packet: &Packet<'_>, rules: KeyRules, parsed: &mut Parsed) -> bool {
    let Some(head) = packet.data.first_chunk::<{ IP_AT + 1 }>() else { return false };
    if packet.link != LinkType::Ethernet {
        false
    } else if head[12..15] == IPV4_PLAIN {
        ipv4(packet, rules, parsed)
    } else if head[12..14] == IPV6 && head[14] >> 4 == 6 {
        ipv6(packet, rules, parsed)
    } else {
        false
    }
}

#[inline]
fn ipv4(packet: &Packet<'_>, rules: KeyRules, parsed: &mut Parsed) -> bool {
    let Some(head) = packet.data.first_chunk::<{ IP_AT + IPV4_LEN + READ }>() else { return false };
    let total = be16(head, IP_AT + 2);
    let is_fragment = be16(head, IP_AT + 6) & 0x1fff != 0;
    let (behind_ip, too_short) = total.overflowing_sub(IPV4_LEN as u16);
    let proto = head[IP_AT + 9];
    let transport: &[u8; READ] = head.last_chunk().expect("the chunk ends in it");
    if is_fragment
        || too_short
        || !behind(packet, proto, transport, behind_ip, Header::Ipv4, parsed)
    {
        return false;
    }
    if leads_inside(rules, proto, transport) {
        return false;
    }
    let (src, dst) = (be32(head, IP_AT + 12), be32(head, IP_AT + 16));
    let (from, to) = ((src, be16(transport, 0)), (dst, be16(transport, 2)));
    (parsed.key, parsed.sender_is_low) = FlowKey::of_ipv4(from, to, proto);
    parsed.size = total;
    true
}

#[inline]
fn ipv6(packet: &Packet<'_>, rules: KeyRules, parsed: &mut Parsed) -> bool {
    let Some(head) = packet.data.first_chunk::<{ IP_AT + IPV6_LEN + READ }>() else { return false };
    let behind_ip = be16(head, IP_AT + 4);
    let (size, too_long) = behind_ip.overflowing_add(IPV6_LEN as u16);
    let proto = head[IP_AT + 6];
    let transport: &[u8; READ] = head.last_chunk().expect("the chunk ends in it");
    if too_long || !behind(packet, proto, transport, behind_ip, Header::Ipv6, parsed) {
        return false;
    }
    if leads_inside(rules, proto, transport) {
        return false;
    }
    let half = |at| u64::from(be32(head, at)) << 32 | u64::from(be32(head, at + 4));
    let (src, dst) = ([half(IP_AT + 8), half(IP_AT + 16)], [half(IP_AT + 24), half(IP_AT + 32)]);
    let (from, to) = ((src, be16(transport, 0)), (dst, be16(transport, 2)));
    (parsed.key, parsed.sender_is_low) = FlowKey::of_ipv6(from, to, proto);
    parsed.size = size;
    true
}

/// Whether the rules may want what a datagram carries. The ports come first, since they nearly
/// always say no, which a branch predictor learns; whether it is TCP or UDP it does not.
#[inline]
fn leads_inside(rules: KeyRules, proto: u8, transport: &[u8; READ]) -> bool {
    tunnel::may_be_tunnel(be16(transport, 0), be16(transport, 2))
        && proto == UDP
        && rules.tunnels == Tunnels::Inner
}

/// The transport header behind a plain IP header, given how many bytes stood there on the wire.
#[inline]
fn behind(
    packet: &Packet<'_>,
    proto: u8,
    head: &[u8; READ],
    behind_ip: u16,
    network: Header,
    parsed: &mut Parsed,
) -> bool {
    let network_len = if network == Header::Ipv4 { IPV4_LEN } else { IPV6_LEN };
    let at = IP_AT + network_len;
    let captured = packet.data.len();
    let is_tcp = proto == TCP;
    // All that the IP header speaks of was on the wire.
    let is_whole = at + usize::from(behind_ip) <= captured.max(packet.orig_len as usize);
    // TCP or UDP is another coin's toss: both are read, and one is taken.
    let word = be16(head, 12);
    let (header, least) = if is_tcp { (Header::Tcp, 20) } else { (Header::Udp, 8) };
    let len = if is_tcp { (word >> 12) * 4 } else { 8 };
    let fits = least <= len && len <= behind_ip && at + usize::from(len) <= captured;
    if !(is_whole && fits && (is_tcp || proto == UDP)) {
        return false;
    }
    parsed.network = HeaderSpan { header: network, offset: IP_AT as u32, len: network_len as u8 };
    parsed.transport = Some(HeaderSpan { header, offset: at as u32, len: len as u8 });
    parsed.tcp_flags = if is_tcp { word as u8 } else { 0 };
    parsed.tcp_seq = if is_tcp { be32(head, 4) } else { 0 };
    parsed.payload = behind_ip - len;
    true
}
