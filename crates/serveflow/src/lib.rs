//! ServeFlow as a library: captures or packets in, verdicts out.
//!
//! What most programs need stands here by its name; all of it is in the crates `serveflow-core`
//! (the engine), `serveflow-io` (captures and interfaces), `serveflow-model` (bundles),
//! `serveflow-train` (training and evaluation) and `serveflow-serve` (the serving runtime).
//!
//! ```
//! use serveflow::{
//!     Cascade, Constant, Engine, EngineConfig, FeatureSpec, Features, FileSource, Gate,
//!     InlineLane, LinkType, Memory, Packet, PcapWriter, Stage, WhenFull, Worker,
//! };
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! // A capture of one datagram from 10.0.0.1:5000 to 10.0.0.2:53.
//! let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! let data = [&ip[..], &[0x13, 0x88, 0, 53, 0, 8, 0, 0]].concat();
//! let packet = Packet { ts_ns: 1_000, orig_len: 28, link: LinkType::RawIp, data: &data };
//! let path = std::env::temp_dir().join(format!("serveflow-doc-{}.pcap", std::process::id()));
//! let mut capture = PcapWriter::new(std::fs::File::create(&path)?, LinkType::RawIp, 65_535)?;
//! capture.write(&packet)?;
//! capture.finish()?;
//!
//! // A cascade of one stage; `Bundle::open` reads one that was trained, with its models.
//! let features = Features::new(&FeatureSpec::new(&["header_bits"], 1))?;
//! let model = Constant::first(features.shape(), 1, 0.9);
//! let stage = Stage::new("first", features, Gate::never(), u64::MAX);
//! let cascade = Arc::new(Cascade::new(vec![stage], vec!["dns".to_owned()])?);
//!
//! let mut sink = Memory::default();
//! let outcome = Worker {
//!     engine: &mut Engine::new(cascade, EngineConfig::default()),
//!     lanes: &mut vec![Box::new(InlineLane::new(vec![Arc::new(model)]))],
//!     sink: &mut sink,
//!     wall: &mut || 0,
//!     batch_frames: 256,
//!     when_full: WhenFull::Wait,
//!     flush_ns: u64::MAX,
//! }
//! .run(&mut FileSource::new(vec![path.clone()]), &mut |_, _| ControlFlow::Continue(()))?;
//! # std::fs::remove_file(&path)?;
//! assert!(outcome.damaged.is_empty());
//! assert_eq!(sink.verdicts[0].flow.dst_port, 53);
//! assert_eq!(sink.verdicts[0].answer.map(|answer| answer.label), Some(0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The directory `examples` has programs that embed the engine with a trained bundle, and that add
//! an encoder or a sink of their own.
#![forbid(unsafe_code)]

pub mod table;

pub use serveflow_core::engine::{Cascade, End, Engine, EngineConfig, Stage};
pub use serveflow_core::features::layout::HeaderLayout;
pub use serveflow_core::features::{Encoder, FeatureSpec, Features};
pub use serveflow_core::gate::{Gate, Threshold, Uncertainty};
pub use serveflow_core::lane::{Constant, InlineLane, Job, Lane, Model, ScoreError};
pub use serveflow_core::packet::{LinkType, Packet};
pub use serveflow_core::record::FlowRecord;
pub use serveflow_core::rows::{Column, Place, RowShape, Rows, Scores};
pub use serveflow_core::verdict::{Answer, FiveTuple, Reason, Verdict};
pub use serveflow_core::{Driver, FlowConfig};
pub use serveflow_io::worker_loop::{Outcome, WhenFull, Worker};
pub use serveflow_io::{
    Batch, FileSource, Memory, MemorySource, Null, OwnedFrame, PcapWriter, Sink, Source,
    SourceError,
};
pub use serveflow_model::bundle::{Bundle, BundleError};
pub use serveflow_model::{LoadOptions, StageLanes};
