//! Packets in, verdicts out.
//!
//! A [`Source`] fills a [`Batch`] with captured frames, and a [`Sink`] takes the verdicts. Both are
//! called once per batch, so neither is on the path of a single packet.
//!
//! A [`Worker`](worker_loop::Worker) takes a source through an engine to its end:
//!
//! ```
//! use serveflow_core::engine::{Cascade, Engine, EngineConfig, Stage};
//! use serveflow_core::features::{FeatureSpec, Features};
//! use serveflow_core::gate::Gate;
//! use serveflow_core::lane::{Constant, InlineLane};
//! use serveflow_core::packet::LinkType;
//! use serveflow_io::worker_loop::{WhenFull, Worker};
//! use serveflow_io::{Memory, MemorySource, OwnedFrame};
//! use std::ops::ControlFlow;
//! use std::sync::Arc;
//!
//! let features = Features::new(&FeatureSpec::new(&["header_bits"], 1))?;
//! let model = Constant::first(features.shape(), 1, 0.9);
//! let stage = Stage::new("first", features, Gate::never(), u64::MAX);
//! let cascade = Arc::new(Cascade::new(vec![stage], vec!["dns".to_owned()])?);
//!
//! // A datagram from 10.0.0.1:5000 to 10.0.0.2:53; `FileSource` reads captures instead.
//! let ip = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
//! let data = [&ip[..], &[0x13, 0x88, 0, 53, 0, 8, 0, 0]].concat();
//! let link = LinkType::RawIp;
//! let frame = OwnedFrame { ts_ns: 1_000, orig_len: 28, link, data, note: None };
//!
//! let mut sink = Memory::default();
//! Worker {
//!     engine: &mut Engine::new(cascade, EngineConfig::default()),
//!     lanes: &mut vec![Box::new(InlineLane::new(vec![Arc::new(model)]))],
//!     sink: &mut sink,
//!     wall: &mut || 0,
//!     batch_frames: 256,
//!     when_full: WhenFull::Wait,
//!     flush_ns: u64::MAX,
//! }
//! .run(&mut MemorySource::new(vec![frame]), &mut |_, _| ControlFlow::Continue(()))?;
//! assert_eq!(sink.verdicts.len(), 1);
//! assert_eq!(sink.verdicts[0].flow.dst_port, 53);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Capture files
//!
//! [`InputSet`] finds the captures among files and directories, and [`FileSource`] reads them, or
//! standard input (`-`), in the order of their packets' time stamps. What a file is says its first
//! bytes, never its name. The formats ([`FORMATS`]) are
//!
//! - `pcap`: classic captures of either byte order, in microseconds or nanoseconds, and the variant
//!   with longer record headers;
//! - `pcapng`: captures of either byte order with any number of sections and interfaces.
//!
//! Either may be wrapped ([`CODECS`]) in
//!
//! - `gzip`: one or several members;
//! - `zstd`: one or several frames.
//!
//! [`share_out`] parts a source among several workers by flow.
//!
//! # Live interfaces
//!
//! On Linux, `live::open` listens to interfaces: a source for each worker.
//!
//! # Errors
//!
//! A damaged file is a [`SourceError`] with the file, the offset, what was expected and what was
//! found. Frames that stand before the damage always come out first. A frame that is odd in itself
//! is none of this crate's business: it is passed on, and the engine counts it. What is no damage,
//! but to be told, comes as an error of another [`Severity`] behind the last frame.

pub mod batch;
pub mod capture;
pub mod error;
pub mod inputs;
mod links;
#[cfg(target_os = "linux")]
pub mod live;
pub mod memory;
pub mod os;
pub mod quiet;
pub mod share;
pub mod sink;
pub mod source;
pub mod worker_loop;
pub mod write;

pub use batch::{Batch, OrderCount, Restart};
pub use capture::{CODECS, CaptureReader, FORMATS, read_all};
pub use error::{Location, Severity, SourceError};
pub use inputs::{FileSource, InputCounts, InputSet, OrderRules, PipeTime, Tables};
pub use links::link_words;
pub use memory::{MemorySource, OwnedFrame};
pub use share::{Share, share_out};
pub use sink::{Memory, Null, Sink};
pub use source::Source;
pub use write::PcapWriter;
