//! Fresh five-tuples: each cloned flow has one of its own, and says in it which flow it is.
//!
//! The flow's number and the worker that made it stand in the addresses, so two flows never share a
//! five-tuple, and whoever sees a verdict knows the template that the flow was cloned from. Clients
//! are in 10.0.0.0/8, servers in the benchmark range 198.18.0.0/15 (RFC 2544); in IPv6 both are
//! in the range for documents (RFC 3849).

use super::template::Template;
use serveflow_core::verdict::FiveTuple;
use std::net::IpAddr;

/// Most workers that can be told apart.
pub const MOST_WORKERS: usize = 64;
/// Most flows of a worker that can be told apart: 2^35.
pub const MOST_FLOWS: u64 = 1 << (24 + HIGH_BITS);

/// Bits of the flow's number in the server's address, below those of the worker.
const HIGH_BITS: u32 = 11;
const LOW_MASK: u64 = (1 << 24) - 1;
const CLIENT_V4: u32 = 10 << 24;
const SERVER_V4: u32 = 198 << 24 | 18 << 16;
/// 2001:db8:c::/48 and 2001:db8:5::/48.
const CLIENT_V6: u128 = 0x2001_0db8_000c << 80;
const SERVER_V6: u128 = 0x2001_0db8_0005 << 80;

/// A five-tuple ready to be written into packets; of IPv4 addresses the first four bytes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreshTuple {
    /// Address of the sender of the first packet.
    pub client: [u8; 16],
    /// Address of the other side.
    pub server: [u8; 16],
    /// Port of the sender of the first packet.
    pub client_port: u16,
    /// Port of the other side.
    pub server_port: u16,
    /// The checksum's sum of both addresses.
    pub(super) addresses: u16,
}

impl FreshTuple {
    /// The five-tuple of a worker's flow, cloned from a template.
    #[must_use]
    pub fn new(worker: usize, number: u64, template: &Template) -> Self {
        let low = (number & LOW_MASK) as u32;
        let high = (worker as u32) << HIGH_BITS | (number >> 24) as u32;
        let client_port = if template.draws_port() {
            // Odd multiples of a number walk through all 16-bit values.
            let spread = (number as u16).wrapping_mul(0x9e35);
            1024 + ((u32::from(spread) * 64_512) >> 16) as u16
        } else {
            template.client_port
        };
        let mut tuple = Self {
            client: [0; 16],
            server: [0; 16],
            client_port,
            server_port: template.server_port,
            addresses: 0,
        };
        if template.v6 {
            let spread = u128::from(low) << 24 | u128::from(high);
            tuple.client = (CLIENT_V6 | spread).to_be_bytes();
            tuple.server = (SERVER_V6 | u128::from(high)).to_be_bytes();
            let words = tuple.client.as_chunks::<2>().0.iter().chain(tuple.server.as_chunks().0);
            tuple.addresses = words.fold(0, |sum, word| add(sum, u16::from_be_bytes(*word)));
        } else {
            let (client, server) = (CLIENT_V4 | low, SERVER_V4 | high);
            tuple.client[..4].copy_from_slice(&client.to_be_bytes());
            tuple.server[..4].copy_from_slice(&server.to_be_bytes());
            let halves = |word: u32| add((word >> 16) as u16, word as u16);
            tuple.addresses = add(halves(client), halves(server));
        }
        tuple
    }
}

/// The number of the flow that a five-tuple was made for, whichever side it starts with.
#[must_use]
pub fn number_of(flow: &FiveTuple) -> Option<u64> {
    let number =
        |low: u32, high: u32| u64::from(low) | u64::from(high & ((1 << HIGH_BITS) - 1)) << 24;
    match (flow.src, flow.dst) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            // Clients sort before servers.
            let (client, server) = (u32::from(one.min(other)), u32::from(one.max(other)));
            let is_ours = client >> 24 == CLIENT_V4 >> 24 && server >> 17 == SERVER_V4 >> 17;
            is_ours.then(|| number(client & LOW_MASK as u32, server))
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let client = u128::from(one.max(other));
            let is_ours = client >> 80 == CLIENT_V6 >> 80;
            is_ours.then(|| number((client >> 24) as u32 & LOW_MASK as u32, client as u32))
        }
        _ => None,
    }
}

/// Adds in ones' complement, as the Internet checksum does (RFC 1071).
#[inline]
#[must_use]
pub fn add(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    sum + u16::from(carry)
}

/// The checksum's sum of both ports.
#[inline]
pub(super) fn ports_sum(client: u16, server: u16) -> u16 {
    add(client, server)
}
