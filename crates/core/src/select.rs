//! Which flows are wanted at all, where there is more traffic than the machine can take.
//!
//! A flow is judged by its key alone, and the same in both directions: so it is kept or left out as
//! a whole, whatever its packets look like, and whoever sees them. What is left out costs neither
//! an entry of the flow table nor a look at it.

use crate::key::{FlowHasher, FlowKey};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    addr: IpAddr,
    bits: u8,
}

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixError {
    /// It is neither an address nor an address with a number of bits.
    Text(String),
    /// The address has bits behind those that count, so one of the two is not meant.
    Bits {
        /// What was found.
        found: String,
        /// The address with these bits cleared.
        expected: String,
    },
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(found) => {
                write!(
                    f,
                    "expected a prefix such as 10.0.0.0/8, 2001:db8::/32 or one address, found \
                     `{found}`"
                )
            }
            Self::Bits { found, expected } => write!(f, "expected {expected}, found `{found}`"),
        }
    }
}

impl std::error::Error for PrefixError {}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let refusal = || PrefixError::Text(text.to_owned());
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, n)| (addr, Some(n)));
        let addr: IpAddr = addr.parse().map_err(|_| refusal())?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let is_number = |n: &str| n.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u8 = match bits {
            None => width,
            Some(n) if is_number(n) => n.parse().map_err(|_| refusal())?,
            Some(_) => return Err(refusal()),
        };
        let prefix = Self { addr, bits };
        if bits > width {
            return Err(refusal());
        }
        let first = *prefix.range().start();
        if first == number(addr) {
            return Ok(prefix);
        }
        let first = match addr {
            IpAddr::V4(_) => IpAddr::V4((first as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(first.into()),
        };
        let expected = format!("{first}/{bits}");
        Err(PrefixError::Bits { found: text.to_owned(), expected })
    }
}

impl Prefix {
    /// The first and the last of its addresses as numbers.
    fn range(&self) -> RangeInclusive<u128> {
        let width = if self.addr.is_ipv4() { 32 } else { 128 };
        let host = width - u32::from(self.bits);
        let behind = u128::MAX.checked_shr(128 - host).unwrap_or(0);
        let first = number(self.addr) & !behind;
        first..=first | behind
    }
}

fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Lists that flows may be on. A flow is on a list of prefixes or ports if either of its ends is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Addresses.
    pub prefixes: Vec<Prefix>,
    /// Ports; protocols without ports are on no such list.
    pub ports: Vec<RangeInclusive<u16>>,
    /// IP protocol numbers.
    pub protocols: Vec<u8>,
}

/// What is to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectionSpec {
    /// The share of all flows, above 0 and up to 1.
    pub share: f64,
    /// Which share it is: all that have the same seed and the same key rules keep the same flows.
    pub share_seed: u64,
    /// A flow must be on each of these lists that is not empty.
    pub only: Lists,
    /// A flow must be on none of these lists.
    pub drop: Lists,
}

impl Default for SelectionSpec {
    fn default() -> Self {
        Self { share: 1.0, share_seed: 0, only: Lists::default(), drop: Lists::default() }
    }
}

/// A [`SelectionSpec`] made ready for packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    share: Option<Share>,
    only: Sets,
    drop: Sets,
}

/// A share of the flows: those whose hash is below a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    hasher: FlowHasher,
    below: u64,
}

/// Keeps this hash apart from those of the flow table and of the workers, even if the seeds are the
/// same.
const SHARE_HASH: u64 = 0x7368_6172_6520_6f66;

impl Selection {
    /// The selection; `None` when it would keep all flows.
    #[must_use]
    pub fn new(spec: &SelectionSpec) -> Option<Self> {
        let share = (spec.share < 1.0).then(|| Share {
            hasher: FlowHasher::with_seed(spec.share_seed ^ SHARE_HASH),
            // Of two to the 64th; a share of nothing keeps nothing.
            below: (spec.share * (u64::MAX as f64 + 1.0)) as u64,
        });
        let (only, drop) = (Sets::new(&spec.only), Sets::new(&spec.drop));
        let keeps_all = share.is_none() && only.is_empty() && drop.is_empty();
        (!keeps_all).then_some(Self { share, only, drop })
    }

    /// Whether the flow is kept.
    #[must_use]
    pub fn keeps(&self, key: &FlowKey) -> bool {
        self.share.is_none_or(|share| share.hasher.hash(key) < share.below)
            && self.only.on(key).into_iter().all(|on| on != Some(false))
            && self.drop.on(key).into_iter().all(|on| on != Some(true))
    }
}

/// Lists as sorted ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sets {
    v4: Ranges<u128>,
    v6: Ranges<u128>,
    ports: Ranges<u16>,
    protocols: Ranges<u8>,
}

impl Sets {
    fn new(lists: &Lists) -> Self {
        let of_version = |is_v4: bool| {
            let those = lists.prefixes.iter().filter(move |prefix| prefix.addr.is_ipv4() == is_v4);
            Ranges::new(those.map(Prefix::range), |last| last.checked_add(1))
        };
        let protocols = lists.protocols.iter().map(|&proto| proto..=proto);
        Self {
            v4: of_version(true),
            v6: of_version(false),
            ports: Ranges::new(lists.ports.iter().cloned(), |last| last.checked_add(1)),
            protocols: Ranges::new(protocols, |last| last.checked_add(1)),
        }
    }

    fn is_empty(&self) -> bool {
        self.has_no_prefix() && self.ports.is_empty() && self.protocols.is_empty()
    }

    fn has_no_prefix(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether the flow is on the lists of prefixes, ports and protocols; `None` for an empty one.
    #[inline]
    fn on(&self, key: &FlowKey) -> [Option<bool>; 3] {
        let ends = key.ends();
        let addresses = if key.is_v6() { &self.v6 } else { &self.v4 };
        let any = |is_on: &dyn Fn(&(u128, u16)) -> bool| ends.iter().any(is_on);
        [
            (!self.has_no_prefix()).then(|| any(&|end| addresses.contains(end.0))),
            (!self.ports.is_empty()).then(|| any(&|end| self.ports.contains(end.1))),
            (!self.protocols.is_empty()).then(|| self.protocols.contains(key.proto())),
        ]
    }
}

/// Ranges that neither overlap nor touch, in order: a look-up halves them, however many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges<T>(Vec<(T, T)>);

impl<T: Copy + Ord> Ranges<T> {
    /// `next` is the number behind another one, when there is one.
    fn new(all: impl Iterator<Item = RangeInclusive<T>>, next: impl Fn(T) -> Option<T>) -> Self {
        let mut all: Vec<(T, T)> = all.map(RangeInclusive::into_inner).collect();
        all.sort_unstable();
        let mut merged: Vec<(T, T)> = Vec::new();
        for (first, last) in all {
            match merged.last_mut() {
                Some(before) if next(before.1).is_none_or(|next| first <= next) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, number: T) -> bool {
        let behind = self.0.partition_point(|&(first, _)| first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Endpoint;
    use crate::verdict::FiveTuple;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    fn key(src: &str, dst: &str, ports: [u16; 2], proto: u8) -> FlowKey {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let [src_port, dst_port] = ports;
        FiveTuple { src, dst, src_port, dst_port, proto, vlan: None }.key().0
    }

    #[test]
    fn what_is_no_prefix_is_refused_in_words() {
        for good in ["0.0.0.0/0", "10.0.0.0/8", "9.9.9.9", "::/0", "2001:db8::/32", "::1"] {
            assert!(good.parse::<Prefix>().is_ok(), "{good}");
        }
        for bad in
            ["", "10", "10.0.0.0/33", "::/129", "10.0.0.0/", "1.1.1.1/+8", "a/8", "1.1.1.1/8/8"]
        {
            let told = bad.parse::<Prefix>().unwrap_err().to_string();
            assert!(told.contains("10.0.0.0/8") && told.contains(&format!("`{bad}`")), "{told}");
        }
        for (bad, meant) in [("10.1.0.0/8", "10.0.0.0/8"), ("2001:db8::1/32", "2001:db8::/32")] {
            let told = bad.parse::<Prefix>().unwrap_err().to_string();
            assert_eq!(told, format!("expected {meant}, found `{bad}`"));
        }
    }

    #[test]
    fn ranges_are_what_their_parts_are() {
        let mut seed = 9_u64;
        let mut next = |limit: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % limit
        };
        for _ in 0..300 {
            let all: Vec<_> = (0..next(12))
                .map(|_| {
                    let first = next(256) as u8;
                    first..=first.saturating_add(next(20) as u8)
                })
                .collect();
            let ranges = Ranges::new(all.iter().cloned(), |last: u8| last.checked_add(1));
            for number in 0..=255 {
                let plain = all.iter().any(|range| range.contains(&number));
                assert_eq!(ranges.contains(number), plain, "{all:?} {number}");
            }
            let apart = |pair: &[(u8, u8)]| u16::from(pair[0].1) + 1 < u16::from(pair[1].0);
            assert!(ranges.0.windows(2).all(apart), "{ranges:?}");
        }
    }

    #[test]
    fn a_flow_is_on_all_lists_of_only_and_on_none_of_drop() {
        let web = key("10.0.0.5", "9.9.9.9", [40_000, 443], 6);
        let name = key("10.0.0.5", "192.0.2.1", [40_000, 53], 17);
        let ping = key("10.0.0.5", "9.9.9.9", [0, 0], 1);
        let v6 = key("2001:db8::5", "2001:db8:1::1", [40_000, 443], 6);
        let all = [web, name, ping, v6];
        let kept = |only: Lists, drop: Lists| {
            let spec = SelectionSpec { only, drop, ..SelectionSpec::default() };
            let selection = Selection::new(&spec);
            all.map(|key| selection.as_ref().is_none_or(|selection| selection.keeps(&key)))
        };
        let none = Lists::default();
        let prefixes = |all: &[&str]| Lists {
            prefixes: all.iter().map(|p| prefix(p)).collect(),
            ..Lists::default()
        };
        let ports = |ports| Lists { ports: vec![ports], ..Lists::default() };
        let protocols = |all: &[u8]| Lists { protocols: all.to_vec(), ..Lists::default() };
        assert_eq!(kept(none.clone(), none.clone()), [true; 4]);
        assert_eq!(kept(prefixes(&["9.9.0.0/16"]), none.clone()), [true, false, true, false]);
        assert_eq!(kept(none.clone(), prefixes(&["2001:db8:1::/48"])), [true, true, true, false]);
        // An address of one version is on no list of the other's.
        assert_eq!(kept(prefixes(&["::/0"]), none.clone()), [false, false, false, true]);
        assert_eq!(kept(ports(50..=60), none.clone()), [false, true, false, false]);
        assert_eq!(kept(none.clone(), ports(443..=443)), [false, true, true, false]);
        assert_eq!(kept(protocols(&[6, 1]), none.clone()), [true, false, true, true]);
        let both = Lists { protocols: vec![6], ..prefixes(&["10.0.0.0/8"]) };
        assert_eq!(kept(both.clone(), none), [true, false, false, false]);
        assert_eq!(kept(both, protocols(&[6])), [false; 4]);
    }

    fn numbered(number: u32) -> FlowKey {
        let src = Endpoint { addr: u128::from(0x0a00_0000 | number >> 8), port: number as u16 };
        FlowKey::new(src, Endpoint { addr: 0x0909_0909, port: 443 }, 6, false, None).0
    }

    #[test]
    fn a_share_is_as_large_as_it_says_and_depends_on_its_seed_alone() {
        let of = |share, share_seed| {
            let spec = SelectionSpec { share, share_seed, ..SelectionSpec::default() };
            Selection::new(&spec).unwrap()
        };
        for share in [0.01, 0.25, 0.5, 0.9] {
            let (one, same, other) = (of(share, 1), of(share, 1), of(share, 2));
            let (mut kept, mut both, mut upper) = (0.0, 0.0, 0.0);
            let table = FlowHasher::with_seed(1);
            for number in 0..100_000 {
                let key = numbered(number);
                let is_kept = one.keeps(&key);
                assert_eq!(is_kept, same.keeps(&key));
                let add = |is: bool| f64::from(u8::from(is));
                kept += add(is_kept);
                both += add(is_kept && other.keeps(&key));
                // The table goes by this half, workers by the other one.
                upper += add(is_kept && table.hash(&key) >> 63 == 1);
            }
            let near = |found: f64, expected: f64| {
                let deviation = (100_000.0 * expected * (1.0 - expected)).sqrt();
                assert!(
                    (found - 100_000.0 * expected).abs() < 5.0 * deviation,
                    "{found} {expected}"
                );
            };
            near(kept, share);
            near(both, share * share);
            near(upper, share / 2.0);
        }
        // A larger share has all flows of a smaller one.
        let (few, more) = (of(0.2, 7), of(0.3, 7));
        assert!((0..10_000).map(numbered).all(|key| !few.keeps(&key) || more.keeps(&key)));
        assert!(!(0..10_000).map(numbered).any(|key| of(0.0, 7).keeps(&key)));
    }

    #[test]
    fn many_prefixes_are_looked_up_in_few_steps() {
        let prefixes =
            (0..50_000_u32).map(|n| prefix(&format!("{}/32", std::net::Ipv4Addr::from(n * 4))));
        let lists = Lists { prefixes: prefixes.collect(), ..Lists::default() };
        let sets = Sets::new(&lists);
        assert_eq!(sets.v4.0.len(), 50_000);
        for n in 0..200_000_u32 {
            assert_eq!(sets.v4.contains(u128::from(n)), n % 4 == 0);
        }
    }
}
