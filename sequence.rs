//! Choosing along a path of operating points, from safe to aggressive.

/// The last point before the first one whose null hypothesis is not rejected at `level`, from the
/// first point on; nothing when the first is not rejected. `p_value` is asked only as far as
/// needed.
///
/// If the path was fixed without the calibration flows, the chance that any point up to the
/// chosen one breaks its promise is at most `level`, however the points depend on each other: the
/// first broken one on the path has to be rejected by mistake.
#[must_use]
pub fn fixed_sequence(
    points: usize,
    level: f64,
    p_value: impl FnMut(usize) -> f64,
) -> Option<usize> {
    fallback(points, &[0], level, p_value)
}

/// As [`fixed_sequence`], with several points to start from; gives the last point rejected.
///
/// `level` is split evenly among the starts. What a point was tested at passes on to the next one
/// when it is rejected, and is lost when it is not (the fallback procedure: Wiens 2003; Bretz,
/// Maurer, Brannath and Posch 2009). So a single point that fails does not end the search, and
/// nothing is lost to the split while all are rejected. The chance that any of the rejected points
/// breaks its promise is at most `level`. Starts must be fixed beforehand; double ones count once,
/// those behind the path's end are lost.
#[must_use]
pub fn fallback(
    points: usize,
    starts: &[usize],
    level: f64,
    mut p_value: impl FnMut(usize) -> f64,
) -> Option<usize> {
    let mut starts = starts.to_vec();
    starts.sort_unstable();
    starts.dedup();
    let (mut at_hand, mut last) = (0, None);
    for point in 0..points {
        at_hand += usize::from(starts.binary_search(&point).is_ok());
        if at_hand == 0 {
            continue;
        }
        // With all starts in hand this is the level itself, without a rounding.
        let budget = level * (at_hand as f64 / starts.len() as f64);
        if p_value(point) <= budget {
            last = Some(point);
        } else {
            at_hand = 0;
        }
    }
    last
}
