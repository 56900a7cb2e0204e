//! From a frame to its flow key and headers, or a counted reason why not.
//!
//! Steps, never their product: link (down to the IP header), network (IPv4 or IPv6 down to the
//! transport header), transport; and where the packet is a tunnel's and the rules want the inner
//! one, from there to the link or the network once more. MPLS and PPPoE stand above IP and belong
//! to the link. A frame cut by the snaplen is parsed as far as its bytes go: it is enough that the
//! ports were captured.

mod common;
mod link;
mod network;
pub mod numbers;
mod rules;
mod transport;
mod tunnel;

pub use rules::{KeyRules, Tunnels};
pub use tunnel::PORTS as TUNNEL_PORTS;

use crate::key::{Endpoint, FlowKey};
use crate::packet::Packet;
use link::Inner;
use network::Room;
use transport::Transport;

/// Why a packet could not be put into a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reject {
    /// The frame's link type is none of those that can be parsed.
    UnsupportedLink,
    /// The capture ends inside the link header.
    TruncatedLink,
    /// The frame carries no IP (ARP, LLDP, 802.3 without IP, ...).
    NotIp,
    /// The IP version nibble is neither 4 nor 6, or not the one that the link header announced.
    BadIpVersion,
    /// The capture ends inside the IP header or its extension headers.
    TruncatedNetwork,
    /// An IP length field contradicts itself (header shorter than 20 bytes, longer than the
    /// packet).
    BadIpLength,
    /// More VLAN tags, MPLS labels, IPv6 extension headers or tunnels than a sane packet carries.
    TooManyHeaders,
    /// A fragment other than the first: it carries no ports.
    LaterFragment,
    /// The capture ends before the ports.
    TruncatedTransport,
    /// The packet itself is too short for its transport header, or the header length is impossible.
    BadTransport,
    /// The packet begins a flow for which the engine has no memory. The parser never says so.
    NoMemory,
}

impl Reject {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 11] = [
        Self::UnsupportedLink,
        Self::TruncatedLink,
        Self::NotIp,
        Self::BadIpVersion,
        Self::TruncatedNetwork,
        Self::BadIpLength,
        Self::TooManyHeaders,
        Self::LaterFragment,
        Self::TruncatedTransport,
        Self::BadTransport,
        Self::NoMemory,
    ];

    /// The reason as outputs spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsupportedLink => "unsupported_link",
            Self::TruncatedLink => "truncated_link",
            Self::NotIp => "not_ip",
            Self::BadIpVersion => "bad_ip_version",
            Self::TruncatedNetwork => "truncated_network",
            Self::BadIpLength => "bad_ip_length",
            Self::TooManyHeaders => "too_many_headers",
            Self::LaterFragment => "later_fragment",
            Self::TruncatedTransport => "truncated_transport",
            Self::BadTransport => "bad_transport",
            Self::NoMemory => "no_memory",
        }
    }
}

/// TCP FIN flag.
pub const FIN: u8 = 0x01;
/// TCP SYN flag.
pub const SYN: u8 = 0x02;
/// TCP RST flag.
pub const RST: u8 = 0x04;
/// TCP ACK flag.
pub const ACK: u8 = 0x10;

/// Which protocol a header section belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// IPv4, options included.
    Ipv4,
    /// IPv6, the fixed 40 bytes.
    Ipv6,
    /// TCP, options included.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP, the first 8 bytes.
    Icmp,
}

impl Header {
    /// All protocols, in the order of the nPrint tool's columns.
    pub const ALL: [Self; 5] = [Self::Ipv4, Self::Ipv6, Self::Tcp, Self::Udp, Self::Icmp];

    /// The protocol as configs and bundles spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }

    /// The protocol of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|header| header.name() == name)
    }
}

/// A header's captured bytes: an offset into the frame and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSpan {
    /// Whose header.
    pub header: Header,
    /// First byte in the frame.
    pub offset: u32,
    /// Captured bytes of the header.
    pub len: u8,
}

impl HeaderSpan {
    /// Where the header stands in the frame.
    #[must_use]
    pub fn range(self) -> std::ops::Range<usize> {
        self.offset as usize..self.offset as usize + usize::from(self.len)
    }
}

/// What the engine needs of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Bidirectional key.
    pub key: FlowKey,
    /// Whether the sender is the endpoint that sorts first in the key.
    pub sender_is_low: bool,
    /// The network header.
    pub network: HeaderSpan,
    /// The transport header, when it is one that features know.
    pub transport: Option<HeaderSpan>,
    /// TCP flags, low eight bits; 0 for other protocols or when not captured.
    pub tcp_flags: u8,
    /// TCP sequence number; 0 for other protocols or when not captured.
    pub tcp_seq: u32,
    /// Bytes of the IP packet on the wire, header included (capped at 65,535).
    pub size: u16,
    /// Bytes behind the transport header on the wire (capped at 65,535).
    pub payload: u16,
}

impl Parsed {
    /// The acknowledgement number of a TCP packet; `data` is its frame.
    #[must_use]
    pub fn acknowledged(&self, data: &[u8]) -> Option<u32> {
        let tcp = self.transport.filter(|section| section.header == Header::Tcp)?;
        be32(data, tcp.offset as usize + 8)
    }
}

impl Default for Parsed {
    /// Nothing of a packet yet.
    fn default() -> Self {
        Self {
            key: FlowKey::default(),
            sender_is_low: false,
            network: HeaderSpan { header: Header::Ipv4, offset: 0, len: 0 },
            transport: None,
            tcp_flags: 0,
            tcp_seq: 0,
            size: 0,
            payload: 0,
        }
    }
}

/// The IP packet inside a frame.
struct Network {
    section: HeaderSpan,
    src: u128,
    dst: u128,
    v6: bool,
    proto: u8,
    /// Offset of the transport header in the frame.
    transport_at: usize,
    /// Offset behind the IP packet's last byte on the wire, frame header included.
    end: usize,
    /// Whether it is the first of several fragments, so that lengths in it speak of more than there
    /// is.
    is_fragment: bool,
}

/// An IP packet with its transport header: that of the frame, or one inside a tunnel.
struct Layer {
    /// Offset of the IP header in the frame.
    at: usize,
    vlan: Option<u16>,
    /// Offset behind the last byte of the IP packet that was on the wire. Its header may speak of
    /// more, where it came in the first of several fragments.
    wire: usize,
    network: Network,
    transport: Transport,
}

impl Layer {
    /// Reads the packet to which a link or a tunnel led, in what room that leaves it.
    fn read(data: &[u8], ip: &Inner, room: Room) -> Result<Self, Reject> {
        let network = network::parse(data, ip.offset, room, ip.version)?;
        let transport = transport::parse(data, &network)?;
        let wire = room.wire.min(network.end);
        Ok(Self { at: ip.offset, vlan: ip.vlan, wire, network, transport })
    }
}

/// Tunnels in tunnels: two or three are seen.
const MOST_TUNNELS: usize = 8;

/// Parses a frame; the rules say whose packet it is.
///
/// # Errors
/// The reason to count when the packet belongs to no flow.
pub fn parse(packet: &Packet<'_>, rules: KeyRules) -> Result<Parsed, Reject> {
    let mut parsed = Parsed::default();
    parse_into(packet, rules, &mut parsed).map(|()| parsed)
}

/// Parses a frame into `parsed`, which means nothing after an error.
///
/// # Errors
/// Those of [`parse`].
#[inline]
pub(crate) fn parse_into(
    packet: &Packet<'_>,
    rules: KeyRules,
    parsed: &mut Parsed,
) -> Result<(), Reject> {
    if !common::parse(packet, rules, parsed) {
        *parsed = parse_any(packet, rules)?;
    }
    Ok(())
}

/// Parses a frame of any kind, step by step.
#[inline(never)]
fn parse_any(packet: &Packet<'_>, rules: KeyRules) -> Result<Parsed, Reject> {
    let wire = (packet.orig_len as usize).max(packet.data.len());
    let room = Room { wire, limit: wire };
    let mut layer = Layer::read(packet.data, &link::parse(packet, wire)?, room)?;
    let mut vlan = layer.vlan;
    if rules.tunnels == Tunnels::Inner {
        let mut tunnels = 0;
        while let Some(inner) = tunnel::inside(packet.data, &layer)? {
            tunnels += 1;
            if tunnels > MOST_TUNNELS {
                return Err(Reject::TooManyHeaders);
            }
            vlan = vlan.or(inner.vlan);
            layer = inner;
        }
    }
    let Layer { at, network, transport, .. } = layer;
    let vlan = if rules.vlan_in_key { vlan } else { None };
    let src = Endpoint { addr: network.src, port: transport.src_port };
    let dst = Endpoint { addr: network.dst, port: transport.dst_port };
    let (key, sender_is_low) = FlowKey::new(src, dst, network.proto, network.v6, vlan);
    Ok(Parsed {
        key,
        sender_is_low,
        network: network.section,
        transport: transport.section,
        tcp_flags: transport.flags,
        tcp_seq: transport.seq,
        size: saturate(network.end - at),
        payload: saturate(network.end.saturating_sub(network.transport_at + transport.header_len)),
    })
}

fn saturate(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// Two bytes in network order, or `None` past the end of the capture.
fn be16(data: &[u8], at: usize) -> Option<u16> {
    let bytes = data.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// Four bytes in network order, or `None` past the end of the capture.
fn be32(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::LinkType;

    /// Deterministic numbers.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// A plain frame of IPv4 or IPv6, TCP or UDP, with `payload` bytes behind its headers.
    fn plain(v6: bool, proto: u8, payload: u8, seed: &mut u64) -> Vec<u8> {
        let header = if proto == 6 { 20 + 4 * (next(seed) % 11) as usize } else { 8 };
        let at = if v6 { 54 } else { 34 };
        let mut frame = vec![0; at + header + usize::from(payload)];
        frame.iter_mut().for_each(|byte| *byte = next(seed) as u8);
        if v6 {
            let behind = (frame.len() - 54) as u16;
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            frame[18..20].copy_from_slice(&behind.to_be_bytes());
            frame[20] = proto;
        } else {
            let total = (frame.len() - 14) as u16;
            frame[12..15].copy_from_slice(&[8, 0, 0x45]);
            frame[16..18].copy_from_slice(&total.to_be_bytes());
            frame[20..22].fill(0);
            frame[23] = proto;
        }
        if proto == 6 {
            frame[at + 12] = (header / 4) as u8 * 16;
        }
        frame
    }

    #[test]
    fn the_common_frame_is_parsed_as_any_other() {
        let mut seed = 3;
        let mut common = [0; 2];
        for round in 0..80_000 {
            let (v6, proto) = (round % 2 == 0, [6, 17, 1][round % 3]);
            let mut data = plain(v6, proto, (next(&mut seed) % 60) as u8, &mut seed);
            // Most frames have a byte or two that are not what they were, some are cut or padded.
            for _ in 0..next(&mut seed) % 3 {
                let at = 12 + next(&mut seed) as usize % 60;
                if let Some(byte) = data.get_mut(at) {
                    *byte = next(&mut seed) as u8;
                }
            }
            if let (0, Some(port)) =
                (next(&mut seed) % 4, data.get_mut(36 + 20 * usize::from(v6)..))
            {
                // Ports of tunnels, to or from.
                let ports = [4789_u16, 8472, 4790, 6081, 2152, 3544, 6635, 4853];
                let chosen = ports[next(&mut seed) as usize % ports.len()].to_be_bytes();
                port[..2].copy_from_slice(&chosen);
            }
            let wire = data.len() as u32;
            match next(&mut seed) % 4 {
                0 => data.truncate(next(&mut seed) as usize % 120),
                1 => data.resize(data.len() + 9, 0),
                _ => {}
            }
            let link = if next(&mut seed).is_multiple_of(20) {
                LinkType::RawIp
            } else {
                LinkType::Ethernet
            };
            let orig_len = if next(&mut seed).is_multiple_of(8) { 0 } else { wire };
            let packet = Packet { ts_ns: 0, orig_len, link, data: &data };
            let mut parsed = Parsed::default();
            let tunnels = Tunnels::ALL[round / 6 % 2];
            if common::parse(&packet, KeyRules::default().with_tunnels(tunnels), &mut parsed) {
                common[usize::from(parsed.network.header == Header::Ipv6)] += 1;
                for vlan_in_key in [true, false] {
                    let rules = KeyRules { vlan_in_key, tunnels };
                    assert_eq!(Ok(parsed), parse_any(&packet, rules), "{data:02x?}");
                }
            }
        }
        assert!(common.iter().all(|&count| count > 10_000), "{common:?} frames were common");
    }
}
