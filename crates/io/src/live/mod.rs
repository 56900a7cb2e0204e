//! Frames as they come: live interfaces.
//!
//! Each worker has a ring of each interface, and the kernel gives it the frames of its flows
//! ([`fanout`]). So workers share nothing, both directions of a flow reach the same worker also where they
//! come by two interfaces, and a frame is copied once, out of the ring.
//!
//! Needs Linux and the capability `CAP_NET_RAW`; nothing after [`open`] needs it.

pub mod bpf;
pub mod fanout;
pub mod filter;
pub mod ring;

use crate::batch::Batch;
use crate::error::SourceError;
use crate::source::Source;
use bpf::Instruction;
use fanout::{FanoutRules, symmetric};
use filter::FilterError;
use ring::{Ring, RingError, RingShape, wait_for_any};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How interfaces are listened to.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Their names.
    pub interfaces: Vec<String>,
    /// Workers that share them.
    pub workers: usize,
    /// The ring of each worker and interface.
    pub shape: RingShape,
    /// Whether frames are taken that are not addressed to the interface.
    pub promiscuous: bool,
    /// Whether frames have the time stamps of the network card, which must be set up for that.
    pub hardware_time: bool,
    /// Most bytes that are kept of a frame.
    pub snap_bytes: u32,
    /// A filter as in pcap-filter(7).
    pub filter: Option<String>,
    /// Whether the key of a flow may stand inside a tunnel.
    pub inner_keys: bool,
    /// Two numbers that nobody outside knows.
    pub seed: [u32; 2],
    /// Wall time, nanoseconds from any fixed start: by it a source knows how long nothing came.
    pub now: fn() -> u64,
}

/// Why an interface cannot be listened to.
#[derive(Debug)]
pub struct LiveError {
    /// The interface.
    pub interface: String,
    /// What went wrong.
    pub why: Why,
}

/// What went wrong with an interface.
#[derive(Debug)]
pub enum Why {
    /// The system refused.
    Ring(RingError),
    /// There is no filter.
    Filter(FilterError),
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}: ", self.interface)?;
        match &self.why {
            Why::Ring(error) => write!(f, "{error}"),
            Why::Filter(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LiveError {}

/// What the kernel told of an interface so far, all workers together.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    /// Name of the interface.
    pub name: String,
    /// Frames that passed the filter and came into a ring.
    pub received: AtomicU64,
    /// Frames that passed the filter, and for which no block was free.
    pub dropped: AtomicU64,
    /// Times that all blocks of a ring were full.
    pub full: AtomicU64,
    /// Times that the interface went down.
    pub downs: AtomicU64,
}

/// A worker's frames of all interfaces.
#[derive(Debug)]
pub struct LiveSource {
    rings: Vec<Ring>,
    counters: Arc<Vec<InterfaceCounters>>,
    stop: Arc<AtomicBool>,
    block_ms: u32,
    now: fn() -> u64,
    /// The last frame's time stamp, and the wall time when it was read.
    last: Option<(u64, u64)>,
    /// Whether somebody waits for what happens elsewhere, and should not wait long here.
    hurried: bool,
    closing: Closing,
    name: String,
}

/// How far the end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    /// Frames come.
    Open,
    /// No more come, and those in the rings are read until so many looks in a row find none.
    Draining { looks_left: u32 },
    /// Nothing is left.
    Over,
}

/// Longest wait for a frame, milliseconds: then the engine is told how time goes on.
const WAIT_MS: i32 = 50;
/// The same while answers of slow models are waited for.
const HURRIED_MS: i32 = 1;
/// Looks into the rings after the end, each as long as a block may wait.
const LAST_LOOKS: u32 = 3;
/// How far time lags behind where nothing comes, milliseconds: frames in a block are older than it.
const LAG_MS: u64 = 20;

/// Opens the interfaces: a source for each worker, and what the kernel counts. Setting `stop` ends the
/// sources, once every frame is read that came before.
///
/// # Errors
/// When an interface cannot be opened, or the filter is none.
pub fn open(
    config: &LiveConfig,
    stop: &Arc<AtomicBool>,
) -> Result<(Vec<LiveSource>, Arc<Vec<InterfaceCounters>>), LiveError> {
    let counters = config
        .interfaces
        .iter()
        .map(|name| InterfaceCounters { name: name.clone(), ..InterfaceCounters::default() });
    let counters = Arc::new(counters.collect::<Vec<_>>());
    let mut filters = Vec::new();
    let mut rings: Vec<Vec<Ring>> = (0..config.workers).map(|_| Vec::new()).collect();
    for interface in &config.interfaces {
        let fail = |why| LiveError { interface: interface.clone(), why };
        let opened = open_interface(config, interface).map_err(|error| fail(Why::Ring(error)))?;
        filters.push(filter_of(config, interface).map_err(|error| fail(Why::Filter(error)))?);
        rings.iter_mut().zip(opened).for_each(|(rings, ring)| rings.push(ring));
    }
    // All at once, or what a worker gets would depend on who is there already.
    for rings in &rings {
        for ((ring, filter), interface) in rings.iter().zip(&filters).zip(&config.interfaces) {
            let fail = |error| LiveError { interface: interface.clone(), why: Why::Ring(error) };
            ring.filter(filter).map_err(fail)?;
        }
    }
    let source = |rings| LiveSource {
        rings,
        counters: Arc::clone(&counters),
        stop: Arc::clone(stop),
        block_ms: config.shape.block_ms,
        now: config.now,
        last: None,
        hurried: false,
        closing: Closing::Open,
        name: config.interfaces.join(", "),
    };
    Ok((rings.into_iter().map(source).collect(), counters))
}

/// A ring of an interface for each worker, none of which takes frames yet.
fn open_interface(config: &LiveConfig, interface: &str) -> Result<Vec<Ring>, RingError> {
    let open = |_| Ring::open(interface, config.shape, config.promiscuous, config.hardware_time);
    let rings = (0..config.workers).map(open).collect::<Result<Vec<_>, _>>()?;
    if let [first, rest @ ..] = rings.as_slice()
        && !rest.is_empty()
    {
        let group = first.begin_group()?;
        let rules =
            FanoutRules { first: first.first(), inner_keys: config.inner_keys, seed: config.seed };
        first.share_by(&symmetric(&rules))?;
        rest.iter().try_for_each(|ring| ring.join_group(group))?;
    }
    Ok(rings)
}

fn filter_of(config: &LiveConfig, interface: &str) -> Result<Vec<Instruction>, FilterError> {
    match &config.filter {
        Some(text) => Ok(bpf::with_snap(filter::compile(text, interface)?, config.snap_bytes)),
        None => Ok(bpf::everything(config.snap_bytes)),
    }
}

impl LiveSource {
    /// Moves frames that are there into the batch, the earliest first.
    fn take_ready(&mut self, batch: &mut Batch, most: usize) {
        if let [ring] = self.rings.as_mut_slice() {
            while batch.len() < most && ring.is_ready() {
                ring.take(batch);
            }
            return;
        }
        while batch.len() < most {
            let ready = self.rings.iter_mut().filter_map(|ring| ring.is_ready().then_some(ring));
            let Some(ring) = ready.min_by_key(|ring| ring.next_ns()) else { return };
            ring.take(batch);
        }
    }

    /// Adds what the kernel counted.
    fn count(&self) {
        for (ring, counters) in self.rings.iter().zip(self.counters.iter()) {
            let Ok(counts) = ring.counts() else { continue };
            let received = counts.packets.saturating_sub(counts.drops);
            counters.received.fetch_add(received, Ordering::Relaxed);
            counters.dropped.fetch_add(counts.drops, Ordering::Relaxed);
            counters.full.fetch_add(counts.freezes, Ordering::Relaxed);
        }
    }

    /// Looks which interfaces are down. They may come up again, so that is no error.
    fn look_for_trouble(&self) {
        for (ring, counters) in self.rings.iter().zip(self.counters.iter()) {
            if ring.trouble().is_some() {
                counters.downs.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lets no more frames in.
    fn close(&mut self) -> io::Result<()> {
        self.closing = Closing::Draining { looks_left: LAST_LOOKS };
        let closed = self.rings.iter().try_for_each(|ring| ring.filter(&bpf::nothing()));
        closed.map_err(|RingError { error, .. }| error)
    }

    /// Until when it is known that no frame came that has not been read, if there was one at all.
    fn quiet_until(&self) -> Option<u64> {
        let (ts_ns, read_at) = self.last?;
        let lag = (LAG_MS + 2 * u64::from(self.block_ms)) * 1_000_000;
        let passed = (self.now)().saturating_sub(read_at).checked_sub(lag)?;
        Some(ts_ns.saturating_add(passed))
    }
}

impl Source for LiveSource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        if self.closing == Closing::Over {
            return Ok(0);
        }
        if self.closing == Closing::Open && self.stop.load(Ordering::Relaxed) {
            let closed = self.close();
            closed.map_err(|error| SourceError::Open { path: self.name.clone().into(), error })?;
        }
        self.take_ready(batch, max_frames.max(1));
        if batch.is_empty() {
            let wait = match self.closing {
                Closing::Draining { .. } => self.block_ms as i32 + 1,
                _ if self.hurried => HURRIED_MS,
                _ => WAIT_MS,
            };
            wait_for_any(&self.rings, wait);
            self.take_ready(batch, max_frames.max(1));
        }
        self.count();
        if let Some(last) = batch.len().checked_sub(1) {
            self.last = Some((batch.packet(last).ts_ns, (self.now)()));
            return Ok(batch.len());
        }
        self.look_for_trouble();
        if let Closing::Draining { looks_left } = self.closing {
            self.closing = match looks_left.checked_sub(1) {
                Some(looks_left) => Closing::Draining { looks_left },
                None => Closing::Over,
            };
        }
        if self.closing != Closing::Over {
            batch.be_quiet(self.quiet_until().unwrap_or(0));
        }
        Ok(0)
    }

    fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    fn name(&self) -> &str {
        &self.name
    }
}
