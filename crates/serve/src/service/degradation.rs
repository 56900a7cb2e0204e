//! How far a worker's gates are loosened: a little more while it cannot keep up, a little less once
//! it can.
//!
//! Under more traffic than the models can take, something must give. A full lane sheds whoever
//! comes next; a looser gate keeps from the slow models the flows that they would help least, at a
//! loss of quality that was measured when the cascade was planned. So gates give first. A step down
//! needs pressure, a step back a while without, and between the two lies a band in which nothing
//! changes: else the gates would swing.

/// When gates are loosened and tightened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DegradationLimits {
    /// Whether they are at all.
    pub is_on: bool,
    /// Share of the room of a lane, per mille, from which it is under pressure.
    pub high: u32,
    /// The same below which it is at ease.
    pub low: u32,
    /// Age of a verdict that one in a hundred may exceed, nanoseconds; none where nobody says.
    pub p99_ns: Option<u64>,
    /// Time between two steps that loosen, nanoseconds.
    pub step_ns: u64,
    /// Time at ease before a step that tightens, nanoseconds.
    pub hold_ns: u64,
}

impl Default for DegradationLimits {
    fn default() -> Self {
        Self {
            is_on: true,
            high: 500,
            low: 100,
            p99_ns: None,
            step_ns: 20_000_000,
            hold_ns: 1_000_000_000,
        }
    }
}

/// What a worker feels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneLoad {
    /// Jobs that are with lanes.
    pub jobs: u64,
    /// Jobs for which there is room.
    pub room: u64,
    /// Whether its source had more packets than a batch holds, several times in a row.
    pub is_behind: bool,
    /// A bound on the age of all but one in a hundred verdicts since the last look, nanoseconds, if
    /// there were enough to tell.
    pub p99_ns: Option<u64>,
}

/// A worker's valve.
#[derive(Clone, Copy, Debug)]
pub struct DegradationControl {
    limits: DegradationLimits,
    level: u8,
    /// When it was last changed, and since when it is at ease.
    changed_at: u64,
    at_ease_since: Option<u64>,
    changes: u64,
}

impl DegradationControl {
    /// A valve that is closed.
    #[must_use]
    pub fn new(limits: DegradationLimits) -> Self {
        Self { limits, level: 0, changed_at: 0, at_ease_since: None, changes: 0 }
    }

    /// How far gates are to be loosened.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// How often that changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Looks at the load at `now`, nanoseconds of wall time; `most` is the loosest level there is.
    /// Whether the level changed.
    pub fn look(&mut self, load: &LaneLoad, most: u8, now: u64) -> bool {
        let before = self.level;
        self.level = self.level.min(most);
        if self.limits.is_on {
            self.step(load, most, now);
        }
        let has_changed = self.level != before;
        if has_changed {
            self.changes += 1;
            self.changed_at = now;
            self.at_ease_since = None;
        }
        has_changed
    }

    fn step(&mut self, load: &LaneLoad, most: u8, now: u64) {
        let limits = &self.limits;
        let fill = load.jobs * 1000 / load.room.max(1);
        let is_late =
            load.p99_ns.zip(limits.p99_ns).map(|(found, most)| (found > most, found * 2 > most));
        let under_pressure =
            fill >= u64::from(limits.high) || load.is_behind || is_late.is_some_and(|late| late.0);
        let at_ease =
            fill <= u64::from(limits.low) && !load.is_behind && !is_late.is_some_and(|late| late.1);
        let waited = now.saturating_sub(self.changed_at);
        if under_pressure {
            self.at_ease_since = None;
            if self.level < most && (waited >= limits.step_ns || self.changes == 0) {
                self.level += 1;
            }
        } else if at_ease {
            let since = *self.at_ease_since.get_or_insert(now);
            if self.level > 0 && now.saturating_sub(since) >= limits.hold_ns {
                self.level -= 1;
            }
        } else {
            self.at_ease_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn jobs(jobs: u64) -> LaneLoad {
        LaneLoad { jobs, room: 100, ..LaneLoad::default() }
    }

    #[test]
    fn pressure_loosens_step_by_step_and_ease_tightens_after_a_while() {
        let mut valve = DegradationControl::new(DegradationLimits::default());
        let mut levels = Vec::new();
        for turn in 0..100 {
            valve.look(&jobs(80), 3, turn * MS);
            levels.push(valve.level());
        }
        assert_eq!((levels[0], levels[19], levels[20], levels[40], levels[99]), (1, 1, 2, 3, 3));
        // Between the two bounds nothing changes, however long.
        for turn in 100..5000 {
            assert!(!valve.look(&jobs(30), 3, turn * MS));
        }
        let mut tightened = Vec::new();
        for turn in 5000..9000 {
            if valve.look(&jobs(5), 3, turn * MS) {
                tightened.push(turn);
            }
        }
        assert_eq!(tightened, [6000, 7001, 8002], "one step for each second at ease");
        assert_eq!((valve.level(), valve.changes()), (0, 6));
    }

    #[test]
    fn a_moment_of_load_begins_the_wait_anew() {
        let mut valve = DegradationControl::new(DegradationLimits::default());
        valve.look(&jobs(90), 5, 0);
        for turn in 1..3000 {
            let load = if turn % 900 == 0 { jobs(30) } else { jobs(0) };
            assert!(!valve.look(&load, 5, turn * MS), "{turn}");
        }
    }

    #[test]
    fn lateness_and_a_source_ahead_are_pressure_too() {
        let limits = DegradationLimits { p99_ns: Some(10 * MS), ..DegradationLimits::default() };
        let late = |ms| LaneLoad { p99_ns: Some(ms * MS), room: 1, ..LaneLoad::default() };
        let mut valve = DegradationControl::new(limits);
        assert!(valve.look(&late(11), 2, 0));
        // More than half of what is allowed is not yet ease.
        assert!((1..5000).all(|turn| !valve.look(&late(6), 2, turn * MS)));
        assert!(valve.look(&LaneLoad { is_behind: true, ..LaneLoad::default() }, 2, 6000 * MS));
        assert!((6001..7500).any(|turn| valve.look(&late(4), 2, turn * MS)));
        assert_eq!(valve.level(), 1);
    }

    #[test]
    fn a_bundle_without_relief_has_one_level_and_one_that_is_off_stays_so() {
        let mut valve = DegradationControl::new(DegradationLimits::default());
        assert!(!valve.look(&jobs(100), 0, 0));
        valve.look(&jobs(100), 4, 0);
        assert!(valve.look(&jobs(100), 0, 1) && valve.level() == 0, "a bundle with fewer levels");
        let mut off = DegradationControl::new(DegradationLimits {
            is_on: false,
            ..DegradationLimits::default()
        });
        assert!(!off.look(&jobs(100), 4, 0));
    }
}
