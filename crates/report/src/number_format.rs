//! Numbers as readers like them: with units, in few digits. What is no number is a dash.

/// What stands where there is no number.
pub const NONE: &str = "-";

/// A time in the unit that suits it; `us` is microseconds.
#[must_use]
pub fn time(us: f64) -> String {
    match us {
        us if !us.is_finite() => NONE.to_owned(),
        us if us < 1.0 => format!("{:.0} ns", us.max(0.0) * 1e3),
        us if us < 100.0 => format!("{us:.1} us"),
        us if us < 1e3 => format!("{us:.0} us"),
        us if us < 1e5 => format!("{:.1} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// A whole number with commas.
#[must_use]
pub fn grouped(number: f64) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    // Nothing is nothing, from whichever side.
    let digits = format!("{:.0}", if number.abs() < 0.5 { 0.0 } else { number });
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit != '-' && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of 1 in percent, one digit behind the point.
#[must_use]
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1}%", share * 100.0) } else { NONE.to_owned() }
}

/// A figure between 0 and 1 such as macro-F1, four digits behind the point.
#[must_use]
pub fn score(value: f64) -> String {
    let value = if value.abs() < 0.000_05 { 0.0 } else { value };
    if value.is_finite() { format!("{value:.4}") } else { NONE.to_owned() }
}

/// How often more, as a number of times: two or three digits that say something.
#[must_use]
pub fn times(ratio: f64) -> String {
    match ratio {
        ratio if !ratio.is_finite() => NONE.to_owned(),
        ratio if ratio >= 1000.0 => {
            let unit = 10f64.powf(ratio.log10().floor() - 1.0);
            grouped((ratio / unit).round() * unit)
        }
        ratio if ratio >= 10.0 => grouped(ratio),
        ratio => format!("{ratio:.1}"),
    }
}

/// A count in short: thousands and millions by letter.
#[must_use]
pub fn count(number: f64) -> String {
    match number {
        number if !number.is_finite() => NONE.to_owned(),
        number if number >= 1e6 => format!("{} M", round(number / 1e6)),
        number if number >= 1e3 => format!("{} k", round(number / 1e3)),
        number => round(number),
    }
}

/// With three digits at most behind the point, and no zeros at the end.
#[must_use]
pub fn round(number: f64) -> String {
    if !number.is_finite() {
        return NONE.to_owned();
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A tick of an axis of time: a round number of microseconds.
#[must_use]
pub fn tick(us: f64) -> String {
    match us {
        us if us < 1.0 => format!("{} ns", round(us * 1e3)),
        us if us < 1e3 => format!("{} us", round(us)),
        us if us < 1e6 => format!("{} ms", round(us / 1e3)),
        us => format!("{} s", round(us / 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_for_readers() {
        let whole = [0.0, 999.4, 1000.0, 1_234_567.0, -123.0, -1234.0].map(grouped);
        assert_eq!(whole, ["0", "999", "1,000", "1,234,567", "-123", "-1,234"]);
        let times = [0.5, 12.34, 250.0, 1234.0, 123_456.0, 2_500_000.0].map(time);
        assert_eq!(times, ["500 ns", "12.3 us", "250 us", "1.2 ms", "123 ms", "2.5 s"]);
        assert_eq!([1e3, 2.5e6, 0.25].map(count), ["1 k", "2.5 M", "0.25"]);
        assert_eq!([0.1, 10.0, 1e4, 1e6].map(tick), ["100 ns", "10 us", "10 ms", "1 s"]);
        assert_eq!([1.25, 9.96, 1234.0].map(super::times), ["1.2", "10.0", "1,200"]);
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for spell in [time, grouped, percent, score, times, count, round] {
            assert_eq!([f64::NAN, f64::INFINITY].map(spell), [NONE, NONE]);
        }
    }
}
