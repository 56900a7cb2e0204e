//! A queue in front of one model, as a pipeline of separate programs has it.
//!
//! The worker puts each flow's features into one bounded queue, one message a flow. One consumer on
//! a thread of its own takes a message, then as many more as wait there up to a batch, and scores
//! them together. A full queue holds the worker up, and what arrives meanwhile fills the receive
//! ring.

use super::Wall;
use serveflow_core::lane::{Job, Lane, Model};
use serveflow_core::rows::{Rows, Scores};
use serveflow_serve::service::no_thread;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

/// When the consumer had each flow's answer, by the engine's number of the flow: a pipeline's
/// consumer passes its answers on itself, and need not wait until the worker looks at them.
#[derive(Clone, Debug, Default)]
pub struct Stamps(Arc<Mutex<Vec<u64>>>);

impl Stamps {
    fn set(&self, flows: impl Iterator<Item = u64>, now_ns: u64) {
        let mut stamps = self.0.lock().expect("no holder of the stamps panics");
        for flow in flows {
            let at = flow as usize;
            if at >= stamps.len() {
                stamps.resize(at + 1, 0);
            }
            stamps[at] = now_ns;
        }
    }

    /// When a flow's answer was there; `None` when there was none.
    pub(super) fn get(&self, flow: u64) -> Option<u64> {
        let stamps = self.0.lock().expect("no holder of the stamps panics");
        stamps.get(flow as usize).copied().filter(|&at_ns| at_ns > 0)
    }
}

/// How a queue is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSpec {
    /// Most flows that are scored together.
    pub batch_flows: usize,
    /// Flows that the queue holds.
    pub waiting_flows: usize,
}

/// Scores behind one queue. Unlike other lanes it does hold its worker up when it is full: that is
/// what is to be measured.
#[derive(Debug)]
pub struct QueueLane {
    /// `None` once the lane is being dropped, which ends the consumer.
    queue: Option<SyncSender<Box<Job>>>,
    done: Receiver<Box<Job>>,
    consumer: Option<JoinHandle<()>>,
}

impl QueueLane {
    /// A queue in front of a model, whose consumer stamps its answers.
    ///
    /// # Errors
    /// When the consumer's thread cannot be started.
    pub fn new(
        model: Arc<dyn Model>,
        spec: QueueSpec,
        wall: Wall,
        stamps: Stamps,
    ) -> io::Result<Self> {
        let (queue, waiting) = sync_channel::<Box<Job>>(spec.waiting_flows.max(1));
        let (answers, done) = channel();
        let consumer = Builder::new().spawn(move || {
            let mut taken: Vec<Box<Job>> = Vec::new();
            let mut rows = Rows::with_capacity(model.shape(), spec.batch_flows);
            let mut scores = Scores::default();
            while let Ok(first) = waiting.recv() {
                taken.push(first);
                taken.extend(waiting.try_iter().take(spec.batch_flows.max(1) - 1));
                score(model.as_ref(), &mut taken, &mut rows, &mut scores);
                stamps.set(taken.iter().flat_map(|job| job.flows.iter().copied()), wall());
                if taken.drain(..).any(|job| answers.send(job).is_err()) {
                    return;
                }
            }
        });
        let consumer = consumer.map_err(no_thread("of the queue"))?;
        Ok(Self { queue: Some(queue), done, consumer: Some(consumer) })
    }
}

/// Scores the rows of several jobs at once, and gives each its own answers.
fn score(model: &dyn Model, jobs: &mut [Box<Job>], rows: &mut Rows, scores: &mut Scores) {
    rows.clear();
    for job in &*jobs {
        (0..job.rows.len()).for_each(|row| rows.push_copy(&job.rows, row));
    }
    let failed = model.score(rows, scores).is_err();
    let mut at = 0;
    for job in jobs {
        job.failed = failed;
        job.scores.reset(job.rows.len(), model.classes());
        for row in 0..if failed { 0 } else { job.rows.len() } {
            job.scores.row_mut(row).copy_from_slice(scores.row(at));
            at += 1;
        }
    }
}

impl Lane for QueueLane {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        let Some(queue) = &self.queue else { return Err(job) };
        queue.send(job).map_err(|refused| refused.0)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        self.done.try_recv().ok()
    }
}

impl Drop for QueueLane {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(consumer) = self.consumer.take() {
            // A panic of the consumer was already printed; there is nothing left to save.
            let _ = consumer.join();
        }
    }
}
