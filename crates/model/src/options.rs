//! What a bundle is loaded with. Nothing of it is process-wide: each bundle has its own.

use crate::net::OnnxRuntime;
use crate::remote::{Connect, ConnectError, RemoteSpec, RemoteTransport};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a bundle is loaded with. The default measures nothing, connects no remote model, scores
/// nets by the runtime that is built in, and leaves each stage in the lane of its plan.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Counts nanoseconds. With it, forests measure how they are scored fastest on this machine
    /// while they are loaded, which changes no score; this crate itself reads no clock.
    pub clock: Option<fn() -> u64>,
    /// Finds the servers of remote models. Without it they load, and scoring them fails.
    pub remote: Option<Arc<Connect>>,
    /// Scores nets.
    pub onnxruntime: Option<OnnxRuntime>,
    /// Where stages are scored.
    pub lanes: StageLanes,
}

impl LoadOptions {
    /// Forests measure by this clock, which counts nanoseconds.
    #[must_use]
    pub fn with_clock(self, clock: fn() -> u64) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Remote models are connected by this.
    #[must_use]
    pub fn with_remote(
        self,
        connect: impl Fn(&RemoteSpec) -> Result<Arc<dyn RemoteTransport>, ConnectError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self { remote: Some(Arc::new(connect)), ..self }
    }

    /// Nets are scored by this library.
    #[must_use]
    pub fn with_onnxruntime(self, library: OnnxRuntime) -> Self {
        Self { onnxruntime: Some(library), ..self }
    }

    /// Stages are scored in these lanes.
    #[must_use]
    pub fn with_lanes(self, lanes: StageLanes) -> Self {
        Self { lanes, ..self }
    }
}

impl fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadOptions")
            .field("clock", &self.clock.is_some())
            .field("remote", &self.remote.is_some())
            .field("onnxruntime", &self.onnxruntime)
            .field("lanes", &self.lanes)
            .finish()
    }
}

/// Lanes of stages, by lane index, where they are not those of the plan: where a model is scored
/// is the operator's choice, and changes no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageLanes {
    /// A lane for all stages that are not named; none leaves them to the plan.
    pub all: Option<usize>,
    /// Lanes by the name of their stage; none leaves it to the plan.
    pub stages: BTreeMap<String, Option<usize>>,
}

/// A lane is chosen for a stage that the bundle does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownStage {
    /// The stages of the bundle.
    pub expected: Vec<String>,
    /// The name found.
    pub found: String,
}

impl fmt::Display for UnknownStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (expected, found) = (self.expected.join(", "), &self.found);
        write!(f, "expected a stage of the bundle: {expected}, found `{found}`")
    }
}

impl std::error::Error for UnknownStage {}

impl StageLanes {
    /// One lane for all stages.
    #[must_use]
    pub fn all_in(lane: usize) -> Self {
        Self { all: Some(lane), stages: BTreeMap::new() }
    }

    /// A stage is scored in this lane; in the plan's where it is none.
    #[must_use]
    pub fn with_stage(mut self, name: &str, lane: Option<usize>) -> Self {
        self.stages.insert(name.to_owned(), lane);
        self
    }

    /// The lane of a stage whose plan says another.
    #[must_use]
    pub fn of(&self, stage: &str, planned: usize) -> usize {
        self.stages.get(stage).copied().unwrap_or(self.all).unwrap_or(planned)
    }

    /// Holds the names against the stages that there are.
    ///
    /// # Errors
    /// When one of them is no stage.
    pub fn check<'a>(&self, stages: impl Iterator<Item = &'a str>) -> Result<(), UnknownStage> {
        let known: Vec<&str> = stages.collect();
        match self.stages.keys().find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(found) => Err(UnknownStage {
                expected: known.into_iter().map(str::to_owned).collect(),
                found: found.clone(),
            }),
        }
    }
}
