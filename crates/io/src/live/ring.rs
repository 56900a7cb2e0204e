//! Rings that the kernel fills with frames (packet(7)).
//!
//! A ring is cut into units, which the kernel hands over one by one: blocks of many frames
//! (`TPACKET_V3`), or slots of one frame each (`TPACKET_V2`). A block is handed over when it is
//! full or has waited, which costs least where much comes; a slot is handed over at once.

#![allow(unsafe_code)]

use super::socket::{CAPTURING, PacketSocket, RingError};
use crate::batch::Batch;
use serveflow_core::packet::LinkType;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// When the kernel hands frames over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RxMode {
    /// Many at a time.
    Blocks {
        /// Longest that a frame waits in a block that is not full, milliseconds.
        wait_ms: u32,
    },
    /// Each at once.
    Frames {
        /// Bytes of a frame that have room.
        snap_bytes: usize,
    },
}

/// How a ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of a block, a power of two and whole pages.
    pub block_bytes: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// When the kernel hands frames over.
    pub rx_mode: RxMode,
}

impl RingShape {
    /// Bytes of the ring.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block_bytes * self.blocks
    }

    /// Bytes of what is handed over at a time, headers included.
    fn unit_bytes(&self) -> usize {
        match self.rx_mode {
            RxMode::Blocks { .. } => self.block_bytes,
            RxMode::Frames { snap_bytes } => {
                (snap_bytes + SLOT_HEADERS).next_multiple_of(SLOT_GRAIN).min(self.block_bytes)
            }
        }
    }

    /// Units in a block.
    fn per_block(&self) -> usize {
        self.block_bytes / self.unit_bytes()
    }

    /// How many units there are; with slots, the most frames that the ring holds.
    #[must_use]
    pub fn units(&self) -> usize {
        self.per_block() * self.blocks
    }
}

/// A packet socket of one interface, and the ring that the kernel fills.
pub struct Ring {
    socket: PacketSocket,
    map: *mut u8,
    shape: RingShape,
    unit_bytes: usize,
    per_block: usize,
    units: usize,
    /// The unit that is read, or that the kernel fills next.
    unit: usize,
    /// Where it begins in the mapping.
    base: usize,
    /// Where in the unit the next frame stands, and how many are left; none left: the unit is not
    /// open.
    next: usize,
    left: u32,
    /// When each unit was first seen that is not given back yet, by the wall clock; see
    /// [`Ring::see_units`].
    seen: VecDeque<u64>,
    /// A tagged frame, put together again.
    tagged: Vec<u8>,
    /// Frames that had no time stamp of the network card.
    kernel_stamped: u64,
    hardware_time: bool,
}

// SAFETY: the mapping belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl Send for Ring {}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, shape, unit, left, .. } = self;
        let mut ring = f.debug_struct("Ring");
        ring.field("socket", socket).field("shape", shape);
        ring.field("unit", unit).field("left", left).finish_non_exhaustive()
    }
}

/// What the kernel tells of a frame, whichever the version.
struct FrameHeader {
    status: u32,
    /// Bytes on the wire, and bytes that are there.
    len: u32,
    snap_len: u32,
    /// Where the frame begins, from this header on.
    mac: u16,
    ts_ns: u64,
    /// The tag that was taken off.
    tag: (u16, u16),
    /// Where the next frame's header stands, from this one on.
    to_next: u32,
}

/// Bytes of a VLAN tag, which the kernel takes off and tells beside the frame.
const TAG: usize = 4;
/// Where an Ethernet header's type stands, and a tag belongs.
const TYPE_AT: usize = 12;
/// Only a lower bound for blocks: frames take as much of one as they need.
const FRAME_SIZE: usize = 2048;
/// Room for what stands in a slot before a frame: its header, an address and up to 64 bytes that
/// the kernel leaves free to align what comes behind the frame's first header.
const SLOT_HEADERS: usize = 128;
/// Slots are whole lines of the cache; the kernel wants multiples of 16.
const SLOT_GRAIN: usize = 64;
/// Where the status stands in a block's header.
const BLOCK_STATUS_AT: usize =
    offset_of!(libc::tpacket_block_desc, hdr) + offset_of!(libc::tpacket_hdr_v1, block_status);
/// Where it stands in a slot's.
const SLOT_STATUS_AT: usize = offset_of!(libc::tpacket2_hdr, tp_status);

impl Ring {
    /// Opens a socket on an interface, with a ring that stays empty until its filter lets frames
    /// in.
    ///
    /// # Errors
    /// When the system refuses a step, or the interface's frames begin with neither Ethernet nor
    /// IP.
    pub fn open(
        interface: &str,
        shape: RingShape,
        promiscuous: bool,
        hardware_time: bool,
    ) -> Result<Self, RingError> {
        let socket = PacketSocket::open(interface)?;
        let ring = Self {
            map: make_ring(&socket, &shape)?,
            socket,
            shape,
            unit_bytes: shape.unit_bytes(),
            per_block: shape.per_block(),
            units: shape.units(),
            unit: 0,
            base: 0,
            next: 0,
            left: 0,
            seen: VecDeque::new(),
            tagged: Vec::new(),
            kernel_stamped: 0,
            hardware_time,
        };
        if hardware_time {
            ring.socket.stamp_by_card()?;
        }
        ring.socket.bind(promiscuous)?;
        Ok(ring)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Frames since the last call that the network card was to stamp with the time and did not.
    pub fn kernel_stamped(&mut self) -> u64 {
        std::mem::take(&mut self.kernel_stamped)
    }

    /// Whether the unit that was opened last still holds a frame.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.left > 0
    }

    /// Whether [`Ring::is_ready`] would find something to look at.
    #[must_use]
    pub fn may_be_ready(&self) -> bool {
        self.left > 0 || self.is_handed_over(self.unit)
    }

    /// Notes which units the kernel has handed over, and the time: all their frames were captured
    /// before it.
    pub fn see_units(&mut self, now: fn() -> u64) {
        let before = self.seen.len();
        let fresh = (before..self.units)
            .take_while(|ahead| self.is_handed_over((self.unit + ahead) % self.units))
            .count();
        if fresh > 0 {
            let now = now();
            self.seen.extend(std::iter::repeat_n(now, fresh));
        }
    }

    /// When the unit was first seen that holds the next frame, if that was noted.
    #[must_use]
    pub fn seen_at(&self) -> Option<u64> {
        self.seen.front().copied()
    }

    /// Where a unit begins in the mapping.
    fn start_of(&self, unit: usize) -> usize {
        // A block need not be full of slots.
        unit / self.per_block * self.shape.block_bytes + unit % self.per_block * self.unit_bytes
    }

    /// The word by which a unit is handed over.
    fn status(&self, start: usize) -> &AtomicU32 {
        let at = match self.shape.rx_mode {
            RxMode::Blocks { .. } => BLOCK_STATUS_AT,
            RxMode::Frames { .. } => SLOT_STATUS_AT,
        };
        // SAFETY: units lie in the mapping, which lives as long as the ring, and the kernel writes
        // the status last: what it wrote before is seen once the status is.
        unsafe { AtomicU32::from_ptr(self.map.add(start + at).cast()) }
    }

    /// Whether a unit is this side's.
    fn is_handed_over(&self, unit: usize) -> bool {
        let start = if unit == self.unit { self.base } else { self.start_of(unit) };
        self.status(start).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// Whether a frame is there; opens the next unit if it has one.
    pub fn is_ready(&mut self) -> bool {
        while self.left == 0 {
            if !self.is_handed_over(self.unit) {
                return false;
            }
            (self.left, self.next) = match self.shape.rx_mode {
                RxMode::Frames { .. } => (1, 0),
                RxMode::Blocks { .. } => {
                    let header = self.at(0).cast::<libc::tpacket_block_desc>();
                    // SAFETY: the block is this side's until its status is given back, and blocks
                    // of this version have this header.
                    let header = unsafe { header.read().hdr.bh1 };
                    (header.num_pkts, header.offset_to_first_pkt as usize)
                }
            };
            if self.left == 0 {
                self.give_back();
            }
        }
        true
    }

    /// When the next frame was captured, nanoseconds since the epoch; only if there is one.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        self.frame_header().ts_ns
    }

    /// Moves the next frame into a batch; only if there is one.
    pub fn take(&mut self, batch: &mut Batch) {
        let header = self.frame_header();
        let from = (self.next + usize::from(header.mac)).min(self.unit_bytes);
        let len = (header.snap_len as usize).min(self.unit_bytes - from);
        // SAFETY: the frame lies in the unit, which is this side's until its status is given back.
        let data = unsafe { std::slice::from_raw_parts(self.at(from), len) };
        let link = self.socket.link();
        let is_tagged = header.status & libc::TP_STATUS_VLAN_VALID != 0 && len >= TYPE_AT;
        if is_tagged && link == LinkType::Ethernet {
            let kind = match header.status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => 0x8100,
                _ => header.tag.0,
            };
            self.tagged.clear();
            self.tagged.extend_from_slice(&data[..TYPE_AT]);
            self.tagged.extend(kind.to_be_bytes());
            self.tagged.extend(header.tag.1.to_be_bytes());
            self.tagged.extend_from_slice(&data[TYPE_AT..]);
            batch.push(header.ts_ns, header.len.saturating_add(TAG as u32), link, &self.tagged);
        } else {
            batch.push(header.ts_ns, header.len, link, data);
        }
        if self.hardware_time && header.status & libc::TP_STATUS_TS_RAW_HARDWARE == 0 {
            self.kernel_stamped += 1;
        }
        self.left -= 1;
        self.next += header.to_next as usize;
        if self.left == 0 {
            self.give_back();
        }
    }

    fn frame_header(&self) -> FrameHeader {
        match self.shape.rx_mode {
            RxMode::Blocks { .. } => {
                // SAFETY: plain numbers.
                let header: libc::tpacket3_hdr = unsafe { self.header() };
                FrameHeader {
                    status: header.tp_status,
                    len: header.tp_len,
                    snap_len: header.tp_snaplen,
                    mac: header.tp_mac,
                    ts_ns: ns(header.tp_sec, header.tp_nsec),
                    tag: (header.hv1.tp_vlan_tpid, header.hv1.tp_vlan_tci as u16),
                    to_next: header.tp_next_offset,
                }
            }
            RxMode::Frames { .. } => {
                // SAFETY: plain numbers.
                let header: libc::tpacket2_hdr = unsafe { self.header() };
                FrameHeader {
                    status: header.tp_status,
                    len: header.tp_len,
                    snap_len: header.tp_snaplen,
                    mac: header.tp_mac,
                    ts_ns: ns(header.tp_sec, header.tp_nsec),
                    tag: (header.tp_vlan_tpid, header.tp_vlan_tci),
                    to_next: 0,
                }
            }
        }
    }

    /// The header of the next frame.
    ///
    /// # Safety
    /// It must be of the ring's version.
    unsafe fn header<T: Copy>(&self) -> T {
        let is_inside = self.next + size_of::<T>() <= self.unit_bytes;
        assert!(self.left > 0 && is_inside, "there is a frame");
        // SAFETY: a frame's header lies in the unit, as was checked, and the unit is this side's.
        unsafe { self.at(self.next).cast::<T>().read_unaligned() }
    }

    /// A place in the unit that is read.
    fn at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.unit_bytes);
        // SAFETY: units lie in the mapping.
        unsafe { self.map.add(self.base + offset) }
    }

    /// Gives the unit back to the kernel.
    fn give_back(&mut self) {
        // What was read before is read once it is written.
        self.status(self.base).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.unit += 1;
        self.base += self.unit_bytes;
        let left_of_block = self.shape.block_bytes - self.base % self.shape.block_bytes;
        if left_of_block < self.unit_bytes {
            self.base += left_of_block;
        }
        if self.unit == self.units {
            (self.unit, self.base) = (0, 0);
        }
        debug_assert_eq!(self.base, self.start_of(self.unit));
        self.seen.pop_front();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing points into it any more.
        unsafe { libc::munmap(self.map.cast(), self.shape.bytes()) };
    }
}

fn ns(seconds: u32, nanoseconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000 + u64::from(nanoseconds)
}

/// Waits until one of the sockets may have a frame, or so long.
pub(super) fn wait_for_any(sockets: impl Iterator<Item = RawFd>, milliseconds: i32) {
    let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = sockets.map(poll).collect();
    // SAFETY: the kernel reads and writes as many entries as there are. Whatever it answers, the
    // sockets' rings are looked at next.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, milliseconds) };
}

/// Has the kernel make a ring, and maps it.
fn make_ring(socket: &PacketSocket, shape: &RingShape) -> Result<*mut u8, RingError> {
    let what = "cannot make the ring";
    let (blocks, block_bytes) = (shape.blocks as u32, shape.block_bytes as u32);
    match shape.rx_mode {
        RxMode::Blocks { wait_ms } => {
            let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
            socket.set("cannot use TPACKET_V3", libc::PACKET_VERSION, &version)?;
            // SAFETY: a structure of numbers, for which zeros are values.
            let mut request: libc::tpacket_req3 = unsafe { std::mem::zeroed() };
            (request.tp_block_size, request.tp_block_nr) = (block_bytes, blocks);
            request.tp_frame_size = FRAME_SIZE as u32;
            request.tp_frame_nr = (shape.block_bytes / FRAME_SIZE * shape.blocks) as u32;
            request.tp_retire_blk_tov = wait_ms;
            socket.set(what, libc::PACKET_RX_RING, &request)?;
        }
        RxMode::Frames { .. } => {
            let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
            socket.set("cannot use TPACKET_V2", libc::PACKET_VERSION, &version)?;
            let request = libc::tpacket_req {
                tp_block_size: block_bytes,
                tp_block_nr: blocks,
                tp_frame_size: shape.unit_bytes() as u32,
                tp_frame_nr: shape.units() as u32,
            };
            socket.set(what, libc::PACKET_RX_RING, &request)?;
        }
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let from = ptr::null_mut();
    // SAFETY: a fresh mapping of the socket's ring, whose size was agreed on above.
    let map = unsafe { libc::mmap(from, shape.bytes(), access, libc::MAP_SHARED, socket.fd(), 0) };
    if map == libc::MAP_FAILED {
        let (what, error) = ("cannot map the ring", io::Error::last_os_error());
        return Err(RingError { what, error, needs: CAPTURING });
    }
    Ok(map.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that the kernel asks of a ring's numbers, for each shape that the configuration allows.
    #[test]
    fn shapes_are_such_as_the_kernel_takes() {
        for block_bytes in [1 << 16, 1 << 17, 1 << 20, 1 << 24] {
            for snap_bytes in
                (1..block_bytes - 512).step_by(997).chain([64, 256, block_bytes - 512])
            {
                let rx_mode = RxMode::Frames { snap_bytes };
                let shape = RingShape { block_bytes, blocks: 3, rx_mode };
                let slot = shape.unit_bytes();
                assert!(
                    slot.is_multiple_of(16)
                        && slot >= snap_bytes + SLOT_HEADERS
                        && slot <= block_bytes
                );
                assert_eq!(shape.units(), block_bytes / slot * 3);
            }
        }
        let rx_mode = RxMode::Blocks { wait_ms: 1 };
        assert_eq!(RingShape { block_bytes: 1 << 16, blocks: 7, rx_mode }.units(), 7);
    }
}
