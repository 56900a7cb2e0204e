//! What systemd is told: that it is ready, that the workers turn, that it stops (sd_notify(3)).

use super::Service;
use std::time::{Duration, Instant};

/// The state that was told last.
#[derive(Debug)]
pub(super) struct Systemd {
    is_ready: bool,
    /// How often a sign of life is wanted: twice as often as the watchdog looks.
    every: Option<Duration>,
    told_at: Instant,
    turns: Vec<u64>,
    /// Whether a worker stood still at the last look, which is logged when it changes.
    stands: bool,
}

impl Systemd {
    pub(super) fn new() -> Self {
        let every = watchdog().map(|limit| limit / 2);
        Self { is_ready: false, every, told_at: Instant::now(), turns: Vec::new(), stands: false }
    }

    /// Tells what is new. A sign of life is given only if every worker has turned since the last one, so that
    /// systemd starts anew what hangs.
    pub(super) fn look(&mut self, service: &Service) {
        let turns = service.board.turns();
        if !self.is_ready && turns.iter().all(|(turns, _)| *turns > 0) {
            self.is_ready = true;
            tell("ready");
        }
        if self.every.is_none_or(|every| self.told_at.elapsed() < every) {
            return;
        }
        let before =
            std::mem::replace(&mut self.turns, turns.iter().map(|(turns, _)| *turns).collect());
        let all_turn = turns.iter().enumerate().all(|(worker, (turns, is_done))| {
            *is_done || before.get(worker).is_none_or(|before| turns > before)
        });
        match (all_turn, self.stands) {
            (false, false) => tracing::error!("a worker makes no progress"),
            (true, true) => tracing::info!("every worker makes progress again"),
            _ => {}
        }
        self.stands = !all_turn;
        if all_turn {
            self.told_at = Instant::now();
            tell("watchdog");
        }
    }

    pub(super) fn stopping(&self) {
        tell("stopping");
    }
}

#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(target_os = "linux")]
fn tell(what: &str) {
    use sd_notify::NotifyState;
    let state = match what {
        "ready" => NotifyState::Ready,
        "watchdog" => NotifyState::Watchdog,
        _ => NotifyState::Stopping,
    };
    // Without systemd nobody listens, and that is well.
    let _ = sd_notify::notify(&[state]);
}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}

#[cfg(not(target_os = "linux"))]
fn tell(_what: &str) {}
