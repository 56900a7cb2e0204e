//! Datasets, trainers, calibration.

pub mod trees;
