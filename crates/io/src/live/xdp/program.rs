//! The program that an interface runs for each frame that comes, and its hold on the interface.
//!
//! It gives a frame to the socket of the queue that it came by, and leaves it to the system where
//! there is none. The hold is a link (bpf(2)): it ends with the last descriptor of it, so also when
//! this process is killed.

#![allow(unsafe_code)]

use super::{NEEDS, Shape};
use crate::live::socket::RingError;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// An interface's program.
#[derive(Debug)]
pub(super) struct Program {
    /// Ends when it is closed.
    link: Option<OwnedFd>,
    /// The sockets, by queue.
    sockets: OwnedFd,
    /// Whether the driver runs it, and not the system behind the driver.
    pub(super) is_native: bool,
    /// Whether it takes frames that lie in several pieces.
    pub(super) takes_pieces: bool,
}

/// Commands of bpf(2), from the kernel's header.
const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const PROGRAM_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
/// Kinds: a map of AF_XDP sockets, a program of the express data path, and where that stands.
const MAP_OF_SOCKETS: u32 = 17;
const XDP_PROGRAM: u32 = 6;
const AT_XDP: u32 = 37;
/// The program takes frames in several pieces (`BPF_F_XDP_HAS_FRAGS`).
const HAS_PIECES: u32 = 1 << 5;
/// Where a program runs (`XDP_FLAGS_DRV_MODE`, `XDP_FLAGS_SKB_MODE`).
const IN_DRIVER: u32 = 1 << 2;
const BEHIND_DRIVER: u32 = 1 << 1;
/// What becomes of a frame for which no socket is there (`XDP_PASS`).
const PASS: i32 = 2;
/// `bpf_redirect_map`, by its number.
const REDIRECT: i32 = 51;
/// Where a frame's queue stands in what the program is told (`struct xdp_md`).
const QUEUE_AT: i16 = 16;
/// First wait before a step is tried again, and how often: 2 s in all.
const FIRST_WAIT: Duration = Duration::from_millis(8);
const TRIES: u32 = 8;

#[repr(C)]
struct MapAttributes {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
}

#[repr(C)]
struct UpdateAttributes {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ProgramAttributes {
    kind: u32,
    instructions: u32,
    first: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    place: u32,
}

#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    place: u32,
    flags: u32,
}

/// One instruction, as the kernel takes it.
#[repr(C)]
struct Instruction {
    code: u8,
    /// Where it writes to, and above that where it reads from.
    registers: u8,
    offset: i16,
    number: i32,
}

impl Program {
    /// Has the interface run the program: in the driver where that can, else behind it. It takes no
    /// frames yet.
    pub(super) fn attach(interface: u32, queues: u32, shape: &Shape) -> Result<Self, RingError> {
        let sockets = map_of_sockets(queues)?;
        let attempt = |is_native: bool| {
            // Behind the driver, frames may have been joined to longer ones.
            let takes_pieces = shape.has_long_frames || !is_native;
            let (program, takes_pieces) = load(&sockets, takes_pieces)?;
            let place = if is_native { IN_DRIVER } else { BEHIND_DRIVER };
            let link = patiently(|| link(&program, interface, place))?;
            Ok((link, is_native, takes_pieces))
        };
        let (link, is_native, takes_pieces) = match attempt(true) {
            Err(RingError { error, .. }) if !is_final(&error) => attempt(false),
            done => done,
        }?;
        Ok(Self { link: Some(link), sockets, is_native, takes_pieces })
    }

    /// Gives the frames of a queue to a socket from now on.
    pub(super) fn let_in(&self, queue: u32, socket: &OwnedFd) -> Result<(), RingError> {
        let socket = socket.as_raw_fd() as u32;
        let attributes = UpdateAttributes {
            map: self.sockets.as_raw_fd() as u32,
            pad: 0,
            key: (&raw const queue).expose_provenance() as u64,
            value: (&raw const socket).expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads a key and a value of four bytes each, as the map was made.
        let answer = unsafe { bpf(MAP_UPDATE, &attributes) };
        answer.map(|_| ()).map_err(|error| failed("cannot give frames to the socket", error))
    }

    /// Leaves all frames to the system again.
    pub(super) fn detach(&mut self) {
        self.link = None;
    }
}

/// Tries a step again while the system is busy: what a program that has just ended held is let go
/// of a little later.
pub(super) fn patiently<T>(mut step: impl FnMut() -> Result<T, RingError>) -> Result<T, RingError> {
    let mut wait = FIRST_WAIT;
    for _ in 0..TRIES {
        match step() {
            Err(RingError { error, .. }) if is_taken(&error) => {
                std::thread::sleep(wait);
                wait *= 2;
            }
            done => return done,
        }
    }
    step()
}

/// Whether somebody else has what is asked for.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST))
}

/// Whether another way of attaching would meet the same.
fn is_final(error: &io::Error) -> bool {
    is_taken(error) || error.raw_os_error() == Some(libc::EPERM)
}

pub(super) fn failed(what: &'static str, error: io::Error) -> RingError {
    RingError { what, error, needs: NEEDS }
}

fn map_of_sockets(entries: u32) -> Result<OwnedFd, RingError> {
    let attributes = MapAttributes { kind: MAP_OF_SOCKETS, key_bytes: 4, value_bytes: 4, entries };
    // SAFETY: attributes without pointers.
    let answer = unsafe { bpf(MAP_CREATE, &attributes) };
    Ok(owned(answer.map_err(|error| failed("cannot make a map of sockets", error))?))
}

/// Loads the program, if possible for frames in several pieces; whether it takes such.
fn load(sockets: &OwnedFd, takes_pieces: bool) -> Result<(OwnedFd, bool), RingError> {
    let program = instructions(sockets.as_raw_fd());
    let mut name = [0; 16];
    name[..9].copy_from_slice(b"serveflow");
    let attempt = |flags| {
        let attributes = ProgramAttributes {
            kind: XDP_PROGRAM,
            instructions: program.len() as u32,
            first: program.as_ptr().expose_provenance() as u64,
            license: c"Apache-2.0 OR MIT".as_ptr().expose_provenance() as u64,
            log_level: 0,
            log_bytes: 0,
            log: 0,
            kernel: 0,
            flags,
            name,
            interface: 0,
            place: AT_XDP,
        };
        // SAFETY: the kernel reads as many instructions as there are, and a text that ends in 0.
        unsafe { bpf(PROGRAM_LOAD, &attributes) }
    };
    let first = attempt(if takes_pieces { HAS_PIECES } else { 0 });
    let (answer, takes_pieces) = match first {
        // Kernels before 5.18 know no pieces.
        Err(error) if takes_pieces && error.raw_os_error() == Some(libc::EINVAL) => {
            (attempt(0), false)
        }
        done => (done, takes_pieces),
    };
    let program = answer.map_err(|error| failed("cannot load the XDP program", error))?;
    Ok((owned(program), takes_pieces))
}

/// What the program does: `return bpf_redirect_map(sockets, context->rx_queue_index, XDP_PASS)`.
fn instructions(sockets: libc::c_int) -> [Instruction; 6] {
    let one = |code, registers, offset, number| Instruction { code, registers, offset, number };
    [
        // The second argument: the queue.
        one(0x61, 0x12, QUEUE_AT, 0),
        // The first: the map, by its descriptor, in two halves.
        one(0x18, 0x11, 0, sockets),
        one(0, 0, 0, 0),
        // The third.
        one(0xb7, 0x03, 0, PASS),
        one(0x85, 0, 0, REDIRECT),
        one(0x95, 0, 0, 0),
    ]
}

fn link(program: &OwnedFd, interface: u32, flags: u32) -> Result<OwnedFd, RingError> {
    let program = program.as_raw_fd() as u32;
    let attributes = LinkAttributes { program, interface, place: AT_XDP, flags };
    // SAFETY: attributes without pointers.
    let answer = unsafe { bpf(LINK_CREATE, &attributes) };
    Ok(owned(answer.map_err(|error| failed("cannot attach the XDP program", error))?))
}

fn owned(descriptor: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just made it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) }
}

/// Calls bpf(2).
///
/// # Safety
/// Pointers among the attributes must be what the command takes.
unsafe fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads attributes of that size; it writes to none of those that are used
    // here.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
