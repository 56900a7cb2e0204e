//! Candidate thresholds of a number.

/// At most `max_cuts` rising, finite thresholds that part `values` into bins of like size.
///
/// Few distinct values get a threshold between each two. Else values are gathered into bins from
/// below until a bin has its share of what is left; a value so frequent that it is a share by
/// itself gets a bin of its own, so rare neighbours do not hide behind it. A threshold lies midway
/// between the values that it parts, and values that are no number go left of all of them.
#[must_use]
pub fn cuts(values: &[f32], max_cuts: usize) -> Vec<f32> {
    let distinct = distinct(values);
    let mut cuts = Vec::new();
    let (mut bins, mut left, mut in_bin) = (max_cuts + 1, values.len(), 0);
    let every = distinct.len() <= bins;
    for pair in distinct.windows(2) {
        if cuts.len() == max_cuts {
            break;
        }
        let ((value, count), (next, next_count)) = (pair[0], pair[1]);
        in_bin += count;
        let share = left.div_ceil(bins);
        if every || in_bin >= share || next_count >= share {
            cuts.push(between(value, next));
            left -= in_bin;
            (bins, in_bin) = (bins - 1, 0);
        }
    }
    cuts
}

/// The distinct values, rising, and how often each is there.
fn distinct(values: &[f32]) -> Vec<(f32, usize)> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut distinct: Vec<(f32, usize)> = Vec::new();
    for value in sorted {
        match distinct.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => distinct.push((value, 1)),
        }
    }
    distinct
}

/// A finite threshold `t` with `low <= t < high`.
fn between(low: f32, high: f32) -> f32 {
    let low = low.max(f32::MIN);
    let middle = (f64::from(low) + f64::from(high.min(f32::MAX))) / 2.0;
    let middle = middle as f32;
    if middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::cuts;
    use proptest::prelude::*;

    #[test]
    fn few_values_are_parted_midway_and_frequent_ones_stand_alone() {
        assert_eq!(cuts(&[3.0, 1.0, 1.0, f32::NAN, 2.0], 255), [1.5, 2.5]);
        assert_eq!(cuts(&[f32::NEG_INFINITY, 0.0, -0.0, f32::INFINITY], 9).len(), 2);
        let mut values = vec![5.0; 90];
        values.extend([1.0, 2.0, 3.0, 8.0, 9.0]);
        assert!(cuts(&values, 3).contains(&4.0) && cuts(&values, 3).contains(&6.5));
        assert!(cuts(&values, 0).is_empty() && cuts(&[], 9).is_empty());
    }

    proptest! {
        #[test]
        fn thresholds_rise_are_finite_and_each_parts_the_values(
            values in prop::collection::vec(any::<f32>(), 0..300), max in 0usize..40,
        ) {
            let cuts = cuts(&values, max);
            prop_assert!(cuts.len() <= max);
            prop_assert!(cuts.windows(2).all(|pair| pair[0] < pair[1]));
            for cut in cuts {
                prop_assert!(cut.is_finite());
                prop_assert!(values.iter().any(|v| *v > cut) && values.iter().any(|v| *v <= cut));
            }
        }
    }
}
