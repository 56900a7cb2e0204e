//! Latencies: histograms that lose nothing of the tail, and what is told of them.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies up to an hour; longer ones count as that.
const MOST_NS: u64 = 3_600_000_000_000;
/// Significant decimal digits that are kept.
const DIGITS: u8 = 3;
/// Points of a curve, per factor of ten.
const POINTS_PER_DECADE: i32 = 20;

/// A histogram of latencies in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, MOST_NS, DIGITS).expect("the bounds are constants"))
    }
}

/// Percentiles of latencies, microseconds; zeros when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyFigures {
    /// Latencies recorded.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest.
    pub max: f64,
}

impl Latency {
    /// Takes a latency.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Takes another histogram's latencies.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// Latencies taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of all does not exceed, microseconds.
    #[must_use]
    pub fn quantile_us(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// The usual percentiles.
    #[must_use]
    pub fn figures(&self) -> LatencyFigures {
        if self.0.is_empty() {
            return LatencyFigures::default();
        }
        LatencyFigures {
            count: self.count(),
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p99: self.quantile_us(0.99),
            p999: self.quantile_us(0.999),
            max: self.0.max() as f64 / 1e3,
        }
    }

    /// The cumulative distribution: latencies in microseconds, evenly spaced on a log scale, and
    /// the share of all that does not exceed each.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let step = |ns: u64| (ns.max(1) as f64).log10() * f64::from(POINTS_PER_DECADE);
        let (first, last) = (step(self.0.min()).floor(), step(self.0.max()).ceil());
        let point = |step: i32| {
            let ns = 10f64.powf(f64::from(step) / f64::from(POINTS_PER_DECADE)) as u64;
            let below = self.0.count_between(0, ns.max(1));
            (ns as f64 / 1e3, below as f64 / self.0.len() as f64)
        };
        (first as i32..=last as i32).map(point).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_three_digits() {
        let mut latency = Latency::default();
        (1..=10_000).for_each(|us| latency.record(us * 1000));
        let figures = latency.figures();
        let near = |found: f64, expected: f64| (found / expected - 1.0).abs() < 2e-3;
        assert_eq!(figures.count, 10_000);
        assert!(near(figures.p50, 5000.0) && near(figures.p90, 9000.0), "{figures:?}");
        assert!(near(figures.p99, 9900.0) && near(figures.p999, 9990.0), "{figures:?}");
        assert!(near(figures.max, 10_000.0));
        let mut twice = latency.clone();
        twice.add(&latency);
        assert_eq!(twice.count(), 20_000);
        assert_eq!(Latency::default().figures(), LatencyFigures::default());
    }

    #[test]
    fn a_curve_rises_to_one() {
        let mut latency = Latency::default();
        [3, 50_000, 2_000_000_000, u64::MAX].into_iter().for_each(|ns| latency.record(ns));
        let curve = latency.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(curve.last().map(|point| point.1), Some(1.0));
        assert_eq!(Latency::default().curve(), []);
    }
}
