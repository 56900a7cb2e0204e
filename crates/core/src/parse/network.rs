//! Network layer: IPv4 with options, IPv6 with extension headers, and in both what authenticates.

use super::numbers::{AUTHENTICATION, MOST_EXTENSIONS};
use super::transport::{TCP, UDP};
use super::{Header, HeaderSpan, Network, Reject, be16, be32};

const IPV4_MIN: usize = 20;
const IPV6_LEN: usize = 40;
const SHORTEST_EXTENSION: usize = 8;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;
/// Type of the option that holds a jumbogram's length.
const JUMBO_PAYLOAD: u8 = 0xc2;
/// Bytes behind a header without length that cannot be padding: the shortest Ethernet frame leaves
/// 6, and 10 with its check sequence. Offload brings hundreds.
const LEAST_OFFLOADED: usize = 20;

/// Where the bytes around an IP packet end.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Behind the last byte that was on the wire.
    pub(super) wire: usize,
    /// How far lengths in the packet may reach: further than `wire` where what carries it is the
    /// first of several fragments.
    pub(super) limit: usize,
}

/// Parses the IP packet at `at`.
pub(super) fn parse(
    data: &[u8],
    at: usize,
    room: Room,
    announced: Option<u8>,
) -> Result<Network, Reject> {
    let first = *data.get(at).ok_or(Reject::TruncatedNetwork)?;
    let version = first >> 4;
    if announced.is_some_and(|expected| expected != version) {
        return Err(Reject::BadIpVersion);
    }
    match version {
        4 => ipv4(data, at, room),
        6 => ipv6(data, at, room),
        _ => Err(Reject::BadIpVersion),
    }
}

/// Whether an IP header stands at `at` whose lengths fit into what there is until `end`; `None`
/// when the capture ends before it says.
pub(super) fn fits(data: &[u8], at: usize, end: usize) -> Option<bool> {
    let room = end.saturating_sub(at);
    let first = *data.get(at)?;
    match first >> 4 {
        4 => {
            let (header_len, total) = (usize::from(first & 0x0f) * 4, be16(data, at + 2)?);
            // Segmentation offload leaves a total length of 0.
            let total = if total == 0 { room } else { usize::from(total) };
            Some((IPV4_MIN..=total).contains(&header_len) && total <= room)
        }
        6 => Some(IPV6_LEN + usize::from(be16(data, at + 4)?) <= room),
        _ => Some(false),
    }
}

fn ipv4(data: &[u8], at: usize, room: Room) -> Result<Network, Reject> {
    let fixed = data.get(at..at + IPV4_MIN).ok_or(Reject::TruncatedNetwork)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // Segmentation offload leaves a total length of 0: then the frame's length stands.
    let total = if total == 0 { room.wire - at } else { total.min(room.limit - at) };
    if header_len < IPV4_MIN || header_len > total {
        return Err(Reject::BadIpLength);
    }
    let fragment_offset = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff;
    if fragment_offset != 0 {
        return Err(Reject::LaterFragment);
    }
    let end = at + total;
    let behind = extensions(data, fixed[9], at + header_len, end, is_ipv4_extension)?;
    let captured = header_len.min(data.len() - at);
    Ok(Network {
        section: HeaderSpan { header: Header::Ipv4, offset: at as u32, len: captured as u8 },
        src: u128::from(u32::from_be_bytes([fixed[12], fixed[13], fixed[14], fixed[15]])),
        dst: u128::from(u32::from_be_bytes([fixed[16], fixed[17], fixed[18], fixed[19]])),
        v6: false,
        proto: behind.proto,
        transport_at: behind.transport_at,
        end,
        is_fragment: fixed[6] & 0x20 != 0,
    })
}

fn ipv6(data: &[u8], at: usize, room: Room) -> Result<Network, Reject> {
    let fixed = data.get(at..at + IPV6_LEN).ok_or(Reject::TruncatedNetwork)?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let behind_fixed = at + IPV6_LEN;
    let end = match payload {
        0 => end_without_length(data, fixed[6], behind_fixed, room),
        _ => (behind_fixed + payload).min(room.limit),
    };
    let Behind { proto, transport_at, is_fragment } =
        extensions(data, fixed[6], behind_fixed, end, is_ipv6_extension)?;
    Ok(Network {
        section: HeaderSpan { header: Header::Ipv6, offset: at as u32, len: IPV6_LEN as u8 },
        src: address(&fixed[8..24]),
        dst: address(&fixed[24..40]),
        v6: true,
        proto,
        transport_at,
        end,
        is_fragment,
    })
}

fn address(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u128::from(byte))
}

/// What stands behind the extension headers.
struct Behind {
    proto: u8,
    transport_at: usize,
    is_fragment: bool,
}

/// Where an IPv6 packet ends whose payload length is 0: that of a jumbogram stands in an option
/// (RFC 2675), and segmentation offload leaves it to the frame. Any other one is empty, and what
/// follows it is padding.
fn end_without_length(data: &[u8], next: u8, at: usize, room: Room) -> usize {
    if next == HOP_BY_HOP
        && let Some(len) = jumbo_length(data, at)
    {
        return at.saturating_add(len).min(room.limit);
    }
    let behind = extensions(data, next, at, room.wire, is_ipv6_extension);
    let is_offloaded = behind.is_ok_and(|behind| {
        let len = room.wire.saturating_sub(behind.transport_at);
        matches!(behind.proto, TCP | UDP) && !behind.is_fragment && len >= LEAST_OFFLOADED
    });
    if is_offloaded { room.wire } else { at }
}

/// The length in the jumbo payload option of a hop-by-hop header, if it has one.
fn jumbo_length(data: &[u8], at: usize) -> Option<usize> {
    let end = at + usize::from(*data.get(at + 1)?) * 8 + 8;
    let mut at = at + 2;
    while at < end {
        // A padding byte has neither length nor value.
        if *data.get(at)? == 0 {
            at += 1;
            continue;
        }
        let len = usize::from(*data.get(at + 1)?);
        if data[at] == JUMBO_PAYLOAD && len == 4 && at + 6 <= end {
            return be32(data, at + 2).map(|len| len as usize);
        }
        at += 2 + len;
    }
    None
}

/// What of IPv6 is stepped over (RFC 8200): hop-by-hop, routing, fragment, authentication,
/// destination options, shim6. Mobility and HIP are no wrappings of something else, but protocols
/// of their own.
fn is_ipv6_extension(proto: u8) -> bool {
    matches!(proto, HOP_BY_HOP | 43 | FRAGMENT | AUTHENTICATION | 60 | 140)
}

/// What of IPv4 is stepped over: authentication does not hide what it is of (RFC 4302).
fn is_ipv4_extension(proto: u8) -> bool {
    proto == AUTHENTICATION
}

/// Steps over the headers that a family of IP has before its transport header: where that starts,
/// and its protocol.
fn extensions(
    data: &[u8],
    mut next: u8,
    mut at: usize,
    end: usize,
    is_extension: fn(u8) -> bool,
) -> Result<Behind, Reject> {
    let mut is_fragment = false;
    for _ in 0..=MOST_EXTENSIONS {
        if !is_extension(next) {
            return Ok(Behind { proto: next, transport_at: at, is_fragment });
        }
        if at + SHORTEST_EXTENSION > end {
            return Err(Reject::BadIpLength);
        }
        let len = match next {
            // It counts in words of four bytes.
            AUTHENTICATION => extension_len(data, at)? * 4 + 8,
            FRAGMENT => {
                let offset = be16(data, at + 2).ok_or(Reject::TruncatedNetwork)?;
                if offset & 0xfff8 != 0 {
                    return Err(Reject::LaterFragment);
                }
                be32(data, at + 4).ok_or(Reject::TruncatedNetwork)?;
                is_fragment |= offset & 1 == 1;
                8
            }
            _ => extension_len(data, at)? * 8 + 8,
        };
        next = *data.get(at).ok_or(Reject::TruncatedNetwork)?;
        at += len;
        if at > end {
            return Err(Reject::BadIpLength);
        }
    }
    Err(Reject::TooManyHeaders)
}

fn extension_len(data: &[u8], at: usize) -> Result<usize, Reject> {
    data.get(at + 1).map(|&len| usize::from(len)).ok_or(Reject::TruncatedNetwork)
}
