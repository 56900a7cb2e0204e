//! The engine's clock: packet time that only moves forward.
//!
//! A capture's time stamps may step back a little (several queues or interfaces) and now and then
//! one is plain wrong. The clock follows the earlier of the last two packets, so one stray time
//! stamp far ahead does not end every flow; and when two packets in a row lie far behind, the
//! capture has started over (files in the wrong order, a clock that was set) and so does the clock.

/// What a packet did to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The time now, nanoseconds since the epoch.
    pub now_ns: u64,
    /// Whether time started over: every earlier flow has ended.
    pub restarted: bool,
}

/// Packet time that only moves forward, or starts over.
#[derive(Clone, Debug)]
pub struct Clock {
    now_ns: u64,
    previous_ns: Option<u64>,
    /// How far behind two packets must lie for the clock to start over.
    patience_ns: u64,
}

impl Clock {
    /// A clock that starts over when two packets in a row lie more than `patience_ns` behind.
    #[must_use]
    pub fn new(patience_ns: u64) -> Self {
        Self { now_ns: 0, previous_ns: None, patience_ns }
    }

    /// The time now, nanoseconds since the epoch; 0 before the first packet.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Follows another clock, which has seen this packet and others.
    pub fn follow(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Moves the clock by a packet's time stamp.
    pub fn tick(&mut self, ts_ns: u64) -> Tick {
        let previous = self.previous_ns.replace(ts_ns).unwrap_or(ts_ns);
        let latest = previous.max(ts_ns);
        let restarted = latest.saturating_add(self.patience_ns) < self.now_ns;
        self.now_ns = if restarted { latest } else { self.now_ns.max(previous.min(ts_ns)) };
        Tick { now_ns: self.now_ns, restarted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stray_time_stamp_moves_nothing_and_two_far_behind_start_over() {
        let mut clock = Clock::new(100);
        for ts in [1000, 1010, 1005, 1020] {
            assert!(!clock.tick(ts).restarted);
        }
        assert_eq!(clock.now_ns(), 1005);
        clock.tick(9_000_000);
        clock.tick(1030);
        assert_eq!(clock.now_ns(), 1030);
        assert!(!clock.tick(5).restarted);
        assert_eq!(clock.tick(7), Tick { now_ns: 7, restarted: true });
        // It starts over with the later of the two, whichever came first.
        for ts in [2000, 2000, 9] {
            assert!(!clock.tick(ts).restarted);
        }
        assert_eq!(clock.tick(5), Tick { now_ns: 9, restarted: true });
    }

    #[test]
    fn absurd_time_stamps_never_overflow() {
        let mut clock = Clock::new(u64::MAX);
        for ts in [u64::MAX, 0, u64::MAX, u64::MAX, 0, 0] {
            clock.tick(ts);
        }
        assert_eq!(clock.now_ns(), u64::MAX);
    }
}
