//! Datasets, trainers, calibration.
