//! A ring of blocks that the kernel fills with frames (`TPACKET_V3`, see packet(7)).

#![allow(unsafe_code)]

use super::bpf::Instruction;
use super::fanout::FirstHeader;
use crate::batch::Batch;
use serveflow_core::packet::LinkType;
use std::collections::VecDeque;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// How a ring is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingShape {
    /// Bytes of a block, a power of two and whole pages: the kernel hands blocks over when they are full
    /// or have waited for long enough.
    pub block_bytes: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Longest that a frame waits in a block that is not full, milliseconds.
    pub block_ms: u32,
}

/// A step of opening a socket that failed.
#[derive(Debug)]
pub struct RingError {
    /// What was to be done.
    pub what: &'static str,
    /// The system's answer.
    pub error: io::Error,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)?;
        match self.error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                write!(f, " (capturing needs the capability CAP_NET_RAW)")
            }
            _ => Ok(()),
        }
    }
}

/// What the kernel counted of a socket since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Frames that passed the filter, those that were dropped among them.
    pub packets: u64,
    /// Frames for which no block was free.
    pub drops: u64,
    /// Times that all blocks were full.
    pub freezes: u64,
}

/// A packet socket of one interface, and the ring that the kernel fills.
pub struct Ring {
    socket: OwnedFd,
    map: *mut u8,
    shape: RingShape,
    link: LinkType,
    first: FirstHeader,
    /// The block that is read, or that the kernel fills next.
    block: usize,
    /// Where in the block the next frame stands, and how many are left; none left: the block is not open.
    next: usize,
    left: u32,
    /// When each block was first seen that is not given back yet, by the wall clock; see [`Ring::see_blocks`].
    seen: VecDeque<u64>,
    /// A tagged frame, put together again.
    tagged: Vec<u8>,
    /// Whether frames are left out that this machine sends. The socket's own option for that is not heeded where
    /// sockets share an interface, so it is done by the filter.
    incoming_only: bool,
    /// Frames that had no time stamp of the network card.
    kernel_stamped: u64,
    hardware_time: bool,
}

// SAFETY: the mapping belongs to this value alone, and nothing in it belongs to a thread.
unsafe impl Send for Ring {}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket, shape, link, block, left, .. } = self;
        let mut ring = f.debug_struct("Ring");
        ring.field("socket", socket).field("shape", shape).field("link", link);
        ring.field("block", block).field("left", left).finish_non_exhaustive()
    }
}

/// Bytes of a VLAN tag, which the kernel takes off and tells beside the frame.
const TAG: usize = 4;
const BLOCK_HEADER: usize = size_of::<libc::tpacket_block_desc>();
const FRAME_HEADER: usize = size_of::<libc::tpacket3_hdr>();
/// Where an Ethernet header's type stands, and a tag belongs.
const TYPE_AT: usize = 12;

/// A number as big as the system's answer allows, or its error.
fn checked(what: &'static str, answer: libc::c_int) -> Result<libc::c_int, RingError> {
    if answer < 0 { Err(RingError { what, error: io::Error::last_os_error() }) } else { Ok(answer) }
}

impl Ring {
    /// Opens a socket on an interface, with a ring that stays empty until [`Ring::filter`] lets frames in.
    ///
    /// # Errors
    /// When the system refuses a step, or the interface's frames begin with neither Ethernet nor IP.
    pub fn open(
        interface: &str,
        shape: RingShape,
        promiscuous: bool,
        hardware_time: bool,
    ) -> Result<Self, RingError> {
        // SAFETY: a call without pointers.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let socket = checked("cannot open a packet socket", socket)?;
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let (index, kind) = look_up(&socket, interface)?;
        let (link, first) = frames_of(kind)?;
        let ring = Self {
            map: make_ring(&socket, shape)?,
            socket,
            shape,
            link,
            first,
            block: 0,
            next: 0,
            left: 0,
            seen: VecDeque::new(),
            tagged: Vec::new(),
            // Each frame passes there twice, on its way out and in.
            incoming_only: kind == libc::ARPHRD_LOOPBACK,
            kernel_stamped: 0,
            hardware_time,
        };
        if hardware_time {
            ring.set("cannot use hardware time stamps", libc::PACKET_TIMESTAMP, &HARDWARE_TIME)?;
        }
        // The socket takes frames as soon as it is bound, and others may not have joined yet.
        ring.filter(&super::bpf::nothing())?;
        if promiscuous {
            be_promiscuous(&ring.socket, index)?;
        }
        bind(&ring.socket, index)?;
        Ok(ring)
    }

    /// Sets an option of the packet socket.
    fn set<T>(&self, what: &'static str, name: libc::c_int, value: &T) -> Result<(), RingError> {
        set(&self.socket, what, libc::SOL_PACKET, name, value)
    }

    /// Gets an option of the socket.
    fn get<T: Copy>(&self, level: libc::c_int, name: libc::c_int, mut value: T) -> io::Result<T> {
        let mut len = size_of::<T>() as libc::socklen_t;
        let (socket, to) = (self.socket.as_raw_fd(), (&raw mut value).cast());
        // SAFETY: the kernel writes at most `len` bytes, into a value of that size, which is made of
        // numbers wherever this is called.
        let answer = unsafe { libc::getsockopt(socket, level, name, to, &raw mut len) };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
    }

    /// What frames begin with.
    #[must_use]
    pub fn first(&self) -> FirstHeader {
        self.first
    }

    /// Sets which frames come into the ring, and how many bytes of each.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn filter(&self, program: &[Instruction]) -> Result<(), RingError> {
        let mut program = match self.incoming_only {
            true => kernel_program(&super::bpf::of_incoming(program)),
            false => kernel_program(program),
        };
        let len = program.len() as u16;
        let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
        set(
            &self.socket,
            "cannot set the filter",
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &filter,
        )
    }

    /// Begins a group of sockets that share the interface's frames; the group's number.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn begin_group(&self) -> Result<u16, RingError> {
        let what = "cannot share the interface among workers";
        let unique = (libc::PACKET_FANOUT_CBPF | FANOUT_UNIQUE_ID) << 16;
        self.set(what, libc::PACKET_FANOUT, &unique)?;
        let group = self.get(libc::SOL_PACKET, libc::PACKET_FANOUT, 0_u32);
        group.map(|group| group as u16).map_err(|error| RingError { what, error })
    }

    /// Joins a group that another socket of the interface began.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join_group(&self, group: u16) -> Result<(), RingError> {
        let group = libc::PACKET_FANOUT_CBPF << 16 | u32::from(group);
        self.set("cannot share the interface among workers", libc::PACKET_FANOUT, &group)
    }

    /// Sets by which program the group's sockets share frames.
    ///
    /// # Errors
    /// When the kernel refuses the program.
    pub fn share_by(&self, program: &[Instruction]) -> Result<(), RingError> {
        let mut program = kernel_program(program);
        let len = program.len() as u16;
        let filter = libc::sock_fprog { len, filter: program.as_mut_ptr() };
        self.set("cannot set how workers share", libc::PACKET_FANOUT_DATA, &filter)
    }

    /// What the kernel counted since the last call.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn counts(&self) -> io::Result<KernelCounts> {
        // SAFETY: a structure of numbers, for which zeros are values.
        let stats: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
        let libc::tpacket_stats_v3 { tp_packets, tp_drops, tp_freeze_q_cnt } =
            self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS, stats)?;
        Ok(KernelCounts {
            packets: tp_packets.into(),
            drops: tp_drops.into(),
            freezes: tp_freeze_q_cnt.into(),
        })
    }

    /// Why the socket stopped, if it did since the last call.
    #[must_use]
    pub fn trouble(&self) -> Option<io::Error> {
        let error: libc::c_int = self.get(libc::SOL_SOCKET, libc::SO_ERROR, 0).unwrap_or(0);
        (error != 0).then(|| io::Error::from_raw_os_error(error))
    }

    /// Whether the interface is no more, so that nothing will come whatever happens.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // SAFETY: a structure of numbers, for which zeros are values.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut len = size_of_val(&address) as libc::socklen_t;
        let (socket, to) = (self.socket.as_raw_fd(), (&raw mut address).cast());
        // SAFETY: the kernel writes at most `len` bytes, into a structure of that size.
        let answer = unsafe { libc::getsockname(socket, to, &raw mut len) };
        // The kernel takes the number off a socket whose interface is removed.
        answer == 0 && address.sll_ifindex < 0
    }

    /// Frames since the last call that the network card was to stamp with the time and did not.
    pub fn kernel_stamped(&mut self) -> u64 {
        std::mem::take(&mut self.kernel_stamped)
    }

    /// Whether the block that was opened last still holds a frame.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        self.left > 0
    }

    /// Notes which blocks the kernel has handed over, and the time: all their frames were captured before it.
    pub fn see_blocks(&mut self, now: fn() -> u64) {
        let before = self.seen.len();
        let fresh = (before..self.shape.blocks)
            .take_while(|ahead| self.is_handed_over((self.block + ahead) % self.shape.blocks))
            .count();
        if fresh > 0 {
            let now = now();
            self.seen.extend(std::iter::repeat_n(now, fresh));
        }
    }

    /// When the block was first seen that holds the next frame, if that was noted.
    #[must_use]
    pub fn seen_at(&self) -> Option<u64> {
        self.seen.front().copied()
    }

    /// Whether a block is this side's.
    fn is_handed_over(&self, block: usize) -> bool {
        // SAFETY: the block's header lies in the mapping, and its status is a word that the kernel writes
        // last: what it wrote before is seen once the status is.
        let status = unsafe {
            let header = self.map.add(block * self.shape.block_bytes);
            AtomicU32::from_ptr(header.add(STATUS_AT).cast()).load(Ordering::Acquire)
        };
        status & libc::TP_STATUS_USER != 0
    }

    /// Whether a frame is there; opens the next block if it has one.
    pub fn is_ready(&mut self) -> bool {
        while self.left == 0 {
            if !self.is_handed_over(self.block) {
                return false;
            }
            let header = self.block_at(0).cast::<libc::tpacket_block_desc>();
            // SAFETY: the block is this side's until its status is given back.
            let block = unsafe { header.read() };
            // SAFETY: blocks of this version have this header.
            let header = unsafe { block.hdr.bh1 };
            (self.left, self.next) = (header.num_pkts, header.offset_to_first_pkt as usize);
            if self.left == 0 {
                self.give_back();
            }
        }
        true
    }

    /// When the next frame was captured, nanoseconds since the epoch; only if there is one.
    #[must_use]
    pub fn next_ns(&self) -> u64 {
        let header = self.frame_header();
        u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec)
    }

    /// Moves the next frame into a batch; only if there is one.
    pub fn take(&mut self, batch: &mut Batch) {
        let header = self.frame_header();
        let ts_ns = self.next_ns();
        let from = self.next + usize::from(header.tp_mac);
        let len = (header.tp_snaplen as usize).min(self.shape.block_bytes.saturating_sub(from));
        let at = self.block_at(from.min(self.shape.block_bytes));
        // SAFETY: the frame lies in the block, which is this side's until its status is given back.
        let data = unsafe { std::slice::from_raw_parts(at, len) };
        let tag = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0 && len >= TYPE_AT;
        if tag && self.link == LinkType::Ethernet {
            let kind = match header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID {
                0 => 0x8100,
                _ => header.hv1.tp_vlan_tpid,
            };
            self.tagged.clear();
            self.tagged.extend_from_slice(&data[..TYPE_AT]);
            self.tagged.extend(kind.to_be_bytes());
            self.tagged.extend((header.hv1.tp_vlan_tci as u16).to_be_bytes());
            self.tagged.extend_from_slice(&data[TYPE_AT..]);
            batch.push(ts_ns, header.tp_len.saturating_add(TAG as u32), self.link, &self.tagged);
        } else {
            batch.push(ts_ns, header.tp_len, self.link, data);
        }
        if self.hardware_time && header.tp_status & libc::TP_STATUS_TS_RAW_HARDWARE == 0 {
            self.kernel_stamped += 1;
        }
        self.left -= 1;
        self.next += header.tp_next_offset as usize;
        if self.left == 0 {
            self.give_back();
        }
    }

    fn frame_header(&self) -> libc::tpacket3_hdr {
        assert!(
            self.left > 0 && self.next + FRAME_HEADER <= self.shape.block_bytes,
            "there is a frame"
        );
        // SAFETY: a frame's header lies in the block, as was checked, and the block is this side's.
        unsafe { self.block_at(self.next).cast::<libc::tpacket3_hdr>().read_unaligned() }
    }

    /// A place in the block that is read.
    fn block_at(&self, offset: usize) -> *mut u8 {
        debug_assert!(offset <= self.shape.block_bytes && BLOCK_HEADER <= self.shape.block_bytes);
        // SAFETY: blocks lie in the mapping one behind the other.
        unsafe { self.map.add(self.block * self.shape.block_bytes + offset) }
    }

    /// Gives the block back to the kernel.
    fn give_back(&mut self) {
        // SAFETY: the status is a word in the mapping; what was read before is read once it is written.
        let status = unsafe { AtomicU32::from_ptr(self.block_at(STATUS_AT).cast()) };
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.block = (self.block + 1) % self.shape.blocks;
        self.seen.pop_front();
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this size, and nothing points into it any more.
        unsafe { libc::munmap(self.map.cast(), self.shape.block_bytes * self.shape.blocks) };
    }
}

/// Waits until one of the rings may have a frame, or so long.
pub fn wait_for_any<'a>(rings: impl Iterator<Item = &'a Ring>, milliseconds: i32) {
    let poll = |ring: &Ring| libc::pollfd {
        fd: ring.socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut polls: Vec<libc::pollfd> = rings.map(poll).collect();
    // SAFETY: the kernel reads and writes as many entries as there are. Whatever it answers, the rings
    // are looked at next.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, milliseconds) };
}

/// Has the kernel make a ring, and maps it.
fn make_ring(socket: &OwnedFd, shape: RingShape) -> Result<*mut u8, RingError> {
    let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
    set(socket, "cannot use TPACKET_V3", libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::tpacket_req3 = unsafe { std::mem::zeroed() };
    request.tp_block_size = shape.block_bytes as u32;
    request.tp_block_nr = shape.blocks as u32;
    request.tp_frame_size = FRAME_SIZE;
    request.tp_frame_nr = (shape.block_bytes / FRAME_SIZE as usize * shape.blocks) as u32;
    request.tp_retire_blk_tov = shape.block_ms;
    set(socket, "cannot make the ring", libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
    let (bytes, access) = (shape.block_bytes * shape.blocks, libc::PROT_READ | libc::PROT_WRITE);
    let (from, socket) = (ptr::null_mut(), socket.as_raw_fd());
    // SAFETY: a fresh mapping of the socket's ring, whose size was agreed on above.
    let map = unsafe { libc::mmap(from, bytes, access, libc::MAP_SHARED, socket, 0) };
    if map == libc::MAP_FAILED {
        return Err(RingError { what: "cannot map the ring", error: io::Error::last_os_error() });
    }
    Ok(map.cast())
}

/// Only a lower bound in this version: frames take as much of a block as they need.
const FRAME_SIZE: u32 = 2048;
/// The time stamps of the network card itself.
const HARDWARE_TIME: libc::c_int = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
/// The kernel finds a number for the group that no other one has (`PACKET_FANOUT_FLAG_UNIQUEID`).
const FANOUT_UNIQUE_ID: u32 = 0x2000;
/// Where the status stands in a block's header.
const STATUS_AT: usize = std::mem::offset_of!(libc::tpacket_block_desc, hdr)
    + std::mem::offset_of!(libc::tpacket_hdr_v1, block_status);

/// Sets an option of a socket.
fn set<T>(
    socket: &OwnedFd,
    what: &'static str,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> Result<(), RingError> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a value of that size.
    let answer = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len)
    };
    checked(what, answer).map(|_| ())
}

fn kernel_program(program: &[Instruction]) -> Vec<libc::sock_filter> {
    let one =
        |&Instruction { code, jt, jf, k }: &Instruction| libc::sock_filter { code, jt, jf, k };
    program.iter().map(one).collect()
}

/// An interface's number and the kind of its hardware.
fn look_up(socket: &OwnedFd, interface: &str) -> Result<(libc::c_int, u16), RingError> {
    let what = "no such interface";
    let missing = || RingError { what, error: io::Error::from_raw_os_error(libc::ENODEV) };
    let name = CString::new(interface).map_err(|_| missing())?;
    // SAFETY: a name that ends in 0.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 || name.as_bytes_with_nul().len() > libc::IFNAMSIZ {
        return Err(missing());
    }
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, byte) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
        *to = *byte as libc::c_char;
    }
    // SAFETY: the kernel reads and writes a request of this size.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    checked("cannot ask for the kind of the interface", answer)?;
    // SAFETY: the kernel has written this part of the union.
    let kind = unsafe { request.ifr_ifru.ifru_hwaddr.sa_family };
    Ok((index as libc::c_int, kind))
}

/// What the frames of a kind of hardware begin with.
fn frames_of(kind: u16) -> Result<(LinkType, FirstHeader), RingError> {
    match kind {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => {
            Ok((LinkType::Ethernet, FirstHeader::Ethernet))
        }
        libc::ARPHRD_NONE
        | libc::ARPHRD_TUNNEL
        | libc::ARPHRD_TUNNEL6
        | libc::ARPHRD_SIT
        | libc::ARPHRD_IPGRE
        | libc::ARPHRD_RAWHDLC => Ok((LinkType::RawIp, FirstHeader::Ip)),
        _ => {
            let text = format!("its frames begin with neither Ethernet nor IP (ARPHRD {kind})");
            Err(RingError { what: "cannot read the interface", error: io::Error::other(text) })
        }
    }
}

/// Has the interface take frames that are not addressed to it.
fn be_promiscuous(socket: &OwnedFd, index: libc::c_int) -> Result<(), RingError> {
    let member = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(
        socket,
        "cannot set the interface promiscuous",
        libc::SOL_PACKET,
        libc::PACKET_ADD_MEMBERSHIP,
        &member,
    )
}

/// Takes all frames of the interface from now on.
fn bind(socket: &OwnedFd, index: libc::c_int) -> Result<(), RingError> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = index;
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of a structure of that size.
    let answer = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    checked("cannot bind to the interface", answer).map(|_| ())
}
