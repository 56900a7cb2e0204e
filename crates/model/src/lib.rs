//! Model files, the bundle, and scoring.
#![forbid(unsafe_code)]

pub mod binding;
pub mod bundle;
pub mod classes;
pub mod drift;
pub mod forest;
pub mod formats;
pub mod logits;
pub mod missing;
mod model_file;
pub mod net;
mod options;
pub mod remote;

pub use options::{LoadOptions, StageLanes, UnknownStage};
