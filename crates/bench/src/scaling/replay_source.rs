//! A capture in memory that is played again and again, so that neither a disk nor its end is
//! measured.

use serveflow_core::FlowConfig;
use serveflow_core::key::FlowKey;
use serveflow_core::packet::{LinkType, Packet};
use serveflow_core::parse::{KeyRules, parse};
use serveflow_core::shard::Sharder;
use serveflow_io::{
    Batch, CaptureReader, FileSource, MemorySource, OwnedFrame, PcapWriter, Source, SourceError,
};
use std::collections::HashMap;
use std::fmt;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use super::shards::Shards;

/// When the first packet of every capture comes, nanoseconds since the epoch.
const START_NS: u64 = 1_000_000_000_000_000_000;
/// Silence between two rounds, beyond the idle timeout.
const GAP_NS: u64 = 1_000_000_000;
/// Longest frame that is kept whole.
const SNAP_BYTES: u32 = 262_144;

/// A capture in memory.
#[derive(Clone, Debug)]
pub struct Tape {
    bytes: Arc<[u8]>,
    /// Packets of a round.
    pub packets: u64,
    /// From the start of a round to that of the next, nanoseconds: long enough for all flows to
    /// end.
    pub period_ns: u64,
    rules: KeyRules,
}

/// Why there is no tape.
#[derive(Debug)]
#[non_exhaustive]
pub enum TapeError {
    /// A capture could not be read.
    Source(SourceError),
    /// There is no packet.
    Empty,
    /// Captures of two kinds of link.
    Links(LinkType, LinkType),
    /// The frames could not be written.
    Write(std::io::Error),
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::Empty => f.write_str("expected captures with packets, found none"),
            Self::Links(one, other) => {
                write!(f, "expected captures of one link type, found {one:?} and {other:?}")
            }
            Self::Write(error) => write!(f, "the frames cannot be laid into memory: {error}"),
        }
    }
}

impl std::error::Error for TapeError {}

impl Tape {
    /// Lays captures over each other, as if all had begun together, without the pauses in which
    /// every flow ends; at most so many packets.
    ///
    /// # Errors
    /// When a capture cannot be read, there is no packet, or link types differ.
    pub fn lay(
        paths: &[PathBuf],
        most_packets: usize,
        rules: &FlowConfig,
    ) -> Result<Self, TapeError> {
        let mut frames: Vec<OwnedFrame> = Vec::new();
        for path in paths {
            let mut source = FileSource::new(vec![path.clone()]);
            let read = MemorySource::read(&mut source).map_err(TapeError::Source)?;
            let mut captured = read.frames().to_vec();
            begin_together(&mut captured, silence(rules));
            frames.extend(captured);
        }
        frames.sort_by_key(|frame| frame.ts_ns);
        frames.truncate(most_packets);
        Self::of(&frames, rules)
    }

    /// A tape of these frames, which are in order.
    ///
    /// # Errors
    /// When there is no frame, or link types differ.
    pub fn of(frames: &[OwnedFrame], rules: &FlowConfig) -> Result<Self, TapeError> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else {
            return Err(TapeError::Empty);
        };
        if let Some(other) = frames.iter().find(|frame| frame.link != first.link) {
            return Err(TapeError::Links(first.link, other.link));
        }
        let mut writer =
            PcapWriter::new(Vec::new(), first.link, SNAP_BYTES).map_err(TapeError::Write)?;
        for frame in frames {
            let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = *frame;
            writer.write(&Packet { ts_ns, orig_len, link, data }).map_err(TapeError::Write)?;
        }
        let bytes: Arc<[u8]> = writer.finish().map_err(TapeError::Write)?.into();
        Ok(Self {
            bytes,
            packets: frames.len() as u64,
            period_ns: (last.ts_ns - first.ts_ns).saturating_add(silence(rules)),
            rules: rules.key,
        })
    }

    /// Bytes of the capture.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Plays it so often, each round behind the one before.
    #[must_use]
    pub fn replay(&self, rounds: u64) -> Replay {
        Replay { tape: self.clone(), reader: None, round: 0, rounds }
    }

    /// One round in batches of at most so many packets. They borrow the blocks that were read.
    ///
    /// # Panics
    /// When the tape cannot be read back, which it was written for.
    #[must_use]
    pub fn batches(&self, most_packets: usize) -> Vec<Batch> {
        let mut replay = self.replay(1);
        let mut batches = Vec::new();
        loop {
            let mut batch = Batch::new();
            match replay.fill(&mut batch, most_packets) {
                Ok(0) => return batches,
                Ok(_) => batches.push(batch),
                Err(error) => panic!("a tape is a sound capture: {error}"),
            }
        }
    }

    /// Packets of each five-tuple. Its flows by time are a few more.
    #[must_use]
    pub fn flow_sizes(&self) -> Vec<u64> {
        let everything = Sharder::new(1, self.rules, 0);
        let mut sizes: Vec<u64> =
            self.flows(&everything).into_values().map(|(size, _)| size).collect();
        sizes.sort_unstable();
        sizes
    }

    /// What each worker gets of it.
    #[must_use]
    pub fn shards(&self, sharder: &Sharder) -> Shards {
        let mut counts = vec![(0, 0); sharder.shards()];
        for (size, shard) in self.flows(sharder).into_values() {
            let (packets, flows) = &mut counts[shard];
            *packets += size;
            *flows += 1;
        }
        Shards::counted(&counts)
    }

    /// Packets and worker of each five-tuple.
    fn flows(&self, sharder: &Sharder) -> HashMap<FlowKey, (u64, usize)> {
        let mut flows = HashMap::new();
        for batch in self.batches(usize::MAX) {
            for packet in batch.iter() {
                let Ok(parsed) = parse(&packet, self.rules) else { continue };
                let shard = || sharder.shard(&packet).expect("a packet with headers has a flow");
                flows.entry(parsed.key).or_insert_with(|| (0, shard())).0 += 1;
            }
        }
        flows
    }
}

/// So long after its last packet a flow is over, nanoseconds.
fn silence(rules: &FlowConfig) -> u64 {
    rules.idle_ns.max(rules.linger_ns).saturating_add(GAP_NS)
}

/// Moves a capture to where all begin. Pauses in which every flow ends are cut to just that: the
/// sample's files hold captures of several years.
fn begin_together(frames: &mut [OwnedFrame], silence: u64) {
    frames.sort_by_key(|frame| frame.ts_ns);
    let mut before = frames.first().map_or(0, |frame| frame.ts_ns);
    let mut now = START_NS;
    for frame in frames {
        now += (frame.ts_ns - before).min(silence);
        before = std::mem::replace(&mut frame.ts_ns, now);
    }
}

/// Plays a tape.
pub struct Replay {
    tape: Tape,
    reader: Option<CaptureReader>,
    round: u64,
    rounds: u64,
}

impl Source for Replay {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        while self.round < self.rounds {
            let reader = match self.reader.take() {
                Some(reader) => reader,
                None => CaptureReader::new("memory", Cursor::new(Arc::clone(&self.tape.bytes)))?,
            };
            let count = self.reader.insert(reader).fill(batch, max_frames)?;
            if count > 0 {
                batch.delay(self.round.saturating_mul(self.tape.period_ns));
                return Ok(count);
            }
            self.reader = None;
            self.round += 1;
        }
        Ok(0)
    }

    fn name(&self) -> &str {
        "memory"
    }
}
