//! Time stamps of a pcapng interface, whose unit the interface declares.

use serveflow_core::packet::LAST_NS;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

/// Turns an interface's ticks into nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    scale: Scale,
    /// Seconds to add (`if_tsoffset`).
    offset_s: i64,
}

/// How a tick relates to a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// A tick is this many nanoseconds.
    Times(u64),
    /// This many ticks are a nanosecond.
    Over(u64),
    /// Two to this power ticks are a second.
    Binary(u32),
}

impl Clock {
    /// A clock from the options `if_tsresol` and `if_tsoffset`.
    ///
    /// The top bit of the resolution chooses between negative powers of two and of ten; without the
    /// option a tick is a microsecond.
    pub(crate) fn new(resolution: Option<u8>, offset_s: i64) -> Self {
        let resolution = resolution.unwrap_or(6);
        let power = u32::from(resolution & 0x7f);
        let scale = if resolution & 0x80 != 0 {
            Scale::Binary(power)
        } else if power <= 9 {
            Scale::Times(10u64.pow(9 - power))
        } else {
            // Beyond 10^19 ticks a nanosecond no 64-bit count reaches the first nanosecond.
            Scale::Over(10u64.checked_pow(power - 9).unwrap_or(u64::MAX))
        };
        Self { scale, offset_s }
    }

    /// Nanoseconds since the epoch, and whether that is the time that was meant: one before the
    /// epoch or behind [`LAST_NS`] becomes the nearest that can be stated.
    #[inline]
    pub(crate) fn ns(&self, ticks: u64) -> (u64, bool) {
        let ns = match self.scale {
            Scale::Times(factor) if self.offset_s == 0 => {
                let ns = ticks.saturating_mul(factor);
                return (ns.min(LAST_NS), ns <= LAST_NS);
            }
            Scale::Times(factor) => u128::from(ticks) * u128::from(factor),
            Scale::Over(divisor) => u128::from(ticks / divisor),
            Scale::Binary(power) => (u128::from(ticks) * u128::from(SECOND)) >> power,
        };
        let ns = i128::try_from(ns).expect("2^64 ticks of at most a second are below 2^94 ns");
        let offset = i128::from(self.offset_s) * i128::from(SECOND);
        let meant = ns + offset;
        let held = meant.clamp(0, i128::from(LAST_NS));
        (held as u64, held == meant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The time alone.
    fn time(resolution: Option<u8>, offset_s: i64, ticks: u64) -> u64 {
        Clock::new(resolution, offset_s).ns(ticks).0
    }

    #[test]
    fn powers_of_ten_and_two_reach_the_same_time() {
        let seconds = 1_700_000_000u64;
        let ns = seconds * SECOND + SECOND / 2;
        assert_eq!(time(None, 0, seconds * 1_000_000 + 500_000), ns);
        assert_eq!(time(Some(9), 0, ns), ns);
        assert_eq!(time(Some(3), 0, seconds * 1000 + 500), ns);
        assert_eq!(time(Some(0), 0, seconds), seconds * SECOND);
        assert_eq!(time(Some(10), 0, ns * 10 + 9), ns);
        assert_eq!(time(Some(0x80 | 20), 0, (seconds << 20) + (1 << 19)), ns);
        assert_eq!(time(Some(0x80), 0, seconds), seconds * SECOND);
    }

    #[test]
    fn offsets_shift_by_whole_seconds() {
        assert_eq!(time(Some(6), 10, 5), 10 * SECOND + 5000);
        assert_eq!(time(Some(6), -10, 10_000_001), 1000);
        assert_eq!(time(Some(6), -10, 1), 0);
    }

    #[test]
    fn absurd_clocks_saturate() {
        for resolution in 0..=u8::MAX {
            for offset in [0, 1, -1, i64::MAX, i64::MIN] {
                let clock = Clock::new(Some(resolution), offset);
                let (first, last) = (clock.ns(0).0, clock.ns(u64::MAX).0);
                assert!(first <= last && last <= LAST_NS, "{resolution} {offset}");
            }
        }
        assert_eq!(time(Some(0), 0, u64::MAX), LAST_NS);
        assert_eq!(time(Some(6), i64::MAX, 1), LAST_NS);
        assert_eq!(time(Some(6), i64::MIN, 1), 0);
        assert_eq!(time(Some(127), 0, u64::MAX), 1);
    }

    /// Either the time is the one that was meant, or it is known not to be.
    #[test]
    fn a_time_that_cannot_be_stated_is_told_and_no_other() {
        let last = LAST_NS / SECOND;
        for (offset, ticks, expected) in [
            (0, 0, true),
            (0, last, true),
            (0, last + 1, false),
            (0, u64::MAX, false),
            (5, last - 5, true),
            (5, last - 4, false),
            (-5, 5, true),
            (-5, 4, false),
            (-5, last + 5, true),
            (-5, last + 6, false),
        ] {
            for power in 0..=9 {
                let ticks = ticks.saturating_mul(10_u64.pow(power));
                let (ns, is_meant) = Clock::new(Some(power as u8), offset).ns(ticks);
                assert_eq!(is_meant, expected, "{offset} {ticks} {power}");
                let meant = i128::from(ticks) * i128::from(10_u64.pow(9 - power))
                    + i128::from(offset) * i128::from(SECOND);
                assert_eq!(i128::from(ns), meant.clamp(0, i128::from(LAST_NS)));
            }
        }
    }
}
