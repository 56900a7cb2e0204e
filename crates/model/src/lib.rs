//! Model files, the bundle, and scoring.

pub mod forest;
