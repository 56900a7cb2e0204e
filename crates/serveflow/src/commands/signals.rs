//! What signals do to a run.

use super::complain;
use anyhow::Context;
use serveflow_output::Output;
use serveflow_serve::service::log;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Two stop signals within this time count as one: some programs signal a process and its group.
const ONE: Duration = Duration::from_millis(500);

/// Longest that SIGUSR2 holds the output, nanoseconds: nothing has to release it.
const HOLD_NS: u64 = 10_000_000_000;

/// What is said of a run that a second signal ends.
fn ended_at_once(output: Option<&Output>) -> String {
    let status = output.map(Output::status).unwrap_or_default();
    format!(
        "ended at once by a second signal: open flows have no verdict, and of {} records made {} \
         may be lost\n",
        status.made(),
        status.made() - status.written
    )
}

/// What signals set.
pub(crate) struct Signals {
    /// SIGINT and SIGTERM: stop, with a verdict for every open flow. A later one exits at once.
    pub(crate) stop: Arc<AtomicBool>,
    /// SIGHUP: the bundle is read again.
    pub(crate) reload: Arc<AtomicBool>,
    is_loading: Arc<AtomicBool>,
    caught: iterator::Signals,
}

impl Signals {
    /// Catches signals from now on. Until `follow`, SIGINT and SIGTERM exit: there are no flows
    /// yet.
    pub(crate) fn catch() -> anyhow::Result<Self> {
        let is_loading = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM] {
            register_conditional_shutdown(signal, 0, Arc::clone(&is_loading))
                .context("cannot listen for signals")?;
        }
        let caught = iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]);
        let caught = caught.context("cannot listen for signals")?;
        Ok(Self { stop: Arc::default(), reload: Arc::default(), is_loading, caught })
    }

    /// Handles signals on a thread, also those since `catch`: SIGHUP and SIGUSR1 reopen the output,
    /// SIGUSR2 holds it while another process copies and truncates its file. The thread has the
    /// privileges of the caller.
    pub(crate) fn follow(mut self, output: Option<Output>) -> anyhow::Result<()> {
        self.is_loading.store(false, Ordering::Relaxed);
        let follow = move || {
            let mut ends_since = None;
            for signal in self.caught.forever() {
                match (signal, &output) {
                    (SIGHUP | SIGUSR1, Some(output)) => output.reopen(),
                    (SIGUSR2, Some(output)) => output.hold(HOLD_NS),
                    _ => {}
                }
                if signal == SIGHUP {
                    self.reload.store(true, Ordering::Relaxed);
                }
                if [SIGHUP, SIGUSR1, SIGUSR2].contains(&signal) {
                    continue;
                }
                self.stop.store(true, Ordering::Relaxed);
                if ends_since.get_or_insert_with(Instant::now).elapsed() >= ONE {
                    complain(&ended_at_once(output.as_ref()));
                    log::finish();
                    std::process::exit(1);
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(follow).map(|_| ()).context("cannot start the thread signals")
    }
}
