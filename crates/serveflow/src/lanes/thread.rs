//! The thread lane: one thread behind a bounded queue.

use super::went_well;
use serveflow_core::lane::{Job, Lane, Model};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Scores on a thread of its own, behind a bounded queue.
#[derive(Debug)]
pub struct ThreadLane {
    /// `None` once the lane is being dropped, which ends the thread.
    queue: Option<SyncSender<Box<Job>>>,
    done: Receiver<Box<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl ThreadLane {
    /// A lane with the model of each stage, by stage index, that holds at most `jobs` waiting jobs.
    #[must_use]
    pub fn new(models: Vec<Arc<dyn Model>>, jobs: usize) -> Self {
        let (queue, waiting) = sync_channel::<Box<Job>>(jobs.max(1));
        // Answers are never more than the jobs in flight, so this one need not be bounded.
        let (answers, done) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for mut job in waiting {
                let own = &mut *job;
                let model = &models[own.stage];
                let scored = went_well(|| model.score(&own.rows, &mut own.scores).is_ok());
                job.failed = !scored;
                if answers.send(job).is_err() {
                    return;
                }
            }
        });
        Self { queue: Some(queue), done, thread: Some(thread) }
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
}

impl Drop for ThreadLane {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the scoring thread was already printed; there is nothing left to save.
            let _ = thread.join();
        }
    }
}
