//! The desk: jobs being filled, jobs to be submitted, and empty ones to be used again.
//!
//! A flow that asks leaves its record's place, and rows are encoded when a job is closed: what a
//! record holds while its flow is asked never changes, and many records' memory arrives together.

use crate::deferral::FlowFacts;
use crate::engine::{AHEAD, Cascade};
use crate::features::Features;
use crate::lane::Job;
use crate::record::{NONE, PacketPool};
use crate::rows::{Rows, Scores};
use std::collections::VecDeque;

/// A flow that asks, as its row needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchRequest {
    pub(super) ticket: u32,
    /// Number of the flow.
    pub(super) flow: u64,
    /// Cell of the last packet that the stage sees, and how many it sees.
    pub(super) last: u32,
    pub(super) packets: u16,
    /// What a learned gate is to know of it.
    pub(super) facts: FlowFacts,
}

// Jobs wander between these lists and the lanes: boxed, they move as one word.
#[allow(clippy::vec_box)]
#[derive(Debug)]
pub(super) struct Batcher {
    /// The job that each stage fills, and the records of its rows.
    open: Vec<Box<Job>>,
    records: Vec<Vec<(u32, u16)>>,
    /// The cells of some records, one record behind the other.
    cells: Vec<u32>,
    ready: VecDeque<Box<Job>>,
    spare: Vec<Vec<Box<Job>>>,
    /// Jobs that are with a lane.
    out: usize,
    /// Rows after which a job is submitted.
    batch: usize,
    /// Number of the plan whose jobs these are.
    plan: u8,
}

impl Batcher {
    pub(super) fn new(cascade: &Cascade, batch: usize, plan: u8) -> Self {
        let empty = |(stage, _)| empty_job(cascade, stage, batch, plan);
        Self {
            open: cascade.stages().iter().enumerate().map(empty).collect(),
            records: cascade.stages().iter().map(|_| Vec::with_capacity(batch)).collect(),
            cells: Vec::new(),
            ready: VecDeque::new(),
            spare: cascade.stages().iter().map(|_| Vec::new()).collect(),
            out: 0,
            batch: batch.max(1),
            plan,
        }
    }

    /// Adds a flow to a stage's open job, which moves on when it is full.
    pub(super) fn ask(
        &mut self,
        cascade: &Cascade,
        pool: &PacketPool,
        stage: usize,
        flow: BatchRequest,
    ) {
        let job = &mut self.open[stage];
        job.tickets.push(flow.ticket);
        job.flows.push(flow.flow);
        job.facts.push(flow.facts);
        self.records[stage].push((flow.last, flow.packets));
        if job.tickets.len() >= self.batch {
            self.close(cascade, pool, stage);
        }
    }

    /// Moves the job of the first stage on that has a row. The others stay open for the flows that
    /// this one will pass on: few and full jobs are the cheapest.
    pub(super) fn close_first(&mut self, cascade: &Cascade, pool: &PacketPool) {
        let first = self.open.iter().position(|job| !job.tickets.is_empty());
        if let Some(stage) = first {
            self.close(cascade, pool, stage);
        }
    }

    fn close(&mut self, cascade: &Cascade, pool: &PacketPool, stage: usize) {
        let fresh = self.spare[stage].pop();
        let fresh = fresh.unwrap_or_else(|| empty_job(cascade, stage, self.batch, self.plan));
        let mut job = std::mem::replace(&mut self.open[stage], fresh);
        let records = &mut self.records[stage];
        encode(&cascade.stages()[stage].features, pool, records, &mut self.cells, &mut job.rows);
        records.clear();
        self.ready.push_back(job);
    }

    pub(super) fn next_ready(&mut self) -> Option<Box<Job>> {
        self.ready.pop_front()
    }

    /// Puts a job that was refused back to the front.
    pub(super) fn put_back(&mut self, job: Box<Job>) {
        self.ready.push_front(job);
    }

    /// Jobs that are with a lane.
    pub(super) fn jobs_out(&self) -> usize {
        self.out
    }

    /// A lane took a job.
    pub(super) fn note_out(&mut self) {
        self.out += 1;
    }

    /// A lane gave a job back. Whoever drives the engine may hand in jobs that no lane took.
    pub(super) fn note_back(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// Whether any row waits to be submitted.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.open.iter().any(|job| !job.tickets.is_empty())
    }

    /// Takes a job back for reuse.
    pub(super) fn give_back(&mut self, mut job: Box<Job>) {
        job.tickets.clear();
        job.flows.clear();
        job.facts.clear();
        job.rows.clear();
        job.failed = false;
        self.spare[job.stage].push(job);
    }
}

fn empty_job(cascade: &Cascade, stage: usize, batch: usize, plan: u8) -> Box<Job> {
    Box::new(Job {
        stage,
        plan,
        tickets: Vec::with_capacity(batch),
        flows: Vec::with_capacity(batch),
        facts: Vec::with_capacity(batch),
        rows: Rows::with_capacity(cascade.stages()[stage].features.shape(), batch),
        scores: Scores::default(),
        failed: false,
    })
}

/// Encodes the rows of these records, given by last cell and length.
fn encode(
    features: &Features,
    pool: &PacketPool,
    records: &[(u32, u16)],
    cells: &mut Vec<u32>,
    rows: &mut Rows,
) {
    for group in records.chunks(AHEAD) {
        let longest = group.iter().map(|record| usize::from(record.1)).max().unwrap_or(0);
        cells.clear();
        cells.resize(group.len() * longest, NONE);
        let mut at = [NONE; AHEAD];
        at.iter_mut().zip(group).for_each(|(at, record)| *at = record.0);
        // Chains are followed side by side: one after the other, each link would be waited for.
        for step in 1..=longest {
            let own = cells.chunks_exact_mut(longest).zip(group).zip(&mut at);
            for ((cells, _), at) in own.filter(|((_, record), _)| step <= usize::from(record.1)) {
                cells[longest - step] = *at;
                *at = pool.touch(*at);
            }
        }
        for (index, &(_, packets)) in group.iter().enumerate() {
            let end = (index + 1) * longest;
            features.encode(&pool.record(&cells[end - usize::from(packets)..end]), rows);
        }
    }
}
