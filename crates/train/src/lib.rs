//! Datasets, trainers, calibration, evaluation.
#![forbid(unsafe_code)]

pub mod calibrate;
pub mod dataset;
pub mod drift;
pub mod evaluate;
pub mod fit;
pub mod honest;
pub mod metrics;
pub mod open_set;
pub mod pipeline;
pub mod planner;
pub mod promise;
pub mod random;
pub mod recalibrate;
pub mod reliability;

pub mod traffic;
pub mod trees;
