//! Contenders: who serves the traffic.

use super::Wall;
use super::queue::{QueueLane, QueueSpec, Stamps};
use serveflow_core::engine::{Cascade, EngineConfig};
use serveflow_core::lane::{Lane, Model};
use serveflow_model::bundle::Bundle;
use serveflow_serve::lanes::{self, BatchConfig, LaneParts};
use serveflow_train::evaluate::stage_alone;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A cascade with its models, limits and lanes.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Short name, as figures spell it.
    pub name: &'static str,
    /// The stages.
    pub cascade: Arc<Cascade>,
    /// The model of each stage.
    pub models: Vec<Arc<dyn Model>>,
    /// Limits of the engine.
    pub engine: EngineConfig,
    /// Jobs that wait in a lane before flows are shed.
    pub queue_depth: usize,
    /// Limits of the batch lane.
    pub batch: BatchConfig,
    /// A queue in front of the only stage, in place of the lanes that the stages name.
    pub queue: Option<QueueSpec>,
}

impl Contender {
    /// A bundle's cascade as its plan has it.
    #[must_use]
    pub fn cascade(bundle: &Bundle, engine: EngineConfig, queue_depth: usize) -> Self {
        Self {
            name: "cascade",
            cascade: Arc::clone(&bundle.cascade),
            models: bundle.models.clone(),
            engine,
            queue_depth,
            batch: BatchConfig::default(),
            queue: None,
        }
    }

    /// One stage of it alone, which answers every flow on the worker's own thread.
    ///
    /// # Panics
    /// When there is no such stage.
    #[must_use]
    pub fn alone(&self, name: &'static str, stage: usize) -> Self {
        Self {
            name,
            cascade: stage_alone(&self.cascade, stage),
            models: vec![Arc::clone(&self.models[stage])],
            ..self.clone()
        }
    }

    /// The same behind one queue with one consumer: each flow is a message of its own.
    #[must_use]
    pub fn queued(&self, name: &'static str, queue: QueueSpec) -> Self {
        let engine = EngineConfig { batch_rows: 1, ..self.engine };
        Self { name, engine, queue: Some(queue), ..self.clone() }
    }

    /// The lanes of a worker, by lane index; a queue leaves its stamps.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(super) fn lanes(&self, wall: Wall, stamps: &Stamps) -> io::Result<Vec<Box<dyn Lane>>> {
        match self.queue {
            None => {
                let parts = LaneParts {
                    batch: self.batch,
                    ..LaneParts::new(&self.models, self.queue_depth)
                };
                let lanes = lanes::build(&parts, self.cascade.stages());
                lanes.map(lanes::boxed)
            }
            Some(spec) => {
                let model = Arc::clone(&self.models[0]);
                let lane = QueueLane::new(model, spec, wall, stamps.clone())?;
                Ok(vec![Box::new(lane)])
            }
        }
    }

    /// Threads that compute for each worker: its own, and those of the lanes that stages name.
    #[must_use]
    pub fn threads(&self) -> usize {
        let lanes: BTreeSet<usize> = self.cascade.stages().iter().map(|stage| stage.lane).collect();
        let beside = lanes.into_iter().map(|lane| lanes::threads(lane, &self.batch));
        1 + beside.sum::<usize>() + usize::from(self.queue.is_some())
    }
}
