//! How time passes for an engine: by packets and by silence.

use super::{Engine, Fate};

impl Engine {
    /// Ends every flow, because whoever saw all packets has seen time start over: at `before_ns`
    /// until then, at `now_ns` from then on.
    pub fn start_over(&mut self, before_ns: u64, now_ns: u64) {
        self.accounts.clock_restarts += 1;
        self.clock.start_at(now_ns);
        self.end_all(before_ns);
    }

    /// Says that packets come as they happen, from a source that cannot look ahead but tells of
    /// silence: from now on a time stamp that leaps ahead by more than the idle timeout is stray
    /// ([`EngineConfig::most_ahead_ns`](super::EngineConfig::most_ahead_ns)).
    pub fn come_live(&mut self) {
        self.config.most_ahead_ns = self.config.most_ahead_ns.min(self.config.flows.idle_ns);
        self.clock.bound_ahead(self.config.most_ahead_ns);
    }

    /// Counts what a source found that puts packets in order: packets that it could not, and stray
    /// time stamps that it mended.
    pub fn note_order(&mut self, out_of_order: u64, stray_timestamps: u64) {
        self.accounts.packets_out_of_order += out_of_order;
        self.accounts.stray_timestamps += stray_timestamps;
    }

    /// Moves time ahead without a packet: a live interface was silent until then. Time never moves
    /// back.
    pub fn pass_time(&mut self, now_ns: u64) {
        self.clock.follow(self.clock.now_ns().max(now_ns));
    }

    /// Moves the clock by a packet's time stamp; when the packet came, by the clock.
    #[inline]
    pub(super) fn tick(&mut self, ts_ns: u64, fate: Fate) -> u64 {
        let before_ns = self.clock.now_ns();
        let tick = match fate {
            Fate::Rejected(_) => self.clock.tick_aside(ts_ns),
            Fate::Taken | Fate::Filtered => self.clock.tick(ts_ns),
        };
        if tick.restarted {
            self.accounts.clock_restarts += 1;
            self.end_all(before_ns);
        }
        self.accounts.stray_timestamps += u64::from(tick.ts_ns != ts_ns);
        // Captures come in order, or with a count of their own.
        let is_late = tick.ts_ns < tick.now_ns && self.config.most_ahead_ns < u64::MAX;
        self.accounts.packets_out_of_order += u64::from(is_late);
        tick.ts_ns
    }

    /// Ends flows and waits whose time has passed. Call once per batch.
    pub fn advance(&mut self) {
        let now = self.clock.now_ns();
        self.pass_leaving(now);
        self.pass_deadlines(now);
    }

    fn end_all(&mut self, now: u64) {
        let all = self.table.all();
        self.end_these(&all, now);
    }
}
