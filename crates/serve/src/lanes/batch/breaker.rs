//! The circuit breaker: a stage whose model fails again and again is left alone for a while.

/// The longest that a breaker stays open.
const LONGEST_NS: u64 = 60_000_000_000;

/// What becomes of a job that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is scored.
    On,
    /// It is scored, and tells whether the model is well again.
    Try,
    /// It comes back without a call.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open {
        until_ns: u64,
    },
    /// Half open: all depends on the job with this id.
    Trying {
        id: u64,
    },
}

/// The breaker of a stage. It only computes; what time it is, it is told.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    state: State,
    /// Calls that failed since the last one that did not.
    failures: u32,
    /// So many open it.
    most_failures: u32,
    /// How long it is open at first.
    first_pause_ns: u64,
    /// How long it was open last.
    pause_ns: u64,
}

impl Breaker {
    /// A closed one that so many failures in a row open.
    pub(super) fn new(most_failures: u32, first_pause_ns: u64) -> Self {
        let first_pause_ns = first_pause_ns.min(LONGEST_NS);
        let pause_ns = first_pause_ns;
        Self { state: State::Closed, failures: 0, most_failures, first_pause_ns, pause_ns }
    }

    /// Where a job goes that asks now.
    pub(super) fn way(&self, now_ns: u64) -> Way {
        match self.state {
            State::Closed => Way::On,
            State::Open { until_ns } if until_ns <= now_ns => Way::Try,
            State::Open { .. } | State::Trying { .. } => Way::Back,
        }
    }

    /// The job that it was tried with.
    pub(super) fn try_with(&mut self, id: u64) {
        self.state = State::Trying { id };
    }

    /// A call was answered, or not. Whether that opened the breaker.
    pub(super) fn note_call(&mut self, went_well: bool, now_ns: u64) -> bool {
        if self.state != State::Closed {
            // It began before the breaker opened, or it is the trial, which goes by its job.
            return false;
        }
        self.failures = if went_well { 0 } else { self.failures.saturating_add(1) };
        let opens = self.failures >= self.most_failures.max(1);
        if opens {
            self.pause_ns = self.first_pause_ns;
            self.open(now_ns);
        }
        opens
    }

    /// A job came back. Whether that opened the breaker again.
    pub(super) fn note_job(&mut self, id: u64, went_well: bool, now_ns: u64) -> bool {
        if self.state != (State::Trying { id }) {
            return false;
        }
        if went_well {
            self.failures = 0;
            self.state = State::Closed;
        } else {
            self.pause_ns = self.pause_ns.saturating_mul(2).min(LONGEST_NS);
            self.open(now_ns);
        }
        !went_well
    }

    fn open(&mut self, now_ns: u64) {
        self.state = State::Open { until_ns: now_ns.saturating_add(self.pause_ns) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        let mut breaker = Breaker::new(3, SECOND);
        for went_well in [false, false, true, false, false] {
            assert!(!breaker.note_call(went_well, 0));
            assert_eq!(breaker.way(0), Way::On);
        }
        assert!(breaker.note_call(false, 0));
        assert_eq!(breaker.way(SECOND - 1), Way::Back);
        assert_eq!(breaker.way(SECOND), Way::Try);
    }

    #[test]
    fn one_job_is_let_through_and_what_comes_of_it_decides() {
        let mut breaker = Breaker::new(1, SECOND);
        assert!(breaker.note_call(false, 0));
        breaker.try_with(7);
        assert_eq!(breaker.way(SECOND), Way::Back, "one at a time");
        assert!(!breaker.note_call(true, SECOND), "calls that began before decide nothing");
        assert!(!breaker.note_job(6, true, SECOND), "nor do other jobs");
        assert_eq!(breaker.way(SECOND), Way::Back);
        assert!(!breaker.note_job(7, true, SECOND));
        assert_eq!(breaker.way(SECOND), Way::On);
    }

    #[test]
    fn each_trial_in_vain_doubles_the_pause_up_to_a_minute_and_a_success_forgets_it() {
        let mut breaker = Breaker::new(1, SECOND);
        assert!(breaker.note_call(false, 0));
        let mut now = SECOND;
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(breaker.way(now), Way::Try);
            breaker.try_with(now);
            assert!(breaker.note_job(now, false, now));
            assert_eq!(breaker.way(now + pause * SECOND - 1), Way::Back);
            now += pause * SECOND;
        }
        breaker.try_with(1);
        assert!(!breaker.note_job(1, true, now));
        assert!(breaker.note_call(false, now));
        assert_eq!(breaker.way(now + SECOND), Way::Try, "from the beginning again");
    }
}
