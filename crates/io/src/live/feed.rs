//! What brings a worker the frames of an interface.

use super::bpf::{self, Instruction};
use super::ring::Ring;
use super::socket::{DropCounter, KernelCounts, PacketSocket, RingError};
#[cfg(feature = "xdp")]
use super::xdp::Port;
use crate::batch::Batch;
use std::io;
use std::os::fd::RawFd;

/// The ways in which frames come; each is read alike.
#[derive(Debug)]
pub(super) enum Feed {
    /// A packet socket and its ring.
    Ring(Ring),
    /// AF_XDP sockets.
    #[cfg(feature = "xdp")]
    Port(Port),
}

impl Feed {
    /// Whether a frame is there; looks for new ones if none is left of the last look.
    pub(super) fn is_ready(&mut self) -> bool {
        match self {
            Self::Ring(ring) => ring.is_ready(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.is_ready(),
        }
    }

    /// Whether a frame is left of the last look.
    pub(super) fn has_frame(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.has_frame(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.has_frame(),
        }
    }

    /// Whether a look would find something.
    pub(super) fn may_be_ready(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.may_be_ready(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.may_be_ready(),
        }
    }

    /// Moves the next frame into a batch; only if there is one.
    pub(super) fn take(&mut self, batch: &mut Batch) {
        match self {
            Self::Ring(ring) => ring.take(batch),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.take(batch),
        }
    }

    /// When the next frame was captured; only if there is one.
    pub(super) fn next_ns(&self) -> u64 {
        match self {
            Self::Ring(ring) => ring.next_ns(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.next_ns(),
        }
    }

    /// Notes what the kernel has handed over, and the time.
    pub(super) fn see_units(&mut self, now: fn() -> u64) {
        match self {
            Self::Ring(ring) => ring.see_units(now),
            #[cfg(feature = "xdp")]
            Self::Port(_) => {}
        }
    }

    /// When that was first seen which holds the next frame, if it was noted.
    pub(super) fn seen_at(&self) -> Option<u64> {
        match self {
            Self::Ring(ring) => ring.seen_at(),
            #[cfg(feature = "xdp")]
            Self::Port(_) => None,
        }
    }

    /// Lets frames in: those that a program keeps, or all where it needs none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn let_in(&self, filter: &[Instruction]) -> Result<(), RingError> {
        match self {
            Self::Ring(ring) => ring.socket().filter(filter),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.let_in(),
        }
    }

    /// Whether frames have the time at which they are read, so that what is read first came first.
    pub(super) fn stamps_as_read(&self) -> bool {
        match self {
            Self::Ring(_) => false,
            #[cfg(feature = "xdp")]
            Self::Port(_) => true,
        }
    }

    /// Lets no more frames in.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn close(&mut self) -> Result<(), RingError> {
        match self {
            Self::Ring(ring) => ring.socket().filter(&bpf::nothing()),
            #[cfg(feature = "xdp")]
            Self::Port(port) => {
                port.close();
                Ok(())
            }
        }
    }

    /// What the kernel counted since the last call.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn counts(&mut self) -> io::Result<KernelCounts> {
        match self {
            Self::Ring(ring) => ring.socket().counts(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.counts(),
        }
    }

    /// Reads the kernel's counts from another thread.
    pub(super) fn meter(&self) -> DropCounter {
        match self {
            Self::Ring(ring) => ring.socket().meter(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.meter(),
        }
    }

    /// Frames since the last call that the network card was to stamp with the time and did not.
    pub(super) fn kernel_stamped(&mut self) -> u64 {
        match self {
            Self::Ring(ring) => ring.kernel_stamped(),
            #[cfg(feature = "xdp")]
            Self::Port(_) => 0,
        }
    }

    /// The packet socket, which knows what becomes of the interface.
    pub(super) fn socket(&self) -> &PacketSocket {
        match self {
            Self::Ring(ring) => ring.socket(),
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.socket(),
        }
    }

    /// What to wait for.
    pub(super) fn fds(&self) -> Vec<RawFd> {
        match self {
            Self::Ring(ring) => vec![ring.socket().fd()],
            #[cfg(feature = "xdp")]
            Self::Port(port) => port.fds().collect(),
        }
    }
}
