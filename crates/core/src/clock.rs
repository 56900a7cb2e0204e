//! The engine's clock: packet time that only moves forward.
//!
//! A source of captures looks ahead and hands over time stamps that are in order. A live source
//! cannot, so the clock has to make do with what came: time stamps may step back a little (several
//! queues or interfaces), and now and then one is plain wrong. The clock follows the earlier of the
//! last two packets, so one stray time stamp far ahead ends no flow, and a packet that is stamped
//! far off takes the clock's time. Two packets in a row far behind mean that the clock was set
//! back: time starts over.

/// What a packet did to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The time now, nanoseconds since the epoch.
    pub now_ns: u64,
    /// When the packet came: its time stamp, or the time now where that is stray.
    pub ts_ns: u64,
    /// Whether time started over: every earlier flow has ended.
    pub restarted: bool,
}

/// Packet time that only moves forward, or starts over.
#[derive(Clone, Debug)]
pub struct Clock {
    now_ns: u64,
    previous_ns: Option<u64>,
    /// How far behind a time stamp must lie to be stray, and two for the clock to start over.
    most_behind_ns: u64,
    /// How far ahead a time stamp must lie to be stray.
    most_ahead_ns: u64,
}

impl Clock {
    /// A clock that starts over when two packets in a row lie more than `most_behind_ns` behind. A
    /// time stamp that leaps ahead by more than `most_ahead_ns` is stray, which makes sense where
    /// the source tells of silence; else it is `u64::MAX`.
    #[must_use]
    pub fn new(most_behind_ns: u64, most_ahead_ns: u64) -> Self {
        Self { now_ns: 0, previous_ns: None, most_behind_ns, most_ahead_ns }
    }

    /// Bounds from now on how far ahead a time stamp is believed.
    pub fn bound_ahead(&mut self, most_ahead_ns: u64) {
        self.most_ahead_ns = most_ahead_ns;
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

    /// Starts over at a time, because whoever looked ahead has seen that packets follow from there.
    pub fn start_at(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.previous_ns = Some(now_ns);
    }

    /// Moves the clock by a packet's time stamp.
    #[inline]
    pub fn tick(&mut self, ts_ns: u64) -> Tick {
        let previous = self.previous_ns.replace(ts_ns).unwrap_or(ts_ns);
        let latest = previous.max(ts_ns);
        let restarted = self.is_behind(latest);
        self.now_ns = if restarted { latest } else { self.now_ns.max(previous.min(ts_ns)) };
        let now_ns = self.now_ns;
        let is_stray = self.is_behind(ts_ns) || ts_ns > now_ns.saturating_add(self.most_ahead_ns);
        Tick { now_ns, ts_ns: if is_stray { now_ns } else { ts_ns }, restarted }
    }

    /// Moves the clock by the time stamp of a frame that belongs to no flow, which never starts
    /// time over.
    pub fn tick_aside(&mut self, ts_ns: u64) -> Tick {
        if self.is_behind(ts_ns) {
            let now_ns = self.now_ns;
            return Tick { now_ns, ts_ns: now_ns, restarted: false };
        }
        self.tick(ts_ns)
    }

    fn is_behind(&self, ts_ns: u64) -> bool {
        ts_ns.saturating_add(self.most_behind_ns) < self.now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stray_time_stamp_moves_nothing_and_two_far_behind_start_over() {
        let mut clock = Clock::new(100, u64::MAX);
        for ts in [1000, 1010, 1005, 1020] {
            assert!(!clock.tick(ts).restarted);
        }
        assert_eq!(clock.now_ns(), 1005);
        clock.tick(9_000_000);
        clock.tick(1030);
        assert_eq!(clock.now_ns(), 1030);
        assert_eq!(clock.tick(5), Tick { now_ns: 1030, ts_ns: 1030, restarted: false });
        assert_eq!(clock.tick(7), Tick { now_ns: 7, ts_ns: 7, restarted: true });
        // It starts over with the later of the two, whichever came first.
        for ts in [2000, 2000, 9] {
            assert!(!clock.tick(ts).restarted);
        }
        assert_eq!(clock.tick(5), Tick { now_ns: 9, ts_ns: 5, restarted: true });
    }

    #[test]
    fn a_leap_ahead_is_stray_until_a_second_packet_says_the_same() {
        let mut clock = Clock::new(100, 100);
        assert_eq!(clock.tick(5000).ts_ns, 5000, "the first packet says what time it is");
        assert_eq!(clock.tick(9000).ts_ns, 5000);
        assert_eq!(clock.tick(5010), Tick { now_ns: 5010, ts_ns: 5010, restarted: false });
        assert_eq!(clock.tick(9000).ts_ns, 5010);
        assert_eq!(clock.tick(9050), Tick { now_ns: 9000, ts_ns: 9050, restarted: false });
        // Silence that the source told of is no leap.
        clock.follow(20_000);
        assert_eq!(clock.tick(20_050).ts_ns, 20_050);
    }

    #[test]
    fn frames_of_no_flow_never_start_time_over() {
        let mut clock = Clock::new(100, u64::MAX);
        clock.tick(1000);
        for _ in 0..3 {
            assert_eq!(clock.tick_aside(3), Tick { now_ns: 1000, ts_ns: 1000, restarted: false });
        }
        assert!(!clock.tick(4).restarted, "only the first packet of a flow that lies behind");
        assert!(clock.tick(5).restarted);
    }

    #[test]
    fn absurd_time_stamps_never_overflow() {
        let mut clock = Clock::new(u64::MAX, u64::MAX);
        for ts in [u64::MAX, 0, u64::MAX, u64::MAX, 0, 0] {
            clock.tick(ts);
        }
        assert_eq!(clock.now_ns(), u64::MAX);
    }
}
