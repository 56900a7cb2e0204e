//! Whether traffic is served, and each reason why it is not.
//!
//! A part of the service that can fail has a variant here: what `/readyz` and `/status` list is all
//! that an operator or an orchestrator learns of it without reading the log.

use super::{Service, WorkerStates};
use crate::live::InterfaceCount;
use std::collections::BTreeMap;
use std::fmt;

/// A reason why the service is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// Some workers have not served their first batch yet.
    Starting {
        /// Workers that have.
        started: usize,
        /// All workers.
        workers: usize,
    },
    /// It was told to stop.
    Stopping,
    /// A worker panicked, and serves no more.
    WorkerFailed {
        /// The worker's number, from 0.
        worker: usize,
        /// What the panic said.
        why: String,
    },
    /// An interface is not there, and is waited for.
    WaitingForInterface {
        /// Its name.
        interface: String,
    },
    /// The input of a worker is at its end.
    WorkerEnded {
        /// The worker's number, from 0.
        worker: usize,
    },
    /// Records wait, and the output has taken none of them for `output.stall_ms`.
    OutputStalled {
        /// The error that keeps it from writing, if there is one.
        trouble: Option<String>,
    },
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting { started, workers } => {
                write!(f, "starting: {started} of {workers} workers serve")
            }
            Self::Stopping => f.write_str("stopping"),
            Self::WorkerFailed { worker, why } => write!(f, "worker {worker} failed: {why}"),
            Self::WaitingForInterface { interface } => {
                write!(f, "waiting for interface {interface}")
            }
            Self::WorkerEnded { worker } => write!(f, "worker {worker} ended: no more input"),
            Self::OutputStalled { trouble: None } => f.write_str("output stalled"),
            Self::OutputStalled { trouble: Some(why) } => write!(f, "output stalled: {why}"),
        }
    }
}

impl Service {
    /// Every reason why it is not ready; none while all workers serve.
    #[must_use]
    pub fn readiness(&self) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        if self.is_stopping() {
            reasons.push(NotReady::Stopping);
        }
        reasons.extend(of_workers(&self.board));
        let output = self.output();
        if output.is_stalled {
            reasons.push(NotReady::OutputStalled { trouble: output.trouble });
        }
        reasons.extend(of_interfaces(self.interfaces()));
        reasons
    }
}

/// A text that came from elsewhere, so that each reason stays one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The reasons that lie with interfaces.
fn of_interfaces(interfaces: Vec<InterfaceCount>) -> impl Iterator<Item = NotReady> {
    let gone = interfaces.into_iter().filter(|one| one.is_gone && one.is_waited_for);
    gone.map(|one| NotReady::WaitingForInterface { interface: one.name })
}

/// The reasons that lie with workers.
fn of_workers(board: &WorkerStates) -> Vec<NotReady> {
    let turns = board.turns();
    let failures: BTreeMap<_, _> = board.failures().into_iter().collect();
    let ended = turns.iter().enumerate().filter(|(_, (_, is_done))| *is_done);
    let reason = |(worker, _)| match failures.get(&worker) {
        Some(why) => NotReady::WorkerFailed { worker, why: one_line(why) },
        None => NotReady::WorkerEnded { worker },
    };
    let mut reasons: Vec<_> = ended.map(reason).collect();
    let started = turns.iter().filter(|(turns, is_done)| *turns > 0 || *is_done).count();
    if started < turns.len() {
        reasons.insert(0, NotReady::Starting { started, workers: turns.len() });
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_one_line() {
        let reasons = [
            NotReady::Starting { started: 1, workers: 2 },
            NotReady::Stopping,
            NotReady::WorkerFailed { worker: 0, why: "index 3".to_owned() },
            NotReady::WorkerEnded { worker: 3 },
        ];
        let lines: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "starting: 1 of 2 workers serve",
                "stopping",
                "worker 0 failed: index 3",
                "worker 3 ended: no more input"
            ]
        );
    }

    #[test]
    fn an_interface_is_a_reason_while_it_is_waited_for() {
        let one = |is_gone, is_waited_for| InterfaceCount {
            name: "eth1".to_owned(),
            is_gone,
            is_waited_for,
            ..InterfaceCount::default()
        };
        let said = |is_gone, is_waited_for| -> Vec<String> {
            of_interfaces(vec![one(is_gone, is_waited_for)]).map(|why| why.to_string()).collect()
        };
        assert_eq!(said(true, true), ["waiting for interface eth1"]);
        for (is_gone, is_waited_for) in [(false, true), (false, false), (true, false)] {
            assert!(said(is_gone, is_waited_for).is_empty());
        }
    }

    #[test]
    fn a_worker_is_starting_until_its_first_turn_and_then_ready_until_its_end() {
        let board = WorkerStates::new(2);
        let starting = |started| NotReady::Starting { started, workers: 2 };
        assert_eq!(of_workers(&board), [starting(0)]);
        board.turn_for_test(1);
        assert_eq!(of_workers(&board), [starting(1)]);
        board.turn_for_test(0);
        assert_eq!(of_workers(&board), []);
        board.done(1);
        assert_eq!(of_workers(&board), [NotReady::WorkerEnded { worker: 1 }]);
        board.fail(0, "two\nlines");
        let failed = NotReady::WorkerFailed { worker: 0, why: "two lines".to_owned() };
        assert_eq!(of_workers(&board), [failed, NotReady::WorkerEnded { worker: 1 }]);
    }
}
