//! Frames by AF_XDP sockets, one for each queue of an interface, all read by one worker.
//!
//! A queue's frames can only go to sockets of that queue, and which queue a network card chooses
//! differs by direction more often than not; so there is one worker. Frames are taken away from the
//! system, and come without the time: they have that at which they are read, those of one look the
//! same.

mod program;
mod queue;

use super::LiveConfig;
use super::socket::{DropCounter, KernelCounts, PacketSocket, RingError, longest};
use crate::batch::Batch;
use program::Program;
use queue::{Place, Queue};
use serveflow_core::packet::LinkType;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All queues of an interface.
#[derive(Debug)]
pub(super) struct Port {
    /// Before the sockets, so that it is let go of first.
    program: Program,
    queues: Vec<Queue>,
    /// The queue that is read.
    turn: usize,
    /// When it was looked into.
    ts_ns: u64,
    wall: fn() -> u64,
    /// A packet socket that takes no frames: it has the interface promiscuous, and knows what
    /// becomes of it.
    socket: PacketSocket,
    /// Frames taken since they were counted last.
    taken: u64,
    drops: Arc<Drops>,
}

/// What the kernel drops at the queues of an interface, which any thread may ask.
#[derive(Debug)]
pub struct Drops {
    sockets: Vec<Arc<OwnedFd>>,
    /// Frames dropped so far that somebody was told of.
    told: AtomicU64,
}

impl Drops {
    /// What was dropped since anybody asked last. Frames that are taken are counted by who takes
    /// them.
    pub(super) fn counts(&self) -> io::Result<KernelCounts> {
        let dropped = self.sockets.iter().map(|socket| queue::dropped(socket));
        let drops = told_once(&self.told, dropped.sum::<io::Result<u64>>()?);
        Ok(KernelCounts { packets: drops, drops, freezes: 0 })
    }
}

/// What a count that grows has more than whoever asked before was told, so that each unit is told
/// once.
fn told_once(told: &AtomicU64, now: u64) -> u64 {
    now.saturating_sub(told.fetch_max(now, Ordering::Relaxed))
}

/// How the memory of a queue is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    /// Pieces of memory, a power of two.
    pieces: usize,
    /// Whether frames may be longer than a piece.
    has_long_frames: bool,
    /// Most bytes that are kept of a frame.
    snap_bytes: usize,
}

/// What all of this needs.
const NEEDS: &str = "AF_XDP needs the capabilities CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF";
/// Bytes of a piece, and how many of them the kernel keeps for itself.
const PIECE: usize = 2048;
const HEADROOM: usize = 256;
/// Bytes of an Ethernet header with two tags.
const HEADERS: usize = 22;
/// A driver takes some in advance.
const LEAST_PIECES: usize = 512;

impl Port {
    /// Opens all queues of an interface. No frame comes before [`Port::let_in`].
    ///
    /// # Errors
    /// When the system refuses a step, or the interface's frames do not begin with Ethernet.
    pub(super) fn open(config: &LiveConfig, interface: &str) -> Result<Self, RingError> {
        let socket = PacketSocket::open(interface)?;
        if socket.link() != LinkType::Ethernet {
            let error = io::Error::other("AF_XDP takes Ethernet frames, and it has none");
            return Err(program::failed("cannot read the interface", error));
        }
        let queues = queues_of(interface, socket.interface())
            .map_err(|error| program::failed("cannot count the queues of the interface", error))?;
        let has_long_frames = longest(&socket, interface)? + HEADERS > PIECE - HEADROOM;
        let snap_bytes = config.snap_bytes as usize;
        let shape =
            Shape { pieces: pieces(config.shape.bytes(), queues), has_long_frames, snap_bytes };
        let number = socket.interface() as u32;
        let program = Program::attach(number, queues as u32, &shape)?;
        let (is_native, takes_pieces) = (program.is_native, program.takes_pieces);
        let open = |queue| {
            let place = Place { interface: number, queue, is_native, takes_pieces };
            Queue::open(&place, &shape)
        };
        let queues = (0..queues as u32).map(open).collect::<Result<Vec<_>, _>>()?;
        socket.bind(config.promiscuous)?;
        let wall = config.wall;
        let sockets = queues.iter().map(|queue| Arc::clone(queue.socket())).collect();
        let drops = Arc::new(Drops { sockets, told: AtomicU64::new(0) });
        Ok(Self { program, queues, turn: 0, ts_ns: 0, wall, socket, taken: 0, drops })
    }

    /// Lets frames in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn let_in(&self) -> Result<(), RingError> {
        (0..).zip(&self.queues).try_for_each(|(at, queue)| self.program.let_in(at, queue.socket()))
    }

    /// Lets no more frames in.
    pub(super) fn close(&mut self) {
        self.program.detach();
    }

    /// The packet socket of the interface.
    pub(super) fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.queues.iter().map(Queue::fd)
    }

    /// Whether a frame is left of the last look.
    pub(super) fn has_frame(&self) -> bool {
        self.queues[self.turn].has_frame()
    }

    /// Whether a look would find something.
    pub(super) fn may_be_ready(&self) -> bool {
        self.queues.iter().any(Queue::may_be_ready)
    }

    /// Whether a frame is there; looks into the queues by turns if none is left of the last look.
    pub(super) fn is_ready(&mut self) -> bool {
        for _ in 0..=self.queues.len() {
            if self.has_frame() {
                return true;
            }
            self.turn = (self.turn + 1) % self.queues.len();
            if self.queues[self.turn].look() {
                self.ts_ns = (self.wall)();
            }
        }
        self.has_frame()
    }

    /// When the next frame was read; only if there is one.
    pub(super) fn next_ns(&self) -> u64 {
        self.ts_ns
    }

    /// Moves the next frame into a batch; only if there is one.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        self.queues[self.turn].take(self.ts_ns, batch);
        self.taken += 1;
    }

    /// What was counted since the last call.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn counts(&mut self) -> io::Result<KernelCounts> {
        // What was taken is known whatever the kernel says.
        let mut counts = self.drops.counts().unwrap_or_default();
        counts.packets += std::mem::take(&mut self.taken);
        Ok(counts)
    }

    /// Reads what the kernel drops from another thread.
    pub(super) fn meter(&self) -> DropCounter {
        DropCounter::Xdp(Arc::downgrade(&self.drops))
    }
}

/// Pieces of each queue, which share the memory; as many as rings have entries, a power of two.
fn pieces(bytes: usize, queues: usize) -> usize {
    let each = (bytes / PIECE / queues.max(1)).max(LEAST_PIECES);
    1 << each.ilog2()
}

/// How many queues an interface receives by.
fn queues_of(interface: &str, number: libc::c_int) -> io::Result<usize> {
    let place = Path::new("/sys/class/net").join(interface);
    let known = std::fs::read_to_string(place.join("ifindex"))?;
    if known.trim() != number.to_string() {
        return Err(io::Error::other("/sys is that of another network namespace"));
    }
    let mut queues = 0;
    for entry in std::fs::read_dir(place.join("queues"))? {
        queues += usize::from(entry?.file_name().to_string_lossy().starts_with("rx-"));
    }
    Ok(queues.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many threads ask, and whoever reads the count first: the sum of what they are told
    /// is the count.
    #[test]
    fn each_drop_is_told_once() {
        let (told, count) = (AtomicU64::new(0), AtomicU64::new(0));
        let sum: u64 = std::thread::scope(|scope| {
            let ask = || {
                let now = || count.fetch_add(3, Ordering::Relaxed);
                (0..1000).map(|_| told_once(&told, now())).sum::<u64>()
            };
            let threads = [scope.spawn(ask), scope.spawn(ask), scope.spawn(ask)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let now = count.load(Ordering::Relaxed);
        assert_eq!(sum + told_once(&told, now), now);
        assert_eq!(told_once(&told, now - 1), 0, "an older count is known");
    }

    #[test]
    fn queues_share_the_memory_in_powers_of_two() {
        assert_eq!(pieces(64 << 20, 1), 32768);
        assert_eq!(pieces(64 << 20, 3), 8192);
        assert_eq!(pieces(1 << 20, 64), LEAST_PIECES);
    }
}
