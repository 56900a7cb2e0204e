//! Frames as they come: live interfaces.
//!
//! Each worker has a ring of each interface, and the kernel gives it the frames of its flows
//! ([`fanout`]). So workers share nothing, both directions of a flow reach the same worker also
//! where they come by two interfaces, and a frame is copied once, out of the ring.
//!
//! With the cargo feature `xdp`, frames may also come by AF_XDP, to one worker.
//!
//! Needs Linux and the capability `CAP_NET_RAW`, AF_XDP also `CAP_NET_ADMIN` and `CAP_BPF`; nothing
//! after [`open`] needs them.

mod attach;
pub mod bpf;
pub mod fanout;
mod feed;
pub mod filter;
mod opening;
mod order;
pub mod ring;
pub mod socket;
#[cfg(feature = "xdp")]
mod xdp;

use crate::batch::Batch;
use crate::error::SourceError;
use crate::quiet::LastSeen;
use crate::source::Source;
pub use attach::{Attacher, Change};
pub use opening::{Opened, open};
pub use socket::is_there;

use attach::Inbox;
use feed::Feed;
use filter::FilterError;
use order::Head;
use ring::{RingShape, wait_for_any};
use socket::{DropCounter, KernelCounts, RingError};
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How interfaces are listened to.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Their names.
    pub interfaces: Vec<String>,
    /// Whether frames come by AF_XDP, for which this must be built with the feature `xdp`. Then
    /// there is one worker, no filter and no time stamp of the network card, and of the shape the
    /// bytes alone count.
    pub xdp: bool,
    /// Workers that share them.
    pub workers: usize,
    /// The ring of each worker and interface.
    pub shape: RingShape,
    /// How long a worker looks for a frame before it sleeps until one comes, nanoseconds; from 50
    /// ms on it never sleeps.
    pub spin_ns: u64,
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
    /// Whether an interface that is not there, or is removed, is waited for: see [`Attacher`].
    pub waits: bool,
    /// Wall time, nanoseconds from any fixed start: by it a source knows how long nothing came.
    pub now: fn() -> u64,
    /// Nanoseconds since the epoch: what frames are stamped with that come by AF_XDP.
    pub wall: fn() -> u64,
}

/// Why an interface cannot be listened to.
#[derive(Debug)]
pub struct LiveError {
    /// The interface.
    pub interface: String,
    /// What went wrong.
    pub why: LiveRefusal,
}

/// What went wrong with an interface.
#[derive(Debug)]
pub enum LiveRefusal {
    /// The system refused.
    Ring(RingError),
    /// There is no filter.
    Filter(FilterError),
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}: ", self.interface)?;
        match &self.why {
            LiveRefusal::Ring(error) => write!(f, "{error}"),
            LiveRefusal::Filter(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for LiveError {}

impl LiveError {
    /// Whether there is no such interface.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        let no_device = Some(libc::ENODEV);
        matches!(&self.why, LiveRefusal::Ring(ring) if ring.error.raw_os_error() == no_device)
    }
}

/// What the kernel told of an interface so far, all workers together.
#[derive(Debug, Default)]
pub struct InterfaceCounters {
    /// Name of the interface.
    pub name: String,
    /// Frames that passed the filter and came into a ring, as the kernel told when it was asked
    /// last.
    pub received: AtomicU64,
    /// Frames that were read from rings.
    pub taken: AtomicU64,
    /// Frames that passed the filter, and for which no block was free.
    pub dropped: AtomicU64,
    /// Times that all blocks of a ring were full.
    pub full: AtomicU64,
    /// Times that the interface went down.
    pub downs: AtomicU64,
    /// Whether it is not there.
    pub is_gone: AtomicBool,
    /// Whether it is waited for where it is not there.
    pub is_waited_for: bool,
    /// Times that it came late or came back, and was listened to from then on.
    pub attached: AtomicU64,
    /// Frames that the network card was to stamp with the time and did not.
    pub kernel_stamped: AtomicU64,
    /// By which the kernel is asked whatever the workers do.
    meters: Mutex<Vec<DropCounter>>,
}

impl InterfaceCounters {
    /// Asks the kernel, so that the counts are those of now also while a worker stands still.
    pub fn refresh(&self) {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().filter_map(DropCounter::counts).for_each(|counts| self.add(counts));
    }

    fn add(&self, counts: KernelCounts) {
        self.received.fetch_add(counts.packets.saturating_sub(counts.drops), Ordering::Relaxed);
        self.dropped.fetch_add(counts.drops, Ordering::Relaxed);
        self.full.fetch_add(counts.freezes, Ordering::Relaxed);
    }

    fn meter(&self, feeds: &[Feed]) {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of an interface that was removed have told everything.
        meters.retain(DropCounter::is_open);
        meters.extend(feeds.iter().map(Feed::meter));
    }
}

/// A worker's frames of all interfaces.
#[derive(Debug)]
pub struct LiveSource {
    taps: Vec<Tap>,
    /// The tap that is read next, where the order in which they are read is the order of frames.
    turn: usize,
    /// What is known of each tap's next frame, where there are several.
    heads: Vec<Head>,
    counters: Arc<Vec<InterfaceCounters>>,
    stop: Arc<AtomicBool>,
    /// Longest that a frame waits until it is handed over, milliseconds.
    wait_ms: u32,
    /// How long after it came each frame is surely seen, nanoseconds.
    lag_ns: u64,
    spin_ns: u64,
    now: fn() -> u64,
    /// Time between two frames of late, nanoseconds, and when the last ones were read.
    gap_ns: u64,
    read_at: u64,
    /// The last frame's time stamp, and the wall time when it was read.
    last: LastSeen,
    /// When the kernel was last asked for its counters and for what became of the interfaces.
    asked_at: u64,
    /// Whether this is the source that tells of what happens to interfaces: it happens to all
    /// workers' alike.
    tells: bool,
    /// Whether somebody waits for what happens elsewhere, and should not wait long here.
    hurried: bool,
    closing: Closing,
    /// Where interfaces that come later are found, if they are waited for.
    inbox: Option<Arc<Inbox>>,
    name: String,
}

/// An interface, as a worker reads it.
#[derive(Debug)]
struct Tap {
    feed: Feed,
    /// Index of the interface.
    interface: usize,
    /// Looks that are left to find what came before the interface was removed.
    gone: Option<u32>,
    /// Frames that were read and are not yet counted.
    taken: u64,
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
/// Longest time between two questions to the kernel while frames come, nanoseconds.
const ASK_NS: u64 = 20_000_000;
/// How long a worker sleeps while frames come so fast that one would wake it again and again, and
/// what that comes to by the system's clocks, nanoseconds.
const NAP: Duration = Duration::from_micros(50);
const NAP_NS: u64 = 100_000;
/// Frames to be expected meanwhile.
const NAP_FRAMES: u64 = 8;
/// Time between two frames that is no reason for a nap, nanoseconds.
const QUIET_NS: u64 = 1_000_000;
/// Looks into the rings between two looks at the clock.
const SPINS: u32 = 16;
/// How late the kernel may be with a block, beside the wait that it was told, nanoseconds: two
/// ticks of the clock by which older kernels hand over, where it ticks 250 times a second.
const BLOCK_LATE_NS: u64 = 8_000_000;
/// How late it may be with a frame that it hands over at once: another core writes it down just
/// now.
const FRAME_LATE_NS: u64 = 2_000_000;

impl Tap {
    /// Moves the next frame into a batch; only if there is one.
    fn take(&mut self, batch: &mut Batch) {
        self.feed.take(batch);
        self.taken += 1;
    }
}

impl LiveSource {
    /// Moves frames that are there into the batch, the earliest first.
    fn take_ready(&mut self, batch: &mut Batch, most: usize) {
        if let [tap] = self.taps.as_mut_slice() {
            while batch.len() < most && tap.feed.is_ready() {
                tap.take(batch);
            }
            return;
        }
        if self.taps.iter().all(|tap| tap.feed.stamps_as_read()) {
            return self.take_by_turns(batch, most);
        }
        let looked_at = (self.now)();
        self.taps.iter_mut().for_each(|tap| tap.feed.see_units(self.now));
        while batch.len() < most {
            self.look();
            let Some(at) = order::next(&mut self.heads, looked_at, self.lag_ns) else { return };
            let (tap, head) = (&mut self.taps[at], &mut self.heads[at]);
            tap.take(batch);
            head.ts_ns = tap.feed.has_frame().then(|| tap.feed.next_ns());
        }
    }

    /// Moves frames that are there into the batch, of one interface after the other.
    fn take_by_turns(&mut self, batch: &mut Batch, most: usize) {
        let mut without = 0;
        while batch.len() < most && without < self.taps.len() {
            self.turn %= self.taps.len();
            let tap = &mut self.taps[self.turn];
            without = if tap.feed.is_ready() { 0 } else { without + 1 };
            while batch.len() < most && tap.feed.has_frame() {
                tap.take(batch);
            }
            // What is left of a look has its time, and goes before what is looked for later.
            self.turn += usize::from(!tap.feed.has_frame());
        }
    }

    /// Looks for frames in the rings that have none open.
    fn look(&mut self) {
        for (tap, head) in self.taps.iter_mut().zip(&mut self.heads) {
            if head.ts_ns.is_none() && tap.feed.is_ready() {
                let seen_at = tap.feed.seen_at().unwrap_or_else(self.now);
                *head = Head { ts_ns: Some(tap.feed.next_ns()), seen_at, is_settled: false };
            }
        }
    }

    /// Whether frames are there that wait for earlier ones of other rings.
    fn is_holding(&self) -> bool {
        self.taps.iter().any(|tap| tap.feed.has_frame())
    }

    /// Waits for a frame, for as long as nothing else is to be done.
    fn wait(&self) {
        let milliseconds = match self.closing {
            _ if self.is_holding() => 1,
            Closing::Draining { .. } => self.wait_ms as i32 + 1,
            _ if self.hurried => HURRIED_MS,
            _ => WAIT_MS,
        };
        let most_ns = u64::from(milliseconds.unsigned_abs()) * 1_000_000;
        let spin_ns = if self.is_holding() { 0 } else { self.spin_ns.min(most_ns) };
        if spin_ns > 0 && (self.spin(spin_ns) || spin_ns == most_ns) {
            return;
        }
        let is_rushed = self.gap_ns * NAP_FRAMES <= NAP_NS;
        if self.wait_ms == 0 && self.closing == Closing::Open && is_rushed {
            std::thread::sleep(NAP);
            return;
        }
        // One with a frame would end the wait at once.
        let empty = self.taps.iter().map(|tap| &tap.feed).filter(|feed| !feed.has_frame());
        wait_for_any(empty.flat_map(Feed::fds), milliseconds);
    }

    /// Looks for a frame for a while; whether one came.
    fn spin(&self, most_ns: u64) -> bool {
        let began = (self.now)();
        loop {
            for _ in 0..SPINS {
                if self.taps.iter().any(|tap| tap.feed.may_be_ready()) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if (self.now)().saturating_sub(began) >= most_ns {
                return false;
            }
        }
    }

    /// Counts what was read, before anybody looks at it.
    fn tell_taken(&mut self) {
        for Tap { interface, taken, .. } in &mut self.taps {
            self.counters[*interface].taken.fetch_add(std::mem::take(taken), Ordering::Relaxed);
        }
    }

    /// Adds what the kernel counted, and looks which interfaces are down, which may come up again,
    /// or removed.
    fn ask(&mut self) {
        for tap in &mut self.taps {
            let to = &self.counters[tap.interface];
            to.kernel_stamped.fetch_add(tap.feed.kernel_stamped(), Ordering::Relaxed);
            if let Ok(counts) = tap.feed.counts() {
                to.add(counts);
            }
            if tap.feed.socket().trouble().is_some() && self.tells {
                to.downs.fetch_add(1, Ordering::Relaxed);
            }
            // Where it is waited for, whoever looks for it says whether it is there.
            if tap.gone.is_some() && self.inbox.is_none() {
                to.is_gone.store(true, Ordering::Relaxed);
            }
            tap.gone = match tap.gone {
                None => tap.feed.socket().is_gone().then_some(LAST_LOOKS),
                Some(looks_left) => Some(looks_left.saturating_sub(1)),
            };
        }
    }

    /// Lets go of an interface that was removed, once all its frames are read; which one that was.
    fn let_go(&mut self) -> Option<usize> {
        let is_over = |tap: &mut Tap| tap.gone == Some(0) && !tap.feed.is_ready();
        let at = self.taps.iter_mut().position(is_over)?;
        self.heads.remove(at);
        if self.taps.len() == 1 && self.inbox.is_none() {
            self.closing = Closing::Over;
        }
        Some(self.taps.remove(at).interface)
    }

    /// Reads interfaces too that came meanwhile.
    fn attach(&mut self) -> Result<(), SourceError> {
        let Some(inbox) = &self.inbox else { return Ok(()) };
        for (interface, feed) in inbox.take() {
            // What is known of the others holds for as many as there were.
            self.heads.iter_mut().for_each(|head| *head = Head::default());
            self.heads.push(Head::default());
            let mut tap = opening::tap((interface, feed));
            if self.closing != Closing::Open {
                let name = &self.counters[interface].name;
                tap.feed.close().map_err(|error| lost(name, error.error))?;
            }
            self.taps.push(tap);
        }
        Ok(())
    }

    /// Lets no more frames in.
    fn close(&mut self) -> Result<(), SourceError> {
        self.closing = Closing::Draining { looks_left: LAST_LOOKS };
        for Tap { feed, interface, .. } in &mut self.taps {
            let closed = feed.close();
            let name = &self.counters[*interface].name;
            closed.map_err(|error| lost(name, error.error))?;
        }
        Ok(())
    }

    /// What a fill that found no frame says.
    fn find_nothing(&mut self, batch: &mut Batch) {
        let is_holding = self.is_holding();
        if let Closing::Draining { looks_left } = self.closing
            && !is_holding
        {
            self.closing = match looks_left.checked_sub(1) {
                Some(looks_left) => Closing::Draining { looks_left },
                None => Closing::Over,
            };
        }
        if self.closing != Closing::Over {
            // Time must not pass what is held.
            let until = if is_holding { None } else { self.quiet_until() };
            batch.be_quiet(until.unwrap_or(0));
        }
    }

    /// Until when it is known that no frame came that has not been read, if there was one at all.
    fn quiet_until(&self) -> Option<u64> {
        let lag = (LAG_MS + 2 * u64::from(self.wait_ms)) * 1_000_000;
        self.last.until((self.now)().checked_sub(lag)?)
    }
}

/// An interface that brings no more frames.
fn lost(interface: &str, error: io::Error) -> SourceError {
    SourceError::Interface { name: interface.to_owned(), error }
}

impl Drop for LiveSource {
    /// A run that ends with an error has its accounts, too.
    fn drop(&mut self) {
        self.ask();
    }
}

impl Source for LiveSource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        self.attach()?;
        while let Some(interface) = self.let_go() {
            if self.tells && self.inbox.is_none() {
                let error = io::ErrorKind::NotConnected.into();
                return Err(lost(&self.counters[interface].name, error));
            }
        }
        if self.closing == Closing::Over {
            return Ok(0);
        }
        if self.closing == Closing::Open && self.stop.load(Ordering::Relaxed) {
            self.close()?;
        }
        self.take_ready(batch, max_frames.max(1));
        if batch.is_empty() {
            self.wait();
            self.take_ready(batch, max_frames.max(1));
        }
        let now = (self.now)();
        let gap_ns = now.saturating_sub(self.read_at) / batch.len().max(1) as u64;
        self.gap_ns = (3 * self.gap_ns + gap_ns.min(QUIET_NS)) / 4;
        self.read_at = now;
        if batch.is_empty() || now.saturating_sub(self.asked_at) >= ASK_NS {
            self.asked_at = now;
            self.ask();
        }
        if let Some(last) = batch.len().checked_sub(1) {
            self.tell_taken();
            self.last.see(batch.packet(last).ts_ns, now);
            batch.come_live();
            return Ok(batch.len());
        }
        self.find_nothing(batch);
        Ok(0)
    }

    fn hurry(&mut self, hurried: bool) {
        self.hurried = hurried;
    }

    fn name(&self) -> &str {
        &self.name
    }
}
