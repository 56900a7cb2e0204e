//! Packets and scored jobs go in, jobs and verdicts come out.
//!
//! This crate only computes: it knows no I/O, clock, thread or log, and has no unsafe code.
//! [`Engine`](engine::Engine) is the whole of it; what it is made of follows a packet's way:
//! [`parse`] headers, find the flow, keep the packet's [`record`], turn it into [`features`],
//! hand the [`rows`] to a [`lane`], and let the [`gate`] decide on the scores. A [`Driver`] makes
//! its calls in their order:
//!
//! ```
//! use serveflow_core::Driver;
//! use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
//! use serveflow_core::features::{FeatureSpec, Features};
//! use serveflow_core::gate::Gate;
//! use serveflow_core::lane::{Constant, InlineLane, Lane};
//! use serveflow_core::packet::{LinkType, Packet};
//! use std::sync::Arc;
//!
//! // One stage: the first packet of a flow, and a model that always gives the first label.
//! let features = Features::new(&FeatureSpec::new(&["header_bits"], 1))?;
//! let model = Constant::first(features.shape(), 2, 0.9);
//! let stage = Stage::new("first", features, Gate::never(), u64::MAX);
//! let cascade = Cascade::new(vec![stage], vec!["dns".to_owned(), "other".to_owned()])?;
//! let mut engine = Engine::new(Arc::new(cascade), EngineConfig::default());
//! let mut lanes: Vec<Box<dyn Lane>> = vec![Box::new(InlineLane::new(vec![Arc::new(model)]))];
//!
//! // A datagram from 10.0.0.1:5000 to 10.0.0.2:53: IPv4 and UDP, without a link header.
//! let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! let data = [&ip[..], &[0x13, 0x88, 0, 53, 0, 8, 0, 0]].concat();
//! let packet = Packet { ts_ns: 1_000, orig_len: 28, link: LinkType::RawIp, data: &data };
//!
//! let mut driver = Driver::new(&mut engine, &mut lanes);
//! driver.serve([packet]);
//! driver.finish(End::Silence);
//! let verdicts: Vec<_> = driver.drain().collect();
//! assert_eq!(verdicts.len(), 1);
//! assert_eq!(verdicts[0].flow.dst_port, 53);
//! assert_eq!(verdicts[0].answer.map(|answer| answer.label), Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod calibration;
pub mod clock;
pub mod counters;
pub mod deferral;
pub mod driver;
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

pub use driver::Driver;
pub use table::{FlowConfig, NO_WINDOW};
