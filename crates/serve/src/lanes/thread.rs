//! The thread lane: one thread behind a bounded queue.

use super::{GiveUp, LaneParts};
use serveflow_core::lane::{Job, Lane, went_well};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// How often a lane that is dropped looks whether its thread is still waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Scores on a thread of its own, behind a bounded queue.
#[derive(Debug)]
pub struct ThreadLane {
    /// `None` once the lane is being dropped, which ends the thread.
    queue: Option<SyncSender<Box<Job>>>,
    done: Receiver<Box<Job>>,
    give_up: Option<GiveUp>,
}

impl ThreadLane {
    /// A lane for the models of these parts, that holds as many waiting jobs as they say.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn new(parts: &LaneParts) -> io::Result<Self> {
        let (queue, waiting) = sync_channel::<Box<Job>>(parts.jobs.max(1));
        // Answers are never more than the jobs in flight, so this one need not be bounded.
        let (answers, done) = std::sync::mpsc::channel();
        let models = parts.models.clone();
        let work = move || {
            for mut job in waiting {
                let own = &mut *job;
                let model = &models[own.stage];
                own.failed = !went_well(|| model.score(&own.rows, &mut own.scores).is_ok());
                if answers.send(job).is_err() {
                    return;
                }
            }
        };
        parts.start("thread", Box::new(work))?;
        Ok(Self { queue: Some(queue), done, give_up: parts.give_up.clone() })
    }
}

impl Lane for ThreadLane {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        let Some(queue) = &self.queue else { return Err(job) };
        queue.try_send(job).map_err(|refused| match refused {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.done.try_recv().ok()
    }

    fn is_given_up(&self) -> bool {
        self.give_up.as_ref().is_some_and(GiveUp::is_due)
    }
}

impl Drop for ThreadLane {
    fn drop(&mut self) {
        self.queue = None;
        // The thread answers what waits and then hangs up. One whose model hangs is left to itself
        // once nobody waits for it any longer: it holds nothing but its jobs.
        while !matches!(self.done.recv_timeout(LOOK), Err(RecvTimeoutError::Disconnected)) {
            if self.is_given_up() {
                return;
            }
        }
    }
}
