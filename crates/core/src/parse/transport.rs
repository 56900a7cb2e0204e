//! Transport layer: ports, TCP flags and sequence number, header lengths.

use super::{Header, HeaderSpan, Network, Reject, be16, be32};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const TCP_MIN: usize = 20;
const UDP_LEN: usize = 8;
const ICMP_LEN: usize = 8;
/// The common header of SCTP (RFC 9260), and the shortest one of DCCP (RFC 4340).
const SCTP_LEN: usize = 12;
const DCCP_LEN: usize = 12;

#[derive(Default)]
pub(super) struct Transport {
    pub(super) section: Option<HeaderSpan>,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) flags: u8,
    pub(super) seq: u32,
    /// Bytes of the header on the wire.
    pub(super) header_len: usize,
}

pub(super) fn parse(data: &[u8], network: &Network) -> Result<Transport, Reject> {
    // Bytes behind the IP packet are padding, never header.
    let data = &data[..data.len().min(network.end)];
    let at = network.transport_at;
    let room = network.end.saturating_sub(at);
    // What is missing was either not captured, as by a snaplen, or never there.
    let is_cut = data.len() < network.end;
    let missing = if is_cut { Reject::TruncatedTransport } else { Reject::BadTransport };
    match network.proto {
        TCP => tcp(data, at, room, missing),
        UDP => udp(data, at, room, missing),
        ICMP | ICMPV6 => Ok(icmp(data, at, room)),
        SCTP => ports_alone(data, at, room, SCTP_LEN, missing),
        DCCP => ports_alone(data, at, room, DCCP_LEN, missing),
        UDP_LITE => ports_alone(data, at, room, UDP_LEN, missing),
        _ => Ok(Transport::default()),
    }
}

/// The captured part of a header; `None` when the capture ends before it.
fn section(header: Header, data: &[u8], at: usize, header_len: usize) -> Option<HeaderSpan> {
    let captured = data.len().checked_sub(at)?;
    Some(HeaderSpan { header, offset: at as u32, len: header_len.min(captured) as u8 })
}

fn ports(data: &[u8], at: usize, missing: Reject) -> Result<(u16, u16), Reject> {
    let ports = be32(data, at).ok_or(missing)?;
    Ok(((ports >> 16) as u16, ports as u16))
}

fn tcp(data: &[u8], at: usize, room: usize, missing: Reject) -> Result<Transport, Reject> {
    if room < TCP_MIN {
        return Err(Reject::BadTransport);
    }
    let (src_port, dst_port) = ports(data, at, missing)?;
    let offset_and_flags = be16(data, at + 12);
    let header_len = offset_and_flags.map_or(TCP_MIN, |word| usize::from(word >> 12) * 4);
    if header_len < TCP_MIN || header_len > room {
        return Err(Reject::BadTransport);
    }
    Ok(Transport {
        section: section(Header::Tcp, data, at, header_len),
        src_port,
        dst_port,
        flags: offset_and_flags.map_or(0, |word| word as u8),
        seq: be32(data, at + 4).unwrap_or(0),
        header_len,
    })
}

fn udp(data: &[u8], at: usize, room: usize, missing: Reject) -> Result<Transport, Reject> {
    if room < UDP_LEN {
        return Err(Reject::BadTransport);
    }
    let (src_port, dst_port) = ports(data, at, missing)?;
    Ok(Transport {
        section: section(Header::Udp, data, at, UDP_LEN),
        src_port,
        dst_port,
        header_len: UDP_LEN,
        ..Transport::default()
    })
}

/// A header that begins with ports and is otherwise none that features know.
fn ports_alone(
    data: &[u8],
    at: usize,
    room: usize,
    header_len: usize,
    missing: Reject,
) -> Result<Transport, Reject> {
    if room < header_len {
        return Err(Reject::BadTransport);
    }
    let (src_port, dst_port) = ports(data, at, missing)?;
    Ok(Transport { src_port, dst_port, header_len, ..Transport::default() })
}

fn icmp(data: &[u8], at: usize, room: usize) -> Transport {
    let header_len = ICMP_LEN.min(room);
    Transport {
        section: section(Header::Icmp, data, at, header_len),
        header_len,
        ..Transport::default()
    }
}
