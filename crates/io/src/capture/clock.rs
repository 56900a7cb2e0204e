//! Time stamps of a pcapng interface, whose unit the interface declares.

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

    /// Nanoseconds since the epoch; times that do not fit 64 bits become the nearest that do.
    #[inline]
    pub(crate) fn ns(&self, ticks: u64) -> u64 {
        let ns = match self.scale {
            Scale::Times(factor) if self.offset_s == 0 => return ticks.saturating_mul(factor),
            Scale::Times(factor) => u128::from(ticks) * u128::from(factor),
            Scale::Over(divisor) => u128::from(ticks / divisor),
            Scale::Binary(power) => (u128::from(ticks) * u128::from(SECOND)) >> power,
        };
        let ns = i128::try_from(ns).expect("2^64 ticks of at most a second are below 2^94 ns");
        let offset = i128::from(self.offset_s) * i128::from(SECOND);
        u64::try_from((ns + offset).max(0)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_ten_and_two_reach_the_same_time() {
        let seconds = 1_700_000_000u64;
        let ns = seconds * SECOND + SECOND / 2;
        assert_eq!(Clock::new(None, 0).ns(seconds * 1_000_000 + 500_000), ns);
        assert_eq!(Clock::new(Some(9), 0).ns(ns), ns);
        assert_eq!(Clock::new(Some(3), 0).ns(seconds * 1000 + 500), ns);
        assert_eq!(Clock::new(Some(0), 0).ns(seconds), seconds * SECOND);
        assert_eq!(Clock::new(Some(10), 0).ns(ns * 10 + 9), ns);
        assert_eq!(Clock::new(Some(0x80 | 20), 0).ns((seconds << 20) + (1 << 19)), ns);
        assert_eq!(Clock::new(Some(0x80), 0).ns(seconds), seconds * SECOND);
    }

    #[test]
    fn offsets_shift_by_whole_seconds() {
        assert_eq!(Clock::new(Some(6), 10).ns(5), 10 * SECOND + 5000);
        assert_eq!(Clock::new(Some(6), -10).ns(10_000_001), 1000);
        assert_eq!(Clock::new(Some(6), -10).ns(1), 0);
    }

    #[test]
    fn absurd_clocks_saturate() {
        for resolution in 0..=u8::MAX {
            for offset in [0, 1, -1, i64::MAX, i64::MIN] {
                let clock = Clock::new(Some(resolution), offset);
                let (first, last) = (clock.ns(0), clock.ns(u64::MAX));
                assert!(first <= last, "{resolution} {offset}");
            }
        }
        assert_eq!(Clock::new(Some(0), 0).ns(u64::MAX), u64::MAX);
        assert_eq!(Clock::new(Some(6), i64::MAX).ns(1), u64::MAX);
        assert_eq!(Clock::new(Some(6), i64::MIN).ns(1), 0);
        assert_eq!(Clock::new(Some(127), 0).ns(u64::MAX), 1);
    }
}
