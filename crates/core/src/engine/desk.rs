//! The desk: jobs being filled, jobs to be submitted, and empty ones to be used again.

use crate::engine::Cascade;
use crate::lane::Job;
use crate::rows::{Rows, Scores};
use std::collections::VecDeque;

// Jobs wander between these lists and the lanes: boxed, they move as one word.
#[allow(clippy::vec_box)]
#[derive(Debug)]
pub(super) struct Desk {
    /// The job that each stage fills.
    open: Vec<Box<Job>>,
    ready: VecDeque<Box<Job>>,
    spare: Vec<Vec<Box<Job>>>,
    /// Jobs that are with a lane.
    out: usize,
    /// Rows after which a job is submitted.
    batch: usize,
}

impl Desk {
    pub(super) fn new(cascade: &Cascade, batch: usize) -> Self {
        let empty = |(stage, _)| empty_job(cascade, stage, batch);
        Self {
            open: cascade.stages().iter().enumerate().map(empty).collect(),
            ready: VecDeque::new(),
            spare: cascade.stages().iter().map(|_| Vec::new()).collect(),
            out: 0,
            batch: batch.max(1),
        }
    }

    /// The open job of a stage, to add a row to.
    pub(super) fn open(&mut self, stage: usize) -> &mut Job {
        &mut self.open[stage]
    }

    /// Moves a stage's job on when it is full.
    pub(super) fn close_if_full(&mut self, cascade: &Cascade, stage: usize) {
        if self.open[stage].tickets.len() >= self.batch {
            self.close(cascade, stage);
        }
    }

    /// Moves every job on that has a row.
    pub(super) fn close_all(&mut self, cascade: &Cascade) {
        for stage in 0..self.open.len() {
            if !self.open[stage].tickets.is_empty() {
                self.close(cascade, stage);
            }
        }
    }

    fn close(&mut self, cascade: &Cascade, stage: usize) {
        let fresh = self.spare[stage].pop();
        let fresh = fresh.unwrap_or_else(|| empty_job(cascade, stage, self.batch));
        self.ready.push_back(std::mem::replace(&mut self.open[stage], fresh));
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
        job.rows.clear();
        job.failed = false;
        self.spare[job.stage].push(job);
    }
}

fn empty_job(cascade: &Cascade, stage: usize, batch: usize) -> Box<Job> {
    Box::new(Job {
        stage,
        tickets: Vec::with_capacity(batch),
        flows: Vec::with_capacity(batch),
        rows: Rows::with_capacity(cascade.stages()[stage].features.shape(), batch),
        scores: Scores::default(),
        failed: false,
    })
}
