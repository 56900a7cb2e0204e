//! The lanes that a bundle's stages may name.

use serveflow_core::lane::{InlineLane, Job, Lane, Model};
use serveflow_model::bundle::LANE_NAMES;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Makes a lane for the models of all stages that holds at most so many waiting jobs.
pub type BuildLane = fn(Vec<Arc<dyn Model>>, usize) -> Box<dyn Lane>;

/// A lane that stages may name.
pub struct LaneEntry {
    /// Name in plans, the same as in `LANE_NAMES`.
    pub name: &'static str,
    /// One sentence for help texts.
    pub doc: &'static str,
    /// Makes one.
    pub build: BuildLane,
}

/// All lanes, by lane index. A new one is one entry here and its name in `LANE_NAMES`.
pub const LANES: [LaneEntry; LANE_NAMES.len()] = [
    LaneEntry {
        name: "inline",
        doc: "scores on the worker's own thread, as soon as a batch is full",
        build: |models, _| Box::new(InlineLane::new(models)),
    },
    LaneEntry {
        name: "thread",
        doc: "scores on a thread of its own behind a bounded queue; a full queue waits or sheds",
        build: |models, jobs| Box::new(ThreadLane::new(models, jobs)),
    },
];

/// One lane of each kind, for the models of all stages.
#[must_use]
pub fn build(models: &[Arc<dyn Model>], jobs: usize) -> Vec<Box<dyn Lane>> {
    LANES.iter().map(|entry| (entry.build)(models.to_vec(), jobs)).collect()
}

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
                job.failed = !scores(models[job.stage].as_ref(), &mut job);
                if answers.send(job).is_err() {
                    return;
                }
            }
        });
        Self { queue: Some(queue), done, thread: Some(thread) }
    }
}

/// Whether the model scores the job. A model that panics fails like any other: its job must come
/// back, or its flows would be waited for without end.
fn scores(model: &dyn Model, job: &mut Job) -> bool {
    let score = AssertUnwindSafe(|| model.score(&job.rows, &mut job.scores).is_ok());
    std::panic::catch_unwind(score).unwrap_or(false)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_of_the_bundle_has_an_entry_in_the_same_order() {
        assert_eq!(LANES.map(|entry| entry.name), LANE_NAMES);
        assert!(LANES.iter().all(|entry| !entry.doc.is_empty()));
    }
}
