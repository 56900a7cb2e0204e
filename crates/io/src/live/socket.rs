//! A packet socket of one interface (packet(7)): its options, its filter, and what the kernel
//! counts of it.

#![allow(unsafe_code)]

use super::bpf::{Instruction, nothing, of_incoming};
use super::fanout::FirstHeader;
use serveflow_core::packet::LinkType;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::{Arc, Weak};

/// A step of opening a socket that failed.
#[derive(Debug)]
pub struct RingError {
    /// What was to be done.
    pub what: &'static str,
    /// The system's answer.
    pub error: io::Error,
    /// What is needed, where the system forbids it.
    pub needs: &'static str,
}

/// What packet sockets need.
pub(super) const CAPTURING: &str = "capturing needs the capability CAP_NET_RAW";

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)?;
        match self.error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => write!(f, " ({})", self.needs),
            Some(libc::EBUSY | libc::EEXIST) => {
                write!(f, " (another program has taken it; see `ip -d link`)")
            }
            Some(libc::ENOBUFS) => {
                write!(f, " (live.ring_mb is more than this user may lock; see `ulimit -l`)")
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

/// A packet socket of one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Arc<OwnedFd>,
    index: libc::c_int,
    link: LinkType,
    first: FirstHeader,
    /// Whether frames are left out that this machine sends. The socket's own option for that is not
    /// heeded where sockets share an interface, so it is done by the filter.
    incoming_only: bool,
}

/// The time stamps of the network card itself.
const HARDWARE_TIME: libc::c_int = libc::SOF_TIMESTAMPING_RAW_HARDWARE as libc::c_int;
/// The kernel finds a number for the group that no other one has (`PACKET_FANOUT_FLAG_UNIQUEID`).
const FANOUT_UNIQUE_ID: u32 = 0x2000;

fn refused(what: &'static str, error: io::Error) -> RingError {
    RingError { what, error, needs: CAPTURING }
}

/// A number as big as the system's answer allows, or its error.
fn checked(what: &'static str, answer: libc::c_int) -> Result<libc::c_int, RingError> {
    if answer < 0 { Err(refused(what, io::Error::last_os_error())) } else { Ok(answer) }
}

impl PacketSocket {
    /// Opens a socket for an interface. It takes no frames before [`PacketSocket::bind`], and then
    /// none before [`PacketSocket::filter`] lets them in.
    ///
    /// # Errors
    /// When the system refuses, or the interface's frames begin with neither Ethernet nor IP.
    pub fn open(interface: &str) -> Result<Self, RingError> {
        // SAFETY: a call without pointers.
        let socket =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        let socket = checked("cannot open a packet socket", socket)?;
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let (index, kind) = look_up(&socket, interface)?;
        let (link, first) = frames_of(kind)?;
        // Each frame passes the loopback twice, on its way out and in.
        let incoming_only = kind == libc::ARPHRD_LOOPBACK;
        let socket = Arc::new(socket);
        let opened = Self { socket, index, link, first, incoming_only };
        // It takes frames as soon as it is bound, and others may not have joined yet.
        opened.filter(&nothing())?;
        Ok(opened)
    }

    /// Binds the socket to its interface.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn bind(&self, promiscuous: bool) -> Result<(), RingError> {
        if promiscuous {
            self.be_promiscuous()?;
        }
        // SAFETY: a structure of numbers, for which zeros are values.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = self.index;
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes of a structure of that size.
        let answer = unsafe { libc::bind(self.fd(), (&raw const address).cast(), len) };
        checked("cannot bind to the interface", answer).map(|_| ())
    }

    /// Has the interface take frames that are not addressed to it.
    fn be_promiscuous(&self) -> Result<(), RingError> {
        let member = libc::packet_mreq {
            mr_ifindex: self.index,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set("cannot set the interface promiscuous", libc::PACKET_ADD_MEMBERSHIP, &member)
    }

    /// Has frames stamped with the time by the network card.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn stamp_by_card(&self) -> Result<(), RingError> {
        self.set("cannot use hardware time stamps", libc::PACKET_TIMESTAMP, &HARDWARE_TIME)
    }

    /// The descriptor, for the ring and to wait for frames.
    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The interface's number.
    pub(super) fn interface(&self) -> libc::c_int {
        self.index
    }

    /// What a frame's bytes are.
    #[must_use]
    pub fn link(&self) -> LinkType {
        self.link
    }

    /// Sets an option of packet sockets.
    pub(super) fn set<T>(
        &self,
        what: &'static str,
        name: libc::c_int,
        value: &T,
    ) -> Result<(), RingError> {
        self.set_at(libc::SOL_PACKET, what, name, value)
    }

    fn set_at<T>(
        &self,
        level: libc::c_int,
        what: &'static str,
        name: libc::c_int,
        value: &T,
    ) -> Result<(), RingError> {
        let len = size_of::<T>() as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes of a value of that size.
        let answer =
            unsafe { libc::setsockopt(self.fd(), level, name, ptr::from_ref(value).cast(), len) };
        checked(what, answer).map(|_| ())
    }

    /// Sets an option whose value is a program.
    fn set_program(
        &self,
        level: libc::c_int,
        what: &'static str,
        name: libc::c_int,
        program: &[Instruction],
    ) -> Result<(), RingError> {
        let one =
            |&Instruction { code, jt, jf, k }: &Instruction| libc::sock_filter { code, jt, jf, k };
        let mut program: Vec<libc::sock_filter> = program.iter().map(one).collect();
        let len = program.len() as u16;
        self.set_at(level, what, name, &libc::sock_fprog { len, filter: program.as_mut_ptr() })
    }

    /// Gets an option of the socket.
    fn get<T: Copy>(&self, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<T> {
        get_of(&self.socket, level, name, value)
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
        let (what, name) = ("cannot set the filter", libc::SO_ATTACH_FILTER);
        match self.incoming_only {
            true => self.set_program(libc::SOL_SOCKET, what, name, &of_incoming(program)),
            false => self.set_program(libc::SOL_SOCKET, what, name, program),
        }
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
        group.map(|group| group as u16).map_err(|error| refused(what, error))
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
        let (what, name) = ("cannot set how workers share", libc::PACKET_FANOUT_DATA);
        self.set_program(libc::SOL_PACKET, what, name, program)
    }

    /// What the kernel counted since the last call, here or by a [`DropCounter`].
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn counts(&self) -> io::Result<KernelCounts> {
        counts_of(&self.socket)
    }

    /// Reads the kernel's counts from any thread, for as long as the socket is open.
    #[must_use]
    pub fn meter(&self) -> DropCounter {
        DropCounter::Packet(Arc::downgrade(&self.socket))
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
        let (socket, to) = (self.fd(), (&raw mut address).cast());
        // SAFETY: the kernel writes at most `len` bytes, into a structure of that size.
        let answer = unsafe { libc::getsockname(socket, to, &raw mut len) };
        // The kernel takes the number off a socket whose interface is removed.
        answer == 0 && address.sll_ifindex < 0
    }
}

/// Reads what the kernel counts at a socket, also while the worker that reads its frames stands
/// still.
#[derive(Debug)]
pub enum DropCounter {
    /// Of a packet socket.
    Packet(Weak<OwnedFd>),
    /// Of the AF_XDP sockets of an interface.
    #[cfg(feature = "xdp")]
    Xdp(Weak<super::xdp::Drops>),
}

impl DropCounter {
    /// Whether the socket is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Packet(socket) => socket.strong_count() > 0,
            #[cfg(feature = "xdp")]
            Self::Xdp(drops) => drops.strong_count() > 0,
        }
    }

    /// What the kernel counted since anybody asked last; `None` once the socket is closed.
    #[must_use]
    pub fn counts(&self) -> Option<KernelCounts> {
        match self {
            Self::Packet(socket) => counts_of(&*socket.upgrade()?).ok(),
            #[cfg(feature = "xdp")]
            Self::Xdp(drops) => drops.upgrade()?.counts().ok(),
        }
    }
}

/// Gets an option of a socket, whose value is made of numbers.
fn get_of<T: Copy>(
    socket: &OwnedFd,
    level: libc::c_int,
    name: libc::c_int,
    mut value: T,
) -> io::Result<T> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let (socket, to) = (socket.as_raw_fd(), (&raw mut value).cast());
    // SAFETY: the kernel writes at most `len` bytes, into a value of that size, which is made of
    // numbers wherever this is called.
    let answer = unsafe { libc::getsockopt(socket, level, name, to, &raw mut len) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// What the kernel counted at a packet socket since it was asked last. It forgets what it has told
/// in the same step, so several threads may ask, and each count is told once.
fn counts_of(socket: &OwnedFd) -> io::Result<KernelCounts> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let stats: libc::tpacket_stats_v3 = unsafe { std::mem::zeroed() };
    let libc::tpacket_stats_v3 { tp_packets, tp_drops, tp_freeze_q_cnt } =
        get_of(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, stats)?;
    Ok(KernelCounts {
        packets: tp_packets.into(),
        drops: tp_drops.into(),
        freezes: tp_freeze_q_cnt.into(),
    })
}

/// Whether the system has an interface of this number.
pub(super) fn exists(number: libc::c_int) -> bool {
    let mut name = [0 as libc::c_char; libc::IFNAMSIZ];
    // SAFETY: the system writes a name of at most so many bytes.
    number > 0
        && !unsafe { libc::if_indextoname(number as libc::c_uint, name.as_mut_ptr()) }.is_null()
}

/// Whether the system has an interface of this name.
#[must_use]
pub fn is_there(interface: &str) -> bool {
    // SAFETY: a name that ends in 0.
    CString::new(interface).is_ok_and(|name| unsafe { libc::if_nametoindex(name.as_ptr()) } > 0)
}

/// Most bytes of a frame behind its first header, as the interface is set up.
#[cfg(feature = "xdp")]
pub(super) fn longest(socket: &PacketSocket, interface: &str) -> Result<usize, RingError> {
    let mut request = request_for(interface);
    // SAFETY: the kernel reads and writes a request of this size.
    let answer = unsafe { libc::ioctl(socket.fd(), libc::SIOCGIFMTU as _, &raw mut request) };
    checked("cannot read the longest frame of the interface", answer)?;
    // SAFETY: the kernel has written this part of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as usize)
}

/// A request about an interface, whose name is cut where it is too long to be one.
fn request_for(interface: &str) -> libc::ifreq {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.bytes().take(libc::IFNAMSIZ - 1);
    for (to, byte) in request.ifr_name.iter_mut().zip(name) {
        *to = byte as libc::c_char;
    }
    request
}

/// An interface's number and the kind of its hardware.
fn look_up(socket: &OwnedFd, interface: &str) -> Result<(libc::c_int, u16), RingError> {
    let what = "no such interface";
    let missing = || refused(what, io::Error::from_raw_os_error(libc::ENODEV));
    let name = CString::new(interface).map_err(|_| missing())?;
    // SAFETY: a name that ends in 0.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 || name.as_bytes_with_nul().len() > libc::IFNAMSIZ {
        return Err(missing());
    }
    let mut request = request_for(interface);
    // SAFETY: the kernel reads and writes a request of this size.
    let answer =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) };
    checked("cannot read the kind of the interface", answer)?;
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
            Err(refused("cannot read the interface", io::Error::other(text)))
        }
    }
}
