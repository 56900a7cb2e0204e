//! Model files, the bundle, and scoring.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod forest;
pub mod formats;
