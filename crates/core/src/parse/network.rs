//! Network layer: IPv4 with options, IPv6 with extension headers.

use super::{Header, Network, Reject, Section, be16, be32};

const IPV4_MIN: usize = 20;
const IPV6_LEN: usize = 40;
/// Far above what RFC 8200 recommends (each header at most once, destination options twice).
const MOST_EXTENSIONS: usize = 16;

/// Parses the IP packet at `at`; `wire` is the frame's length on the wire.
pub(super) fn parse(
    data: &[u8],
    at: usize,
    wire: usize,
    announced: Option<u8>,
) -> Result<Network, Reject> {
    let first = *data.get(at).ok_or(Reject::TruncatedNetwork)?;
    let version = first >> 4;
    if announced.is_some_and(|expected| expected != version) {
        return Err(Reject::BadIpVersion);
    }
    match version {
        4 => ipv4(data, at, wire),
        6 => ipv6(data, at, wire),
        _ => Err(Reject::BadIpVersion),
    }
}

/// Whether an IP header stands at `at` whose lengths fit into what there is until `end`; `None` when the
/// capture ends before it says.
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

fn ipv4(data: &[u8], at: usize, wire: usize) -> Result<Network, Reject> {
    let fixed = data.get(at..at + IPV4_MIN).ok_or(Reject::TruncatedNetwork)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    // Segmentation offload leaves a total length of 0: then the frame's length stands.
    let total = if total == 0 { wire - at } else { total.min(wire - at) };
    if header_len < IPV4_MIN || header_len > total {
        return Err(Reject::BadIpLength);
    }
    let fragment_offset = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff;
    if fragment_offset != 0 {
        return Err(Reject::LaterFragment);
    }
    let captured = header_len.min(data.len() - at);
    Ok(Network {
        section: Section { header: Header::Ipv4, offset: at as u32, len: captured as u8 },
        src: u128::from(u32::from_be_bytes([fixed[12], fixed[13], fixed[14], fixed[15]])),
        dst: u128::from(u32::from_be_bytes([fixed[16], fixed[17], fixed[18], fixed[19]])),
        v6: false,
        proto: fixed[9],
        transport_at: at + header_len,
        end: at + total,
        is_fragment: fixed[6] & 0x20 != 0,
    })
}

fn ipv6(data: &[u8], at: usize, wire: usize) -> Result<Network, Reject> {
    let fixed = data.get(at..at + IPV6_LEN).ok_or(Reject::TruncatedNetwork)?;
    let payload = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    // A payload length of 0 means a jumbogram (RFC 2675) or segmentation offload.
    let end = if payload == 0 { wire } else { (at + IPV6_LEN + payload).min(wire) };
    let Behind { proto, transport_at, is_fragment } =
        extensions(data, fixed[6], at + IPV6_LEN, end)?;
    Ok(Network {
        section: Section { header: Header::Ipv6, offset: at as u32, len: IPV6_LEN as u8 },
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

/// Steps over extension headers (RFC 8200): the transport protocol and where it starts.
fn extensions(data: &[u8], mut next: u8, mut at: usize, end: usize) -> Result<Behind, Reject> {
    let mut is_fragment = false;
    for _ in 0..=MOST_EXTENSIONS {
        let len = match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => extension_len(data, at)? * 8 + 8,
            // The authentication header counts in words of four bytes (RFC 4302).
            51 => extension_len(data, at)? * 4 + 8,
            44 => {
                let offset = be16(data, at + 2).ok_or(Reject::TruncatedNetwork)?;
                if offset & 0xfff8 != 0 {
                    return Err(Reject::LaterFragment);
                }
                be32(data, at + 4).ok_or(Reject::TruncatedNetwork)?;
                is_fragment |= offset & 1 == 1;
                8
            }
            _ => return Ok(Behind { proto: next, transport_at: at, is_fragment }),
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
