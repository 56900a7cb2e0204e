//! The library face of ServeFlow.
//!
//! The engine is in `serveflow-core`, captures and interfaces are in `serveflow-io`, bundles in
//! `serveflow-model`, training and evaluation in `serveflow-train`, and the serving runtime in
//! `serveflow-serve`.
#![forbid(unsafe_code)]

pub mod table;
