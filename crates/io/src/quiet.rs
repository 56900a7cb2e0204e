//! Until when a silent source had no frame.

/// How far ahead of the time that passed a frame may be stamped, nanoseconds, if time is to go on
/// from there.
const LEAP_NS: u64 = 120_000_000_000;

/// When the last frame came, by its time stamp and by the wall clock: from there time goes on while
/// nothing comes. A time stamp that leaps ahead is not believed until the next one says the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastSeen {
    /// Time stamp, and when it was read, both nanoseconds, of clocks that run alike.
    last: Option<(u64, u64)>,
    has_leapt: bool,
}

impl LastSeen {
    /// Notes the time stamp of the last frame that was read.
    pub fn see(&mut self, ts_ns: u64, wall_ns: u64) {
        let leaps = self.until(wall_ns).is_some_and(|now| ts_ns > now.saturating_add(LEAP_NS));
        if !leaps || self.has_leapt {
            self.last = Some((ts_ns, wall_ns));
        }
        self.has_leapt = leaps;
    }

    /// The time by frames at a wall time, as long behind the last one as that is behind its
    /// reading; none before the first, or before that was read.
    #[must_use]
    pub fn until(&self, wall_ns: u64) -> Option<u64> {
        let (ts_ns, read_at) = self.last?;
        Some(ts_ns.saturating_add(wall_ns.checked_sub(read_at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_last_frame_and_not_from_a_stray_one() {
        let mut seen = LastSeen::default();
        assert_eq!(seen.until(5), None);
        seen.see(1_000, 10);
        assert_eq!(seen.until(10), Some(1_000));
        assert_eq!(seen.until(25), Some(1_015));
        seen.see(u64::MAX, 30);
        assert_eq!(seen.until(40), Some(1_030), "one that leaps is stray");
        seen.see(1_040, 50);
        assert_eq!(seen.until(50), Some(1_040));
        for _ in 0..2 {
            seen.see(LEAP_NS * 3, 60);
        }
        assert_eq!(seen.until(60), Some(LEAP_NS * 3), "two say that the clock was set");
    }
}
