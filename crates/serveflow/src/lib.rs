//! The library face of ServeFlow: configuration, lanes, and what the commands are made of.
//!
//! The engine is in `serveflow-core`, captures and sinks in `serveflow-io`, bundles in
//! `serveflow-model`, training and evaluation in `serveflow-train`.
#![forbid(unsafe_code)]

pub mod bench;
pub mod clock;
pub mod config;
pub mod lanes;
pub mod live;
mod page;
pub mod panics;
pub mod patient;
pub mod plan_page;
pub mod plan_text;
mod plan_words;
pub mod remote;
pub mod scaling;
pub mod service;
pub mod spell;
pub mod summary;
pub mod table;
pub mod workers;
