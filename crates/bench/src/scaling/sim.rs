//! Workers that share an input, event by event.
//!
//! It is a discrete-event simulation: time jumps from one thing that happens to the next, and the
//! same seed gives the same run. Left out are caches that workers share, a clock rate that falls as
//! more cores are busy, and lanes on threads of their own.

use super::shards::Shards;
use serde::Serialize;
use serveflow_train::random::Random;
use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// What the steps cost on one core, nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// To read a packet: its block, and the record it stands in. One worker at a time reads.
    pub read_ns: f64,
    /// To say which worker a packet goes to, and to note it in that worker's part.
    pub part_ns: f64,
    /// To leave a part on the board and to take it. One worker at a time is at the board.
    pub hand_ns: f64,
    /// Until a worker that sleeps runs again.
    pub wake_ns: f64,
    /// To parse a packet, find its flow, and keep it.
    pub packet_ns: f64,
    /// To serve a batch, whatever is in it.
    pub batch_ns: f64,
    /// The stages.
    pub stages: Vec<StageCost>,
}

/// What a stage costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageCost {
    /// Name of the stage.
    pub name: String,
    /// Share of the flows that ask it.
    pub share: f64,
    /// To encode a flow, to ask, and to hear the gate, nanoseconds.
    pub ask_ns: f64,
    /// To score a flow, nanoseconds.
    pub row_ns: f64,
    /// To score a job, whatever is in it, nanoseconds: small parts make small jobs, which cost more
    /// a flow.
    pub job_ns: f64,
}

impl Costs {
    /// What a batch of so many packets, which begin so many flows, costs its worker, nanoseconds.
    #[must_use]
    pub fn serve_ns(&self, packets: f64, flows: f64) -> f64 {
        let stage = |stage: &StageCost| {
            let rows = flows * stage.share;
            // Flows come by chance: how likely it is that the batch has any for the stage.
            let jobs = 1.0 - (-rows).exp();
            rows * (stage.ask_ns + stage.row_ns) + jobs * stage.job_ns
        };
        let stages: f64 = self.stages.iter().map(stage).sum();
        self.batch_ns + packets * self.packet_ns + stages
    }
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Blocks that are read.
    pub blocks: usize,
    /// Packets of a block.
    pub block_packets: usize,
    /// Packets of a batch of a worker that reads for itself.
    pub alone_packets: usize,
    /// Blocks for each worker that may be read and not yet taken by all.
    pub blocks_ahead: usize,
    /// Seed of what falls into which block.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Played {
    /// From the first read to the last verdict, nanoseconds.
    pub took_ns: f64,
    /// Packets served in a second.
    pub packets_per_s: f64,
    /// Share of the time in which somebody read.
    pub reading: f64,
    /// Share of the time in which somebody was at the board.
    pub board: f64,
    /// Share of the time in which the busiest worker served.
    pub busiest: f64,
}

/// Plays a run of as many workers as there are shards.
#[must_use]
pub fn play(costs: &Costs, shards: &Shards, setup: &Setup) -> Played {
    if shards.packets.len() == 1 {
        return alone(costs, shards, setup);
    }
    let mut play = Play::new(costs, shards, setup);
    while let Some(event) = play.agenda.pop() {
        play.now = event.at;
        match event.what {
            What::Look => play.look(event.worker),
            What::HasRead => play.has_read(event.worker),
            What::Leave(block) => play.leave(event.worker, block),
        }
    }
    play.outcome()
}

/// A single worker reads for itself, and shares nothing.
fn alone(costs: &Costs, shards: &Shards, setup: &Setup) -> Played {
    let batch = setup.alone_packets.max(1) as f64;
    let batch_ns = costs.serve_ns(batch, batch * shards.flows_per_packet[0]);
    let packet_ns = costs.read_ns + batch_ns / batch;
    Played {
        took_ns: (setup.blocks * setup.block_packets) as f64 * packet_ns,
        packets_per_s: 1e9 / packet_ns,
        reading: costs.read_ns / packet_ns,
        board: 0.0,
        busiest: 1.0 - costs.read_ns / packet_ns,
    }
}

/// What a worker does next.
#[derive(Clone, Copy, Debug)]
enum What {
    /// Looks at the board for its next part, or for something to read.
    Look,
    /// Has read a block.
    HasRead,
    /// Leaves the parts of a block.
    Leave(usize),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    at: f64,
    /// Tells events of one time apart.
    number: u64,
    worker: usize,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest event is the greatest, because that is what a heap gives first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.total_cmp(&self.at).then(other.number.cmp(&self.number))
    }
}

/// A worker's parts: those of the next block and later ones, `None` while one is being made.
#[derive(Clone, Debug, Default)]
struct Queue {
    next: usize,
    parts: VecDeque<Option<u32>>,
    asleep: bool,
    served_ns: f64,
}

struct Play<'a> {
    costs: &'a Costs,
    shards: &'a Shards,
    setup: &'a Setup,
    /// Running sums of the shares, to draw a packet's worker from.
    sums: Vec<f64>,
    draws: Random,
    agenda: BinaryHeap<Event>,
    events: u64,
    now: f64,
    queues: Vec<Queue>,
    blocks: usize,
    is_reading: bool,
    /// When the board is free again.
    board_free: f64,
    board_ns: f64,
    reading_ns: f64,
    end: f64,
}

impl<'a> Play<'a> {
    fn new(costs: &'a Costs, shards: &'a Shards, setup: &'a Setup) -> Self {
        let mut sum = 0.0;
        let add = |share: &f64| {
            sum += share;
            sum
        };
        let mut play = Self {
            costs,
            shards,
            setup,
            sums: shards.packets.iter().map(add).collect(),
            draws: Random::new(&[setup.seed, shards.packets.len() as u64]),
            agenda: BinaryHeap::new(),
            events: 0,
            now: 0.0,
            queues: vec![Queue::default(); shards.packets.len()],
            blocks: 0,
            is_reading: false,
            board_free: 0.0,
            board_ns: 0.0,
            reading_ns: 0.0,
            end: 0.0,
        };
        (0..play.queues.len()).for_each(|worker| play.plan(0.0, worker, What::Look));
        play
    }

    fn plan(&mut self, at: f64, worker: usize, what: What) {
        self.events += 1;
        self.agenda.push(Event { at, number: self.events, worker, what });
    }

    /// Waits for the board, and stays there; when it is left.
    fn visit_board(&mut self, ns: f64) -> f64 {
        let start = self.board_free.max(self.now);
        self.board_free = start + ns;
        self.board_ns += ns;
        self.board_free
    }

    fn look(&mut self, worker: usize) {
        let left = self.visit_board(self.costs.hand_ns / 2.0);
        let before = self.queues[worker].next;
        let part = self.queues[worker].take();
        if self.queues[worker].next != before {
            self.wake_all(left); // There may be room to read again.
        }
        if let Some(packets) = part {
            let packets = f64::from(packets);
            let flows = packets * self.shards.flows_per_packet[worker];
            let ns = self.costs.serve_ns(packets, flows);
            self.queues[worker].served_ns += ns;
            self.end = self.end.max(left + ns);
            self.plan(left + ns, worker, What::Look);
        } else if self.may_read() {
            self.is_reading = true;
            let ns = self.setup.block_packets as f64 * self.costs.read_ns;
            self.reading_ns += ns;
            self.plan(left + ns, worker, What::HasRead);
        } else {
            self.queues[worker].asleep = self.queues[worker].next < self.setup.blocks;
        }
    }

    fn may_read(&self) -> bool {
        let behind = self.queues.iter().map(|queue| queue.next).min().unwrap_or(0);
        let room = self.setup.blocks_ahead * self.queues.len();
        !self.is_reading && self.blocks < self.setup.blocks && self.blocks - behind < room
    }

    fn has_read(&mut self, worker: usize) {
        let left = self.visit_board(self.costs.hand_ns / 2.0);
        let block = self.blocks;
        self.blocks += 1;
        self.is_reading = false;
        self.wake_all(left);
        let parted = left + self.setup.block_packets as f64 * self.costs.part_ns;
        self.plan(parted, worker, What::Leave(block));
    }

    fn leave(&mut self, worker: usize, block: usize) {
        let count = self.queues.len();
        let left = self.visit_board(self.costs.hand_ns / 2.0 * count as f64);
        let mut parts = vec![0; count];
        for _ in 0..self.setup.block_packets {
            let at = self.draws.share();
            parts[self.sums.partition_point(|&sum| sum <= at).min(count - 1)] += 1;
        }
        for (queue, packets) in self.queues.iter_mut().zip(parts) {
            queue.put(block, packets);
        }
        self.wake_all(left);
        self.plan(left, worker, What::Look);
    }

    fn wake_all(&mut self, at: f64) {
        for worker in 0..self.queues.len() {
            if std::mem::take(&mut self.queues[worker].asleep) {
                self.plan(at + self.costs.wake_ns, worker, What::Look);
            }
        }
    }

    fn outcome(&self) -> Played {
        let packets = (self.setup.blocks * self.setup.block_packets) as f64;
        let busiest = self.queues.iter().map(|queue| queue.served_ns).fold(0.0, f64::max);
        Played {
            took_ns: self.end,
            packets_per_s: packets / self.end * 1e9,
            reading: self.reading_ns / self.end,
            board: self.board_ns / self.end,
            busiest: busiest / self.end,
        }
    }
}

impl Queue {
    fn put(&mut self, block: usize, packets: u32) {
        let at = block - self.next;
        if self.parts.len() <= at {
            self.parts.resize(at + 1, None);
        }
        self.parts[at] = Some(packets);
    }

    /// The packets of the next part that has any, if it is there.
    fn take(&mut self) -> Option<u32> {
        while let Some(&Some(packets)) = self.parts.front() {
            self.parts.pop_front();
            self.next += 1;
            if packets > 0 {
                return Some(packets);
            }
        }
        None
    }
}
