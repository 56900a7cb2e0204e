//! Which worker a packet belongs to.

use crate::key::FlowHasher;
use crate::packet::Packet;
use crate::parse::{KeyRules, Parsed, parse_into};

/// Parts flows among workers by a symmetric hash: both directions of a flow have the same one, and
/// so have all of its packets, whatever they look like.
#[derive(Clone, Copy, Debug)]
pub struct Sharder {
    hasher: FlowHasher,
    shards: u32,
    rules: KeyRules,
}

impl Sharder {
    /// Parts flows among `shards` workers. `rules` must be those of their engines, or packets of
    /// one flow could part; `seed` is free.
    ///
    /// # Panics
    /// When there is no shard.
    #[must_use]
    pub fn new(shards: u32, rules: KeyRules, seed: u64) -> Self {
        assert!(shards > 0, "packets go to somebody");
        Self { hasher: FlowHasher::with_seed(seed), shards, rules }
    }

    /// Number of workers.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards as usize
    }

    /// The packet's worker, from 0; `None` for one that belongs to no flow, which any worker may
    /// count.
    #[inline]
    #[must_use]
    pub fn shard(&self, packet: &Packet<'_>) -> Option<usize> {
        let mut parsed = Parsed::default();
        parse_into(packet, self.rules, &mut parsed).ok()?;
        // The flow table goes by the upper half of a hash like this one, so this is the lower half.
        let hash = self.hasher.hash(&parsed.key) & u64::from(u32::MAX);
        Some(((hash * u64::from(self.shards)) >> 32) as usize)
    }
}
