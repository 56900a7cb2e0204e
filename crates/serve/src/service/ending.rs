//! The end: how long it may take, and what is lost if it takes longer.

use super::{EXIT_LOST, Service, log};
use std::time::{Duration, Instant};

/// Watches an end that is under way.
#[derive(Debug)]
pub(super) struct Ending {
    /// Longest time without progress.
    patience: Duration,
    /// Verdicts written at the last progress, and when that was; `None` while it serves.
    progress: Option<(Progress, Instant)>,
}

/// What shows that an end goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    written: u64,
    seen: u64,
    workers_done: usize,
}

/// What an end has left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unfinished {
    /// Flows that have no verdict.
    flows: u64,
    /// Packets that the kernel handed over and no worker has seen.
    packets: u64,
    /// Records that the output has not taken, or never will.
    records: u64,
    /// Workers that have not ended.
    workers: usize,
    /// Workers that failed.
    failed: usize,
    /// Time without progress.
    idle: Duration,
}

impl Ending {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, progress: None }
    }

    /// What is left undone if the end makes no progress any more: a model or an output that hangs
    /// holds up its worker. An end that goes on takes as long as a full table takes.
    pub(super) fn look(&mut self, service: &Service) -> Option<Unfinished> {
        if !service.is_stopping() {
            return None;
        }
        let now = progress(service);
        match &self.progress {
            Some((before, since)) if *before == now => {
                let idle = since.elapsed();
                (idle >= self.patience).then(|| Unfinished { idle, ..undone(service) })
            }
            _ => {
                self.progress = Some((now, Instant::now()));
                None
            }
        }
    }
}

fn progress(service: &Service) -> Progress {
    let totals = service.board.totals();
    Progress {
        written: service.board.written(),
        seen: totals.sum.accounts.packets.seen,
        workers_done: totals.done,
    }
}

fn undone(service: &Service) -> Unfinished {
    let totals = service.board.totals();
    let accounts = &totals.sum.accounts;
    let received: u64 = service.interfaces().iter().map(|one| one.received).sum();
    Unfinished {
        // Not the difference to the state, which is as old as its worker's last turn.
        flows: accounts.flows.seen.saturating_sub(service.board.written()),
        packets: received.saturating_sub(accounts.packets.seen),
        records: service.output().made() - service.output().written,
        workers: service.board.turns().len() - totals.done,
        failed: totals.failed,
        idle: Duration::ZERO,
    }
}

impl Unfinished {
    /// Ends the process, and says what it has left undone.
    pub(super) fn leave(self) -> ! {
        let Self { flows, packets, records, workers, failed, idle } = self;
        let idle_ms = idle.as_millis() as u64;
        if workers == 0 {
            // What is left to do is to free memory.
            tracing::warn!(
                idle_ms,
                records_not_written = records,
                "every flow has its verdict, and the process does not end by itself"
            );
            log::finish();
            std::process::exit(if records > 0 || failed > 0 { EXIT_LOST } else { 0 });
        }
        tracing::error!(
            flows_without_verdict = flows,
            packets_not_served = packets,
            workers_not_ended = workers,
            idle_ms,
            "stopped before every open flow had its verdict: the end made no progress"
        );
        log::finish();
        std::process::exit(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Typed;
    use crate::lanes::LaneMaker;
    use crate::service::{BundleSwap, LoadedBundle, VerdictStats};
    use serveflow_model::LoadOptions;
    use serveflow_model::bundle::Bundle;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    fn service() -> Service {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/app_protocol/bundle");
        let options = LoadOptions::default();
        let (bundle, typed) = (Bundle::open(&path, &options).unwrap(), Typed::default());
        let config = typed.check_for(&bundle).unwrap();
        let loaded = LoadedBundle::new(bundle, &path, &config).unwrap();
        let stop = Arc::default();
        let maker = LaneMaker::new(&config, 2, true, crate::clock::now_ns, &stop);
        Service::new(BundleSwap::new(loaded, config, typed, maker, options), 2, None, stop)
    }

    /// An end is given up only when nothing of it has moved for as long as it may rest, and what is
    /// lost is what is not written at that moment, whatever the workers said last.
    #[test]
    fn an_end_may_take_long_and_not_stand_still() {
        let service = service();
        let patience = Duration::from_millis(5);
        let mut ending = Ending::new(patience);
        let rest = || std::thread::sleep(patience * 2);
        assert_eq!(ending.look(&service), None);
        rest();
        assert_eq!(ending.look(&service), None, "it serves");
        service.stop();
        let tally = Arc::new(Mutex::new(VerdictStats::new(&[], &[])));
        service.board.count_by(0, &tally);
        service.board.saw_for_test(0, 5);
        assert_eq!(ending.look(&service), None, "the end begins");
        for _ in 0..3 {
            rest();
            tally.lock().unwrap().compute.add(1);
            assert_eq!(ending.look(&service), None, "a verdict was written");
        }
        rest();
        service.board.done(1);
        assert_eq!(ending.look(&service), None, "a worker ended");
        rest();
        let left = ending.look(&service).unwrap();
        assert_eq!((left.flows, left.packets, left.workers), (2, 0, 1));
        assert!(left.idle >= patience);
    }
}
