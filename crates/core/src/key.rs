//! The bidirectional flow key.

use crate::verdict::FiveTuple;
use foldhash::fast::FixedState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One side of a conversation: address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address; IPv4 stands in the lowest 32 bits.
    pub addr: u128,
    /// Port; 0 for protocols without ports.
    pub port: u16,
}

/// A flow's key: both endpoints in a fixed order, so that either direction has the same one.
///
/// Forty bytes, compared and hashed as five words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowKey {
    low: [u64; 2],
    high: [u64; 2],
    /// low port, high port, VLAN id + 1 (0 = none), protocol with the IP version in the top bit.
    rest: u64,
}

const VERSION_6: u64 = 1 << 8;

impl FlowKey {
    /// The key of a packet, and whether its sender is the endpoint that sorts first.
    #[must_use]
    pub fn new(
        src: Endpoint,
        dst: Endpoint,
        proto: u8,
        v6: bool,
        vlan: Option<u16>,
    ) -> (Self, bool) {
        let sender_is_low = src <= dst;
        let (low, high) = if sender_is_low { (src, dst) } else { (dst, src) };
        let vlan = vlan.map_or(0, |id| u64::from(id) + 1);
        let version = if v6 { VERSION_6 } else { 0 };
        let ports = u64::from(low.port) << 48 | u64::from(high.port) << 32;
        let key = Self {
            low: halves(low.addr),
            high: halves(high.addr),
            rest: ports | vlan << 12 | version | u64::from(proto),
        };
        (key, sender_is_low)
    }

    /// IP protocol number.
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.rest as u8
    }

    /// A seeded hash, equal for both directions.
    #[must_use]
    pub fn hash(&self, state: &FixedState) -> u64 {
        let mut hasher = state.build_hasher();
        for word in [self.low[0], self.low[1], self.high[0], self.high[1], self.rest] {
            hasher.write_u64(word);
        }
        hasher.finish()
    }

    /// The key as a five-tuple whose source is the low endpoint, or the high one.
    #[must_use]
    pub fn five_tuple(&self, source_is_low: bool) -> FiveTuple {
        let v6 = self.rest & VERSION_6 != 0;
        let low = (address(self.low, v6), (self.rest >> 48) as u16);
        let high = (address(self.high, v6), (self.rest >> 32) as u16);
        let (src, dst) = if source_is_low { (low, high) } else { (high, low) };
        let vlan = (self.rest >> 12) & 0xf_ffff;
        FiveTuple {
            src: src.0,
            dst: dst.0,
            src_port: src.1,
            dst_port: dst.1,
            proto: self.proto(),
            vlan: (vlan > 0).then(|| (vlan - 1) as u16),
        }
    }
}

impl FiveTuple {
    /// The bidirectional key of this five-tuple, and whether its source sorts first.
    #[must_use]
    pub fn key(&self) -> (FlowKey, bool) {
        let v6 = self.src.is_ipv6();
        let src = Endpoint { addr: number(self.src), port: self.src_port };
        let dst = Endpoint { addr: number(self.dst), port: self.dst_port };
        FlowKey::new(src, dst, self.proto, v6, self.vlan)
    }
}

fn halves(addr: u128) -> [u64; 2] {
    [(addr >> 64) as u64, addr as u64]
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(halves: [u64; 2], v6: bool) -> IpAddr {
    if v6 {
        IpAddr::V6(Ipv6Addr::from(u128::from(halves[0]) << 64 | u128::from(halves[1])))
    } else {
        IpAddr::V4(Ipv4Addr::from(halves[1] as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(src: &str, dst: &str, vlan: Option<u16>) -> FiveTuple {
        FiveTuple {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            src_port: 40_000,
            dst_port: 443,
            proto: 6,
            vlan,
        }
    }

    #[test]
    fn both_directions_have_one_key_and_keep_their_source() {
        for (a, b) in [("10.0.0.1", "9.9.9.9"), ("fe80::1", "2001:db8::2")] {
            for vlan in [None, Some(0), Some(4095)] {
                let there = tuple(a, b, vlan);
                let back = FiveTuple {
                    src: there.dst,
                    dst: there.src,
                    src_port: there.dst_port,
                    dst_port: there.src_port,
                    ..there
                };
                let (key, low) = there.key();
                let (twin, twin_low) = back.key();
                assert_eq!(key, twin);
                assert_ne!(low, twin_low);
                assert_eq!(key.five_tuple(low), there);
                assert_eq!(key.five_tuple(twin_low), back);
            }
        }
    }

    #[test]
    fn version_vlan_and_protocol_make_a_difference() {
        let (v4, _) = tuple("0.0.0.1", "0.0.0.2", None).key();
        let (v6, _) = tuple("::1", "::2", None).key();
        let (tagged, _) = tuple("0.0.0.1", "0.0.0.2", Some(0)).key();
        assert_ne!(v4, v6);
        assert_ne!(v4, tagged);
        let state = FixedState::with_seed(1);
        assert_ne!(v4.hash(&state), v6.hash(&state));
        assert_ne!(v4.hash(&state), v4.hash(&FixedState::with_seed(2)));
    }
}
