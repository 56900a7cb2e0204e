//! Flows of no class that was learned: open-set rules, calibrated to a share of known flows that
//! may be called unknown, and measured on classes that were held out of training.
//!
//! The threshold is a conformal quantile: of `n` calibration flows that a stage decides, the
//! oddness of rank `ceil((n + 1)(1 - rate))` by growing oddness. A flow to come that the stage
//! decides is odder with probability `rate` at most, over the draw of the calibration flows and of
//! the flow, if it is exchangeable with them (Vovk and others, "Algorithmic Learning in a Random
//! World", 2005). Flows of one capture are alike, and trees may stop early and prices be searched
//! on the same split; so what is measured on test flows is told beside it.

mod held_out;
mod known;

pub use held_out::{HeldOut, HeldOutClass, HeldOutWish, hold_out};
pub use known::{ClassUnknown, OpenSetReport, StageUnknown, install};

/// The largest oddness of a known flow: at most this share of such flows to come is odder, see
/// above. None where so few flows cannot say, or one of them is no number.
#[must_use]
pub fn threshold(mut oddness: Vec<f32>, rate: f64) -> Option<f32> {
    let flows = oddness.len();
    // Sums of floats may lie a little above a whole number.
    let rank = ((flows + 1) as f64 * (1.0 - rate) - 1e-9).ceil().max(1.0) as usize;
    if rank > flows {
        return None;
    }
    oddness.sort_unstable_by(f32::total_cmp);
    // Where all are certain it may be a negative zero, which nobody would type.
    Some(oddness[rank - 1] + 0.0).filter(|found| found.is_finite())
}

/// The probability that a flow of the second kind is odder than one of the first, ties counting a
/// half: the area under the ROC curve. A half where either kind is missing.
#[must_use]
pub fn auroc(known: &[f32], odd: &[f32]) -> f64 {
    if known.is_empty() || odd.is_empty() {
        return 0.5;
    }
    let mut sorted = known.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let wins = |value: &f32| {
        let below = sorted.partition_point(|other| other.total_cmp(value).is_lt());
        let up_to = sorted.partition_point(|other| other.total_cmp(value).is_le());
        (below + up_to) as f64 / 2.0
    };
    odd.iter().map(wins).sum::<f64>() / (known.len() as f64 * odd.len() as f64)
}

/// The share of values that a condition holds for; 0 of none.
fn share<T>(values: impl IntoIterator<Item = T>, holds: impl Fn(T) -> bool) -> f64 {
    let (mut all, mut found) = (0_usize, 0_usize);
    for value in values {
        all += 1;
        found += usize::from(holds(value));
    }
    found as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_area_is_that_of_all_pairs() {
        let (known, odd) = ([0.1, 0.2, 0.2, 0.9], [0.2, 0.8, 1.0]);
        let pairs = known.iter().flat_map(|k| odd.iter().map(move |o| (k, o)));
        let won = pairs.map(|(k, o)| if o > k { 1.0 } else { f64::from(o == k) / 2.0 });
        assert!((auroc(&known, &odd) - won.sum::<f64>() / 12.0).abs() < 1e-12);
        assert_eq!((auroc(&[0.1], &[0.2]), auroc(&[0.2], &[0.1])), (1.0, 0.0));
        assert_eq!(auroc(&[], &[0.1]), 0.5);
    }

    #[test]
    fn few_flows_support_no_small_rate() {
        let odd = |count: u16| (0..count).map(f32::from).collect::<Vec<_>>();
        assert_eq!((threshold(odd(48), 0.02), threshold(odd(49), 0.02)), (None, Some(48.0)));
        assert_eq!((threshold(odd(99), 0.1), threshold(Vec::new(), 0.5)), (Some(89.0), None));
        assert_eq!(threshold(vec![f32::NAN; 99], 0.1), None);
    }

    #[test]
    fn the_rate_holds_on_average_over_draws() {
        let mut random = Random::new(&[5]);
        let mut draw = |count: usize| (0..count).map(|_| random.share() as f32).collect::<Vec<_>>();
        for (rate, flows) in [(0.02, 60), (0.1, 30), (0.05, 400)] {
            let mut sum = 0.0;
            for _ in 0..2000 {
                let most = threshold(draw(flows), rate).unwrap();
                sum += share(draw(50), |odd| odd > most) / 2000.0;
            }
            assert!(sum <= rate * 1.05, "{rate}: {sum}");
        }
    }
}
