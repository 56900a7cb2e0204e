//! The runtime that is written in Rust: the `rten` crate.
//!
//! It runs a net on a pool of threads. Left alone, that is a pool with a thread for each core. So
//! each thread that scores nets gets a pool of its own, of one thread, and waits for it: a caller
//! computes on one core at a time, and callers do not wait for each other. The pool's thread starts
//! with its caller's choice of cores, where there is one. The crate still starts the threads of its
//! own pool when the first net is loaded; they lay out weights then, and sleep from there on.

use super::Take;
use super::file::Ports;
use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, ValueView};
use std::fmt::Display;
use std::sync::Arc;

/// A net.
#[derive(Debug)]
pub(super) struct Net {
    model: Model,
    input: NodeId,
    output: NodeId,
}

thread_local! {
    static ALONE: RunOptions =
        RunOptions::default().with_thread_pool(Some(Arc::new(ThreadPool::with_num_threads(1))));
}

/// How to run on one thread.
pub(super) fn alone() -> RunOptions {
    ALONE.with(RunOptions::clone)
}

/// What is said of a net that the runtime does not score.
pub(super) fn refused(error: &dyn Display) -> String {
    format!("expected a net that can be scored, found: {error}")
}

impl Net {
    /// Reads a net.
    pub(super) fn open(bytes: &[u8], ports: &Ports) -> Result<Self, String> {
        let load = || ModelOptions::with_all_ops().prepack_weights(true).load(bytes.to_vec());
        let model = load().map_err(|error| refused(&error))?;
        let id = |name: &str| model.node_id(name).map_err(|error| format!("`{name}`: {error}"));
        let (input, output) = (id(&ports.input)?, id(&ports.output)?);
        Ok(Self { model, input, output })
    }

    /// Scores values of these dimensions.
    pub(super) fn run(&self, values: &[f32], dims: &[usize], take: Take<'_>) -> Result<(), String> {
        let input = ValueView::from_shape(dims, values).map_err(|error| error.to_string())?;
        let inputs = vec![(self.input, input.into())];
        let options = alone();
        let scored = self.model.run_n(inputs, [self.output], Some(options));
        let [scores] = scored.map_err(|error| refused(&error))?;
        let (dims, scores) = scores
            .into_shape_vec::<f32, 2>()
            .map_err(|error| format!("expected scores: {error}"))?;
        take(&dims, &scores)
    }
}
