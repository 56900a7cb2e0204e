//! Packets that come when they are due, whether or not anyone is ready for them.
//!
//! This is an open loop: each packet is due at a wall time that the traffic alone decides. What is
//! due waits in a receive ring, as it would in a network card's, and what finds the ring full is
//! dropped and counted. A worker that falls behind changes nothing about when packets are due, so a
//! latency counted from there has no coordinated omission.

use super::Wall;
use serveflow_io::{Batch, Source, SourceError};
use serveflow_train::traffic::generator::{Generator, Planned};
use std::collections::VecDeque;
use std::time::Duration;

/// A wait longer than this is slept through up to here, and the rest of it is spun: sleeping alone
/// wakes up too late, and spinning alone keeps a core busy.
const SPIN_NS: u64 = 100_000;

/// When packets are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Wall time at which packets of `start_ns` are due, nanoseconds.
    pub wall_start_ns: u64,
    /// Packet time that is due at `wall_start_ns`, nanoseconds since the epoch.
    pub start_ns: u64,
    /// How long the load lasts, nanoseconds. What the open flows still send then is served at once.
    pub load_ns: u64,
}

impl Pace {
    /// Wall time at which a packet of this time is due.
    #[must_use]
    pub fn due_ns(&self, ts_ns: u64) -> u64 {
        self.wall_start_ns + ts_ns.saturating_sub(self.start_ns)
    }

    /// Whether this packet time lies in the load, and not in what follows it.
    #[must_use]
    pub fn is_loaded(&self, ts_ns: u64) -> bool {
        ts_ns < self.start_ns.saturating_add(self.load_ns)
    }
}

/// A generator whose packets come when they are due.
#[derive(Debug)]
pub struct PacedSource {
    generator: Generator,
    wall: Wall,
    pace: Pace,
    /// Packets that the ring holds.
    ring_packets: usize,
    /// What the ring still holds after a batch was taken from it.
    ring: VecDeque<Planned>,
    dropped: u64,
    waited_ns: u64,
    is_draining: bool,
}

impl PacedSource {
    /// A source whose ring holds so many packets (0 is taken as 1).
    #[must_use]
    pub fn new(generator: Generator, wall: Wall, pace: Pace, ring_packets: usize) -> Self {
        let ring_packets = ring_packets.max(1);
        let ring = VecDeque::new();
        Self {
            generator,
            wall,
            pace,
            ring_packets,
            ring,
            dropped: 0,
            waited_ns: 0,
            is_draining: false,
        }
    }

    /// The generator behind it.
    #[must_use]
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Packets that found the ring full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Wall time spent waiting for packets to be due.
    #[must_use]
    pub fn waited_ns(&self) -> u64 {
        self.waited_ns
    }

    /// When the next packet of the load is due; `None` when the load is over.
    fn next_due(&mut self) -> Option<u64> {
        let next = self.generator.peek_ns()?;
        self.pace.is_loaded(next).then(|| self.pace.due_ns(next))
    }

    /// Takes what came until now: into the batch while it has room and nothing is before it in the
    /// ring, then into the ring, and what the ring has no room for is dropped.
    fn receive(&mut self, batch: &mut Batch, max_frames: usize, now_ns: u64) {
        let most_here = max_frames.min(self.ring_packets);
        let is_behind = !self.ring.is_empty();
        while self.next_due().is_some_and(|due| due <= now_ns) {
            let Some(planned) = self.generator.plan() else { return };
            if !is_behind && batch.len() < most_here {
                self.generator.write(&planned, batch);
            } else if batch.len() + self.ring.len() < self.ring_packets {
                self.ring.push_back(planned);
            } else {
                self.dropped += 1;
            }
        }
        while is_behind && batch.len() < max_frames {
            let Some(planned) = self.ring.pop_front() else { return };
            self.generator.write(&planned, batch);
        }
    }

    /// Waits until a wall time.
    fn wait_until(&mut self, due_ns: u64) {
        let started = (self.wall)();
        let mut now = started;
        while now < due_ns {
            match (due_ns - now).saturating_sub(SPIN_NS) {
                0 => std::hint::spin_loop(),
                sleep => std::thread::sleep(Duration::from_nanos(sleep)),
            }
            now = (self.wall)();
        }
        self.waited_ns += now - started;
    }
}

impl Source for PacedSource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        let max_frames = max_frames.max(1);
        while !self.is_draining {
            self.receive(batch, max_frames, (self.wall)());
            if !batch.is_empty() {
                return Ok(batch.len());
            }
            match self.next_due() {
                Some(due) => self.wait_until(due),
                None => {
                    // The load lasts to its end, even if its last packet came before.
                    self.wait_until(self.pace.wall_start_ns.saturating_add(self.pace.load_ns));
                    self.generator.stop();
                    self.is_draining = true;
                }
            }
        }
        self.generator.fill(batch, max_frames)
    }

    fn name(&self) -> &'static str {
        "paced generator"
    }
}
