//! Tails of the binomial and the trinomial law, and Clopper and Pearson's interval.

/// Lanczos coefficients for `g = 7`, nine terms: about 15 digits.
const LANCZOS: [f64; 9] = [
    0.999_999_999_999_809_9,
    676.520_368_121_885_1,
    -1_259.139_216_722_402_8,
    771.323_428_777_653_1,
    -176.615_029_162_140_6,
    12.507_343_278_686_905,
    -0.138_571_095_265_720_12,
    9.984_369_578_019_572e-6,
    1.505_632_735_149_311_6e-7,
];
/// Steps of a bisection: the width falls under one part in 10^15.
const STEPS: usize = 52;
/// Rounds of the continued fraction; it needs about the root of the larger parameter.
const ROUNDS: usize = 20_000;
/// What the window over the rarer outcome may leave out on both sides together.
const LEFT_OUT: f64 = 1e-12;

/// Natural logarithm of the gamma function for arguments of at least 1.
pub(super) fn ln_gamma(x: f64) -> f64 {
    let x = x - 1.0;
    let sum = (1..9).fold(LANCZOS[0], |sum, at| sum + LANCZOS[at] / (x + at as f64));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// Probability of `hits` out of `draws`.
pub(super) fn mass(hits: i64, draws: i64, chance: f64) -> f64 {
    if hits < 0 || hits > draws {
        return 0.0;
    }
    if chance <= 0.0 || chance >= 1.0 {
        return f64::from(hits == if chance <= 0.0 { 0 } else { draws });
    }
    let (x, n) = (hits as f64, draws as f64);
    let ways = ln_gamma(n + 1.0) - ln_gamma(x + 1.0) - ln_gamma(n - x + 1.0);
    (ways + x * chance.ln() + (n - x) * (-chance).ln_1p()).exp()
}

/// Probability of at most `hits` out of `draws`.
pub(super) fn at_most(hits: i64, draws: i64, chance: f64) -> f64 {
    if hits < 0 {
        return 0.0;
    }
    if hits >= draws || chance <= 0.0 {
        return 1.0;
    }
    if chance >= 1.0 {
        return 0.0;
    }
    beta((draws - hits) as f64, hits as f64 + 1.0, 1.0 - chance)
}

/// The regularised incomplete beta function.
fn beta(a: f64, b: f64, x: f64) -> f64 {
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

/// Lentz's continued fraction for the incomplete beta function.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let off_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / off_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut result = d;
    for round in 1..ROUNDS {
        let m = round as f64;
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / off_zero(1.0 + term * d);
            c = off_zero(1.0 + term / c);
            change = c * d;
            result *= change;
        }
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    result
}

/// The largest chance under which at most `hits` are seen with a probability of over `level`.
pub(super) fn upper(hits: i64, draws: i64, level: f64) -> f64 {
    if hits >= draws {
        return 1.0;
    }
    let seen = |chance: f64| at_most(hits, draws, chance) > level;
    bisect(hits as f64 / draws as f64, 1.0, seen).1
}

/// The smallest chance under which at least `hits` are seen with a probability of over `level`.
pub(super) fn lower(hits: i64, draws: i64, level: f64) -> f64 {
    1.0 - upper(draws - hits, draws, level)
}

/// Narrows an interval whose lower part satisfies `holds`; gives both ends.
pub(super) fn bisect(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low, high)
}

/// Probability that losses minus gains are at most `surplus` in `draws` independent flows, of which
/// each is a loss with chance `loss` and a gain with chance `gain`; never too low.
///
/// Given `k` gains the losses are binomial among the other flows, and from `k` to `k + 1` both the
/// flows and the bound move by one, so that the tail follows from the one before by adding two
/// masses: no difference of near equals is taken.
pub(super) fn surplus_at_most(surplus: i64, draws: i64, loss: f64, gain: f64) -> f64 {
    let (gain, loss) = (gain.clamp(0.0, 1.0), loss.clamp(0.0, 1.0));
    let chance = if gain < 1.0 { (loss / (1.0 - gain)).min(1.0) } else { 0.0 };
    let mean = draws as f64 * gain;
    let reach = 9.0 * (mean * (1.0 - gain)).sqrt();
    let first = ((mean - reach - 20.0).floor().max(0.0) as i64).min(draws);
    let last = ((mean + reach + 60.0).ceil() as i64).min(draws);
    let mut tail = at_most(first + surplus, draws - first, chance);
    let mut total = LEFT_OUT;
    for gains in first..=last {
        total += mass(gains, draws, gain) * tail;
        let (bound, rest) = (gains + surplus, draws - gains - 1);
        tail += chance * mass(bound, rest, chance) + mass(bound + 1, rest, chance);
        tail = tail.min(1.0);
    }
    total.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_sums_of_masses() {
        for (draws, chance) in [(1, 0.3), (7, 0.5), (40, 0.02), (300, 0.97), (2_000, 0.4)] {
            let mut sum = 0.0;
            for hits in 0..=draws {
                sum += mass(hits, draws, chance);
                let tail = at_most(hits, draws, chance);
                assert!((sum - tail).abs() < 1e-10, "{hits} of {draws}: {sum} against {tail}");
            }
            assert!((sum - 1.0).abs() < 1e-10);
        }
    }

    #[test]
    fn masses_follow_from_factorials() {
        // 10! / (3! 7!) = 120.
        let expected = 120.0 * 0.2f64.powi(3) * 0.8f64.powi(7);
        assert!((mass(3, 10, 0.2) - expected).abs() < 1e-13);
        assert_eq!((mass(0, 5, 0.0), mass(5, 5, 1.0), mass(-1, 5, 0.5)), (1.0, 1.0, 0.0));
    }

    #[test]
    fn intervals_match_closed_forms() {
        // No hit in n draws: (1 - p)^n = level. All hits: p^n = level.
        assert!((upper(0, 20, 0.05) - (1.0 - 0.05f64.powf(0.05))).abs() < 1e-12);
        assert!((lower(20, 20, 0.05) - 0.05f64.powf(0.05)).abs() < 1e-12);
        assert_eq!((upper(4, 4, 0.1), lower(0, 4, 0.1)), (1.0, 0.0));
    }

    #[test]
    fn the_surplus_law_matches_full_enumeration() {
        for (draws, loss, gain) in [(1, 0.2, 0.1), (6, 0.3, 0.4), (25, 0.05, 0.6), (12, 0.0, 0.2)] {
            let twin = |surplus: i64| {
                let mut sum = 0.0;
                for gains in 0..=draws {
                    for losses in 0..=(draws - gains).min(gains + surplus) {
                        sum += mass(gains, draws, gain)
                            * mass(losses, draws - gains, loss / (1.0 - gain));
                    }
                }
                sum
            };
            for surplus in -draws..=draws {
                let (fast, slow) = (surplus_at_most(surplus, draws, loss, gain), twin(surplus));
                assert!((fast - slow).abs() < 1e-9, "{draws} {surplus}: {fast} against {slow}");
            }
        }
    }
}
