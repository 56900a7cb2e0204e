//! Datasets, trainers, calibration, evaluation.
#![forbid(unsafe_code)]

pub mod audit;
pub mod calibrate;
pub mod dataset;
pub mod drift;
pub mod evaluate;
pub mod fit;
pub mod metrics;
pub mod open_set;
pub mod pipeline;
pub mod planner;
pub mod random;
pub mod recalibrate;
pub mod reliability;
pub mod risk_control;
pub mod scoring;
pub mod session;
pub mod traffic;
pub mod trees;
