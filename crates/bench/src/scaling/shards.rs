//! How unevenly flows fall onto workers.
//!
//! A flow's packets stay together, so a worker's share of the packets is the sum of its flows, and
//! hashing is fair to flows, not to packets: few large flows make a large share.

use serde::Serialize;
use serveflow_train::random::{Random, at};

/// Each worker's part of the traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shards {
    /// Share of the packets, by worker; together 1.
    pub packets: Vec<f64>,
    /// Flows for each packet, by worker.
    pub flows_per_packet: Vec<f64>,
}

impl Shards {
    /// Hashes flows onto workers: `flows` of them, whose sizes are drawn from `sizes`.
    ///
    /// # Panics
    /// When there is no worker, or no size to draw from.
    #[must_use]
    pub fn hashed(sizes: &[u64], flows: usize, workers: usize, seed: u64) -> Self {
        assert!(workers > 0 && !sizes.is_empty(), "flows go to somebody and have a size");
        let mut draws = Random::new(&[seed, 0x5a]);
        let mut counts = vec![(0, 0); workers];
        for flow in 0..flows.max(1) {
            // The flow's size must not depend on the workers, or curves of two counts would differ
            // by more than the workers.
            let size = sizes[draws.below(sizes.len())];
            let hash = at(seed, flow as u64) >> 32;
            let (packets, flows) = &mut counts[((hash * workers as u64) >> 32) as usize];
            *packets += size;
            *flows += 1;
        }
        Self::counted(&counts)
    }

    /// The shares of workers that got so many packets and flows.
    #[must_use]
    pub fn counted(counts: &[(u64, u64)]) -> Self {
        let all = counts.iter().map(|&(packets, _)| packets).sum::<u64>().max(1) as f64;
        let share = |&(packets, _): &(u64, u64)| packets as f64 / all;
        let per_packet = |&(packets, flows): &(u64, u64)| flows as f64 / packets.max(1) as f64;
        Self {
            packets: counts.iter().map(share).collect(),
            flows_per_packet: counts.iter().map(per_packet).collect(),
        }
    }

    /// The same shares of packets, with so many flows for each packet on average: a five-tuple may
    /// carry several flows, one after another.
    #[must_use]
    pub fn with_flows_per_packet(mut self, average: f64) -> Self {
        let pairs = self.packets.iter().zip(&self.flows_per_packet);
        let now: f64 = pairs.map(|(share, flows)| share * flows).sum();
        if now > 0.0 {
            self.flows_per_packet.iter_mut().for_each(|flows| *flows *= average / now);
        }
        self
    }

    /// The worker with the most packets: its share, and its flows for each packet.
    #[must_use]
    pub fn largest(&self) -> (f64, f64) {
        let pairs = self.packets.iter().copied().zip(self.flows_per_packet.iter().copied());
        pairs.fold((0.0, 0.0), |most, pair| if pair.0 > most.0 { pair } else { most })
    }

    /// How much larger the largest share is than a fair one; 1 when all are the same.
    #[must_use]
    pub fn skew(&self) -> f64 {
        self.largest().0 * self.packets.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_a_seed_decides_them() {
        for workers in [1, 2, 7, 64] {
            let shards = Shards::hashed(&[1, 2, 50], 10_000, workers, 3);
            assert_eq!(shards, Shards::hashed(&[1, 2, 50], 10_000, workers, 3));
            assert!((shards.packets.iter().sum::<f64>() - 1.0).abs() < 1e-9);
            assert!(shards.skew() >= 1.0 - 1e-9);
        }
        let [one, other] = [3, 4].map(|seed| Shards::hashed(&[1, 2, 50], 10_000, 8, seed));
        assert_ne!(one, other);
    }

    #[test]
    fn few_large_flows_make_a_larger_share_than_many_small_ones() {
        let skew = |sizes: &[u64]| Shards::hashed(sizes, 20_000, 16, 1).skew();
        let mut heavy = vec![1; 999];
        heavy.push(100_000);
        assert!(skew(&[3]) < 1.15, "{}", skew(&[3]));
        assert!(skew(&heavy) > 1.5, "{}", skew(&heavy));
    }
}
