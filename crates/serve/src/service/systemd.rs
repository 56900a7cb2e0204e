//! What systemd is told: that it is ready, that the workers turn, that it stops (sd_notify(3)).

use super::Service;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The state that was told last.
#[derive(Debug)]
pub(super) struct Systemd {
    manager: Manager,
    is_ready: bool,
    /// Whether a sign of life found no room.
    owes_life: bool,
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
        Self {
            manager: Manager::of_environment(),
            is_ready: false,
            owes_life: false,
            every,
            told_at: Instant::now(),
            turns: Vec::new(),
            stands: false,
        }
    }

    /// Tells what is new. A sign of life is given only if every worker has turned since the last
    /// one, so that systemd starts anew what hangs.
    pub(super) fn look(&mut self, service: &Service) {
        let turns = service.board.turns();
        if !self.is_ready && turns.iter().all(|(turns, _)| *turns > 0) {
            self.is_ready = self.manager.tell("READY=1");
        }
        if self.owes_life {
            self.owes_life = !self.manager.tell("WATCHDOG=1");
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
            self.owes_life = !self.manager.tell("WATCHDOG=1");
        }
    }

    pub(super) fn stopping(&self) {
        self.manager.tell("STOPPING=1");
    }
}

/// Who started the process, where it wants to be told.
#[derive(Debug)]
struct Manager(Option<(UnixDatagram, SocketAddr)>);

impl Manager {
    /// The one that `NOTIFY_SOCKET` names. The thread that tells also answers requests and ends the
    /// process, so it must never wait for a manager that does not read.
    fn of_environment() -> Self {
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name));
        Self(address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        }))
    }

    /// Whether this is told: also where nobody listens, and that is well. Not where there is no
    /// room now.
    fn tell(&self, state: &str) -> bool {
        self.0
            .as_ref()
            .is_none_or(|(socket, address)| socket.send_to_addr(state.as_bytes(), address).is_ok())
    }
}

/// Abstract where it begins with @, and else a path.
#[cfg(target_os = "linux")]
fn address(name: &std::ffi::OsStr) -> Option<SocketAddr> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(name).ok(),
    }
}

#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

#[cfg(not(target_os = "linux"))]
fn address(_name: &std::ffi::OsStr) -> Option<SocketAddr> {
    None
}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}
