//! An AF_XDP socket of one queue, and the memory that the kernel writes its frames into.
//!
//! The memory is cut into pieces. Their addresses go round: by the fill ring to the kernel, by the
//! receive ring back with a frame in them, and so on. Both rings have room for all pieces, so
//! neither is ever too full.

#![allow(unsafe_code)]

use super::program::{failed, patiently};
use super::{PIECE, Shape};
use crate::batch::Batch;
use crate::live::socket::RingError;
use serveflow_core::packet::LinkType;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A socket of a queue of an interface.
#[derive(Debug)]
pub(super) struct Queue {
    socket: Arc<OwnedFd>,
    memory: Mapping,
    received: Ring<libc::xdp_desc>,
    fill: Ring<u64>,
    /// Pieces read so far, and pieces given to the kernel so far; both go round.
    read: u32,
    filled: u32,
    /// Pieces that are left of the last look.
    left: u32,
    /// Pieces that were read and are not given back yet.
    kept: u32,
    snap_bytes: usize,
}

/// How a socket is bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Number of the interface.
    pub(super) interface: u32,
    /// Number of the queue.
    pub(super) queue: u32,
    /// Whether the driver runs the program, and may write into our memory itself.
    pub(super) is_native: bool,
    /// Whether frames may come in several pieces.
    pub(super) takes_pieces: bool,
}

/// Pieces after which they are given back, though more are to be read.
const MOST_KEPT: u32 = 64;

impl Queue {
    /// Opens a socket for a queue. It takes no frames before the program knows it.
    pub(super) fn open(place: &Place, shape: &Shape) -> Result<Self, RingError> {
        // SAFETY: a call without pointers.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(failed("cannot open an AF_XDP socket", io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let memory = Mapping::of(shape.pieces * PIECE, None)
            .map_err(|error| failed("cannot get memory for frames", error))?;
        // SAFETY: a structure of numbers, for which zeros are values.
        let mut region: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
        region.addr = memory.start.expose_provenance() as u64;
        region.len = memory.bytes as u64;
        region.chunk_size = PIECE as u32;
        set(&socket, "cannot share memory with the kernel", libc::XDP_UMEM_REG, &region)?;
        let entries = shape.pieces as u32;
        for name in [libc::XDP_UMEM_FILL_RING, libc::XDP_RX_RING] {
            set(&socket, "cannot make a ring", name, &entries)?;
        }
        // Nothing is sent, but there must be one.
        set(&socket, "cannot make a ring", libc::XDP_UMEM_COMPLETION_RING, &1_u32)?;
        // SAFETY: a structure of numbers, for which zeros are values.
        let offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let offsets = get(&socket, libc::XDP_MMAP_OFFSETS, offsets)
            .map_err(|error| failed("cannot read the layout of the rings", error))?;
        let fill = Ring::of(&socket, libc::XDP_UMEM_PGOFF_FILL_RING as i64, entries, &offsets.fr)?;
        let received = Ring::of(&socket, libc::XDP_PGOFF_RX_RING, entries, &offsets.rx)?;
        let mut queue = Self {
            socket: Arc::new(socket),
            memory,
            received,
            fill,
            read: 0,
            filled: 0,
            left: 0,
            kept: 0,
            snap_bytes: shape.snap_bytes,
        };
        // Before it is bound, or some drivers begin without room.
        (0..shape.pieces).for_each(|piece| queue.put_back((piece * PIECE) as u64));
        queue.fill.written().store(queue.filled, Ordering::Release);
        queue.bind(place)?;
        Ok(queue)
    }

    fn bind(&self, place: &Place) -> Result<(), RingError> {
        let flags = libc::XDP_USE_NEED_WAKEUP | if place.is_native { 0 } else { libc::XDP_COPY };
        let attempt = |flags| {
            let address = libc::sockaddr_xdp {
                sxdp_family: libc::AF_XDP as u16,
                sxdp_flags: flags,
                sxdp_ifindex: place.interface,
                sxdp_queue_id: place.queue,
                sxdp_shared_umem_fd: 0,
            };
            let len = size_of_val(&address) as libc::socklen_t;
            // SAFETY: the kernel reads `len` bytes of a structure of that size.
            let answer = unsafe { libc::bind(self.fd(), (&raw const address).cast(), len) };
            match answer {
                0 => Ok(()),
                _ => Err(failed("cannot bind to a queue", io::Error::last_os_error())),
            }
        };
        if !place.takes_pieces {
            return patiently(|| attempt(flags));
        }
        // Kernels before 6.6 know no pieces; then long frames are dropped, and counted.
        match patiently(|| attempt(flags | libc::XDP_USE_SG)) {
            Err(failed) if failed.error.raw_os_error() == Some(libc::EINVAL) => {
                patiently(|| attempt(flags))
            }
            done => done,
        }
    }

    /// The descriptor, to wait for frames.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The socket, for the program.
    pub(super) fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Whether a frame is left of the last look.
    pub(super) fn has_frame(&self) -> bool {
        self.left > 0
    }

    /// Whether a look would find something.
    pub(super) fn may_be_ready(&self) -> bool {
        self.left > 0 || self.received.written().load(Ordering::Acquire) != self.read
    }

    /// Looks for frames, where none is left of the last look; whether there are some.
    pub(super) fn look(&mut self) -> bool {
        if self.left == 0 {
            self.left = self.received.written().load(Ordering::Acquire).wrapping_sub(self.read);
            // The last frame may have come in part.
            while self.left > 0 && self.goes_on(self.read.wrapping_add(self.left - 1)) {
                self.left -= 1;
            }
        }
        self.left > 0
    }

    fn goes_on(&self, at: u32) -> bool {
        self.received.entry(at).options & libc::XDP_PKT_CONTD != 0
    }

    /// Moves the next frame into a batch; only if there is one.
    pub(super) fn take(&mut self, ts_ns: u64, batch: &mut Batch) {
        assert!(self.left > 0, "there is a frame");
        let first = self.received.entry(self.read);
        let from = (first.addr as usize).min(self.memory.bytes);
        let len = (first.len as usize).min(self.memory.bytes - from).min(self.snap_bytes);
        // SAFETY: the piece lies in the memory, and is this side's until its address is put back.
        let data = unsafe { std::slice::from_raw_parts(self.memory.start.add(from), len) };
        let mut wire = first.len;
        let mut pieces = 1;
        while pieces < self.left && self.goes_on(self.read.wrapping_add(pieces - 1)) {
            wire = wire.saturating_add(self.received.entry(self.read.wrapping_add(pieces)).len);
            pieces += 1;
        }
        batch.push(ts_ns, wire, LinkType::Ethernet, data);
        for _ in 0..pieces {
            let address = self.received.entry(self.read).addr;
            self.put_back(address - address % PIECE as u64);
            self.read = self.read.wrapping_add(1);
        }
        self.left -= pieces;
        self.kept += pieces;
        if self.left == 0 || self.kept >= MOST_KEPT {
            self.give_back();
        }
    }

    /// Notes a piece for the kernel to fill.
    fn put_back(&mut self, address: u64) {
        self.fill.set(self.filled, address);
        self.filled = self.filled.wrapping_add(1);
    }

    /// Gives what was read back to the kernel.
    fn give_back(&mut self) {
        self.kept = 0;
        // What was read before is read once it is written.
        self.received.taken().store(self.read, Ordering::Release);
        self.fill.written().store(self.filled, Ordering::Release);
        if self.fill.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0 {
            let (flags, none) = (libc::MSG_DONTWAIT, ptr::null_mut());
            // SAFETY: nothing is written, and no address asked for. Whatever it answers, frames are
            // looked for next.
            unsafe { libc::recvfrom(self.fd(), none, 0, flags, ptr::null_mut(), ptr::null_mut()) };
        }
    }
}

/// Frames that found no room since a socket was opened.
pub(super) fn dropped(socket: &OwnedFd) -> io::Result<u64> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let counts: libc::xdp_statistics = unsafe { std::mem::zeroed() };
    let counts = get(socket, libc::XDP_STATISTICS, counts)?;
    // Where the kernel copies frames, one that found no piece is counted as both of these; where
    // the driver writes them itself, as the second alone.
    Ok(counts.rx_ring_full + counts.rx_dropped.max(counts.rx_fill_ring_empty_descs))
}

/// Memory that belongs to one value alone.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl Send for Mapping {}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Mapping {
    /// Fresh memory, or what a socket has at an offset.
    fn of(bytes: usize, socket: Option<(&OwnedFd, i64)>) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let (fd, offset, kind) = match socket {
            Some((socket, offset)) => (socket.as_raw_fd(), offset, libc::MAP_SHARED),
            None => (-1, 0, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS),
        };
        let kind = kind | libc::MAP_POPULATE;
        // SAFETY: a fresh mapping touches no memory that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing points into it any more.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A ring that is shared with the kernel.
#[derive(Debug)]
struct Ring<T> {
    mapping: Mapping,
    offsets: libc::xdp_ring_offset,
    mask: u32,
    entries: std::marker::PhantomData<T>,
}

impl<T: Copy> Ring<T> {
    /// Maps a socket's ring.
    fn of(
        socket: &OwnedFd,
        at: i64,
        entries: u32,
        offsets: &libc::xdp_ring_offset,
    ) -> Result<Self, RingError> {
        let bytes = offsets.desc as usize + entries as usize * size_of::<T>();
        let mapping = Mapping::of(bytes, Some((socket, at)))
            .map_err(|error| failed("cannot map a ring", error))?;
        let words = [offsets.producer, offsets.consumer, offsets.flags];
        assert!(entries.is_power_of_two(), "entries are found by a mask");
        assert!(words.iter().all(|at| *at as usize + 4 <= bytes), "the words lie in the ring");
        Ok(Self {
            mapping,
            offsets: *offsets,
            mask: entries - 1,
            entries: std::marker::PhantomData,
        })
    }

    /// A word of the ring, by where it stands.
    fn word(&self, at: u64) -> &AtomicU32 {
        // SAFETY: it lies in the mapping, as was checked, and both sides read and write it as a
        // whole.
        unsafe { AtomicU32::from_ptr(self.mapping.start.add(at as usize).cast()) }
    }

    /// Entries that were written so far.
    fn written(&self) -> &AtomicU32 {
        self.word(self.offsets.producer)
    }

    /// Entries that were taken so far.
    fn taken(&self) -> &AtomicU32 {
        self.word(self.offsets.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.word(self.offsets.flags)
    }

    fn place(&self, at: u32) -> *mut T {
        let behind = (at & self.mask) as usize * size_of::<T>();
        // SAFETY: the mask keeps it in the mapping.
        unsafe { self.mapping.start.add(self.offsets.desc as usize + behind).cast() }
    }

    /// An entry; one that is this side's, or what is read may be half written.
    fn entry(&self, at: u32) -> T {
        // SAFETY: it lies in the mapping, and is made of numbers.
        unsafe { self.place(at).read() }
    }

    /// Writes an entry that is this side's.
    fn set(&mut self, at: u32, entry: T) {
        // SAFETY: it lies in the mapping.
        unsafe { self.place(at).write(entry) };
    }
}

/// Sets an option of AF_XDP sockets.
fn set<T>(
    socket: &OwnedFd,
    what: &'static str,
    name: libc::c_int,
    value: &T,
) -> Result<(), RingError> {
    let (len, value) = (size_of::<T>() as libc::socklen_t, ptr::from_ref(value).cast());
    // SAFETY: the kernel reads `len` bytes of a value of that size.
    let answer = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_XDP, name, value, len) };
    if answer < 0 { Err(failed(what, io::Error::last_os_error())) } else { Ok(()) }
}

/// Gets an option; of a kernel that knows less, the rest stays as it is.
fn get<T: Copy>(socket: &OwnedFd, name: libc::c_int, mut value: T) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let (socket, to) = (socket.as_raw_fd(), (&raw mut value).cast());
    // SAFETY: the kernel writes at most `len` bytes, into a value of that size, which is made of
    // numbers wherever this is called.
    let answer = unsafe { libc::getsockopt(socket, libc::SOL_XDP, name, to, &raw mut len) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}
