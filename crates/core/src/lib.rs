//! Packets and scored jobs go in, jobs and verdicts come out.
//!
//! This crate only computes: it knows no I/O, clock, thread or log, and has no unsafe code.
//! [`Engine`](engine::Engine) is the whole of it; what it is made of follows a packet's way:
//! [`parse`] headers, find the flow, keep the packet's [`record`], turn it into [`features`],
//! hand the [`rows`] to a [`lane`], and let the [`gate`] decide on the scores.
#![forbid(unsafe_code)]

pub mod calibration;
pub mod clock;
pub mod counters;
pub mod deferral;
pub mod engine;
pub mod features;
pub mod gate;
pub mod key;
pub mod lane;
pub mod open_set;
pub mod packet;
pub mod parse;
mod prealloc;
pub mod record;
pub mod rows;
pub mod select;
pub mod shard;
mod table;
pub mod verdict;

pub use table::{FlowConfig, NO_WINDOW};
