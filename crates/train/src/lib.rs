//! Datasets, trainers, calibration, evaluation.
#![forbid(unsafe_code)]

pub mod labels;
pub mod metrics;
pub mod record;
