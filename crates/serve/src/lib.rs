//! The serving runtime of ServeFlow, embeddable: workers, lanes, reload, shadow, load shedding,
//! metrics, and the operator's configuration.
//!
//! The engine is in `serveflow-core`, captures and interfaces are in `serveflow-io`, bundles in
//! `serveflow-model`, and outputs in `serveflow-output`.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod interruptible_source;
pub mod lanes;
pub mod live;
pub mod panics;
pub mod remote;
pub mod service;
pub mod summary;
pub mod workers;
