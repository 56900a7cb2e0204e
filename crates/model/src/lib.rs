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
pub mod net;
pub mod remote;
