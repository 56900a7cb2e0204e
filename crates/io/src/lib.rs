//! Packets in, verdicts out.
//!
//! A [`Source`] fills a [`Batch`] with captured frames, and a [`Sink`] takes the verdicts. Both are
//! called once per batch, so neither is on the path of a single packet.
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
