//! The bidirectional flow key.

use crate::verdict::FiveTuple;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct FlowKey {
    low: [u64; 2],
    high: [u64; 2],
    /// From the top: low port (16 bits), high port (16), [`SPARE`] (6), VLAN id + 1 (13, 0 = none),
    /// IP version, protocol (8).
    rest: u64,
}

const VERSION_6: u64 = 1 << 8;
const VLAN_SHIFT: u32 = 12;
const VLAN_BITS: u64 = 0x1fff;
const SPARE_SHIFT: u32 = 25;

/// The bits of the last word that are 0 in every key, and where a flow's entry keeps its flags.
const SPARE: u64 = 0x3f << SPARE_SHIFT;

/// A key with six flags in its spare bits: what a flow's entry holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlaggedKey(FlowKey);

impl FlaggedKey {
    pub(crate) fn new(key: FlowKey) -> Self {
        Self(key)
    }

    /// The key alone.
    pub(crate) fn key(&self) -> FlowKey {
        FlowKey { rest: self.0.rest & !SPARE, ..self.0 }
    }

    /// Whether this is the key, whatever its flags.
    #[inline]
    pub(crate) fn is(&self, key: &FlowKey) -> bool {
        // One comparison of all words: a branch for each is dearer than the words that it saves.
        let (mine, other) = (&self.0, key);
        let low = (mine.low[0] ^ other.low[0]) | (mine.low[1] ^ other.low[1]);
        let high = (mine.high[0] ^ other.high[0]) | (mine.high[1] ^ other.high[1]);
        (low | high | ((mine.rest ^ other.rest) & !SPARE)) == 0
    }

    /// Whether any of these flags is set.
    #[inline]
    pub(crate) fn has(&self, flags: u8) -> bool {
        self.0.rest & (u64::from(flags) << SPARE_SHIFT) != 0
    }

    /// Sets these flags too.
    #[inline]
    pub(crate) fn set(&mut self, flags: u8) {
        debug_assert!(flags < 1 << 6, "there are six flags");
        self.0.rest |= u64::from(flags) << SPARE_SHIFT;
    }
}

/// A keyed hash of flow keys, equal for both directions.
///
/// Whoever sends packets can choose five-tuples, but not the keys that are drawn from the seed. It
/// is the multiply-and-fold construction of wyhash (public domain), with every word under a key of
/// its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHasher {
    keys: [u64; 6],
}

impl FlowHasher {
    /// Keys drawn from a seed.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        let mut state = seed;
        Self { keys: std::array::from_fn(|_| split_mix(&mut state)) }
    }

    /// The hash of a key; all 64 bits are good.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        let keys = &self.keys;
        let low = fold(key.low[0] ^ keys[0], key.low[1] ^ keys[1]);
        let high = fold(key.high[0] ^ keys[2], key.high[1] ^ keys[3]);
        fold(low ^ high.rotate_left(32) ^ keys[4], key.rest ^ keys[5])
    }
}

/// Both halves of a product.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The next number of a SplitMix64 generator (Steele, Lea and Flood, OOPSLA 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

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
        let vlan = vlan.map_or(0, |id| (u64::from(id) + 1) & VLAN_BITS);
        let tags = (vlan << VLAN_SHIFT) | (u64::from(v6) * VERSION_6) | u64::from(proto);
        let from = (halves(src.addr), src.port);
        let to = (halves(dst.addr), dst.port);
        (Self::sorted(sender_is_low, from, to, tags), sender_is_low)
    }

    /// The key of an untagged IPv4 packet, as [`Self::new`] makes it, from addresses and ports.
    #[inline]
    pub(crate) fn of_ipv4(src: (u32, u16), dst: (u32, u16), proto: u8) -> (Self, bool) {
        let is_low = src <= dst;
        let halves = |addr| [0, u64::from(addr)];
        let (from, to) = ((halves(src.0), src.1), (halves(dst.0), dst.1));
        (Self::sorted(is_low, from, to, u64::from(proto)), is_low)
    }

    /// The key of an untagged IPv6 packet, as [`Self::new`] makes it, from addresses and ports.
    #[inline]
    pub(crate) fn of_ipv6(src: ([u64; 2], u16), dst: ([u64; 2], u16), proto: u8) -> (Self, bool) {
        let is_low = src <= dst;
        (Self::sorted(is_low, src, dst, VERSION_6 | u64::from(proto)), is_low)
    }

    #[inline]
    fn sorted(is_low: bool, from: ([u64; 2], u16), to: ([u64; 2], u16), tags: u64) -> Self {
        // Who sorts first is a coin's toss, which no branch predictor learns: so there is no
        // branch.
        let keep = u64::from(is_low).wrapping_neg();
        let pick = |a: u64, b: u64| ((a ^ b) & keep) ^ b;
        let (from_port, to_port) = (u64::from(from.1), u64::from(to.1));
        Self {
            low: [pick(from.0[0], to.0[0]), pick(from.0[1], to.0[1])],
            high: [pick(to.0[0], from.0[0]), pick(to.0[1], from.0[1])],
            rest: pick(from_port, to_port) << 48 | pick(to_port, from_port) << 32 | tags,
        }
    }

    /// IP protocol number.
    #[must_use]
    pub fn proto(&self) -> u8 {
        self.rest as u8
    }

    /// Both ends: address, IPv4 in the lowest 32 bits, and port.
    #[inline]
    pub(crate) fn ends(&self) -> [(u128, u16); 2] {
        let whole = |[high, low]: [u64; 2]| u128::from(high) << 64 | u128::from(low);
        [(whole(self.low), (self.rest >> 48) as u16), (whole(self.high), (self.rest >> 32) as u16)]
    }

    /// Whether the addresses are those of IPv6.
    #[inline]
    pub(crate) fn is_v6(&self) -> bool {
        self.rest & VERSION_6 != 0
    }

    /// The key as a five-tuple whose source is the low endpoint, or the high one.
    #[must_use]
    pub fn five_tuple(&self, source_is_low: bool) -> FiveTuple {
        let v6 = self.rest & VERSION_6 != 0;
        let low = (address(self.low, v6), (self.rest >> 48) as u16);
        let high = (address(self.high, v6), (self.rest >> 32) as u16);
        let (src, dst) = if source_is_low { (low, high) } else { (high, low) };
        let vlan = (self.rest >> VLAN_SHIFT) & VLAN_BITS;
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
        let hasher = FlowHasher::with_seed(1);
        assert_ne!(hasher.hash(&v4), hasher.hash(&v6));
        assert_ne!(hasher.hash(&v4), FlowHasher::with_seed(2).hash(&v4));
    }

    #[test]
    fn flags_are_no_part_of_the_key() {
        let (key, _) = tuple("10.0.0.1", "9.9.9.9", Some(4095)).key();
        let (other, _) = tuple("10.0.0.1", "9.9.9.8", Some(4095)).key();
        let mut flagged = FlaggedKey::new(key);
        for flag in (0..6).map(|bit| 1 << bit) {
            assert!(!flagged.has(flag));
            flagged.set(flag);
            assert!(flagged.has(flag) && flagged.is(&key) && !flagged.is(&other));
            assert_eq!(flagged.key(), key);
        }
    }

    #[test]
    fn keys_that_differ_little_spread_evenly() {
        let hasher = FlowHasher::with_seed(7);
        // Neighbouring addresses and ports, which is what networks and scanners are made of.
        let mut buckets = [[0_u32; 256]; 2];
        for host in 0..256_u32 {
            for port in 0..256_u16 {
                let src = Endpoint { addr: u128::from(0x0a00_0000 | host), port: 1024 + port };
                let dst = Endpoint { addr: 0x0909_0909, port: 443 };
                let hash = hasher.hash(&FlowKey::new(src, dst, 6, false, None).0);
                buckets[0][(hash >> 56) as usize] += 1;
                buckets[1][(hash & 0xff) as usize] += 1;
            }
        }
        // 256 keys a bucket are expected, with a standard deviation of 16.
        for count in buckets.as_flattened() {
            assert!((160..=352).contains(count), "{count}");
        }
    }
}
