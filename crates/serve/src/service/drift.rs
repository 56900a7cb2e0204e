//! Drift of the traffic that is served, seen in front of the lanes.
//!
//! Each worker counts the answers of its own flows, which a hash parts at random, and judges its
//! own windows: nothing is shared on a packet's way but a lock that nobody else holds, once a job.
//! Whoever tells of it reads all workers together: an alarm is on where any worker's is.

use super::worker_state::locked;
use serveflow_core::lane::{Job, Lane};
use serveflow_model::drift::{Detector, Standing, Watch, What};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// What all workers watch.
#[derive(Debug)]
pub struct DriftMonitor {
    workers: Mutex<Vec<Option<Arc<Mutex<Detector>>>>>,
    /// Counts of bundles that were served before, by stage.
    earlier: Mutex<BTreeMap<String, Standing>>,
    /// What was said in the log: alarms so far and whether one is on, by stage.
    said: Mutex<BTreeMap<String, (u64, bool)>>,
}

/// How a stage stands, all workers together.
#[derive(Clone, Debug, PartialEq)]
pub struct StageDrift {
    /// Its name.
    pub stage: String,
    /// Flows of a window; 0 where the present bundle does not watch such a stage.
    pub window: u32,
    /// Sums over the workers; the score is the largest one.
    pub standing: Standing,
}

impl DriftMonitor {
    /// A board for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: Mutex::new(vec![None; workers]),
            earlier: Mutex::default(),
            said: Mutex::default(),
        }
    }

    /// Puts a detector of a worker in front of the lanes of its stages, where the bundle has a
    /// reference. What the worker counted by another bundle is kept.
    #[must_use]
    pub fn watch(
        &self,
        worker: usize,
        watch: Option<&Arc<Watch>>,
        lanes: Vec<Box<dyn Lane>>,
    ) -> Vec<Box<dyn Lane>> {
        let detector = watch.map(|watch| Arc::new(Mutex::new(Detector::new(watch))));
        let before = std::mem::replace(&mut locked(&self.workers)[worker], detector.clone());
        if let Some(before) = before {
            let mut earlier = locked(&self.earlier);
            for (_, stage, standing) in locked(&before).standings() {
                let own = earlier.entry(stage.stage.clone()).or_default();
                add(own, &Standing { is_alarmed: false, score: 0.0, ..standing.clone() });
            }
        }
        let Some(detector) = detector else { return lanes };
        let watched = |inner| -> Box<dyn Lane> {
            Box::new(WatchLane { inner, detector: Arc::clone(&detector) })
        };
        lanes.into_iter().map(watched).collect()
    }

    /// How all stages stand that are or were watched.
    #[must_use]
    pub fn stages(&self) -> Vec<StageDrift> {
        let mut sums: BTreeMap<String, (u32, Standing)> = BTreeMap::new();
        for (stage, standing) in locked(&self.earlier).iter() {
            sums.insert(stage.clone(), (0, standing.clone()));
        }
        for detector in locked(&self.workers).iter().flatten() {
            for (_, stage, standing) in locked(detector).standings() {
                let sum = sums.entry(stage.stage.clone()).or_default();
                sum.0 = stage.window;
                add(&mut sum.1, standing);
            }
        }
        let told = |(stage, (window, standing))| StageDrift { stage, window, standing };
        sums.into_iter().map(told).collect()
    }

    /// Says in the log what began and what ended since the last look.
    pub fn look(&self) {
        let mut said = locked(&self.said);
        for StageDrift { stage, standing, .. } in self.stages() {
            let (alarms, was_on) = said.get(&stage).copied().unwrap_or_default();
            let (score, flows) = (standing.score, standing.flows);
            let began = standing.alarms > alarms && !was_on;
            if began {
                let by = standing.alarmed_by.map_or("", What::name);
                tracing::warn!(
                    stage,
                    by,
                    score,
                    flows,
                    "the traffic is not that of the calibration"
                );
            }
            if (began || was_on) && !standing.is_alarmed {
                tracing::info!(stage, score, flows, "the traffic is that of the calibration again");
            }
            said.insert(stage, (standing.alarms, standing.is_alarmed));
        }
    }

    /// What is said at the end of a run: a line for each stage that had a whole window.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for StageDrift { stage, window, standing: own } in self.stages() {
            if own.windows == 0 {
                continue;
            }
            // The present bundle may not watch a stage that one before it did.
            let of = match window {
                0 => "windows under an earlier bundle".to_owned(),
                window => format!("windows of {window} flows"),
            };
            let _ = write!(
                text,
                "drift:   {stage}: {} of {} {of} over the threshold, {} alarms",
                own.over, own.windows, own.alarms
            );
            if let Some((flows, by)) = own.first_alarm.zip(own.alarmed_by) {
                let _ = write!(text, ", the first after {flows} flows, the last by {}", by.name());
            }
            text.push_str(if own.is_alarmed { ", on at the end\n" } else { "\n" });
        }
        text
    }
}

/// Adds what another worker counted.
fn add(sum: &mut Standing, own: &Standing) {
    sum.flows += own.flows;
    sum.windows += own.windows;
    sum.over += own.over;
    sum.alarms += own.alarms;
    sum.is_alarmed |= own.is_alarmed;
    if own.score > sum.score {
        (sum.score, sum.worst) = (own.score, own.worst);
    }
    sum.alarmed_by = own.alarmed_by.or(sum.alarmed_by);
    sum.first_alarm = match (sum.first_alarm, own.first_alarm) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
}

/// A lane whose answers a detector sees.
struct WatchLane {
    inner: Box<dyn Lane>,
    detector: Arc<Mutex<Detector>>,
}

impl Lane for WatchLane {
    fn submit(&mut self, job: Box<Job>) -> Result<(), Box<Job>> {
        self.inner.submit(job)
    }

    fn poll(&mut self) -> Option<Box<Job>> {
        let job = self.inner.poll()?;
        if !job.failed {
            locked(&self.detector).take(job.stage, &job.scores, &job.facts);
        }
        Some(job)
    }

    fn is_given_up(&self) -> bool {
        self.inner.is_given_up()
    }
}
