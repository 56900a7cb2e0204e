//! The plans that flows go by: the one that new flows get, and earlier ones until their last flow
//! is decided.
//!
//! A flow keeps the plan that it began with: what it was told of an early stage means nothing to
//! another cascade. So a change of plans is a new plan beside the old ones, and no flow notices.

use super::Cascade;
use super::batcher::Batcher;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

/// The most plans at a time.
pub const MOST_PLANS: usize = 8;

/// A cascade, and what is on its way through it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) cascade: Arc<Cascade>,
    pub(super) desk: Batcher,
    /// Flows that are waiting or asked.
    pub(super) undecided: u64,
    /// Index of the first of its lanes among those of all plans.
    pub(super) first_lane: usize,
}

/// Plans by their number.
#[derive(Debug)]
pub(super) struct Plans {
    all: Vec<Plan>,
    current: u8,
    batch: usize,
}

impl Index<u8> for Plans {
    type Output = Plan;
    #[inline]
    fn index(&self, plan: u8) -> &Plan {
        &self.all[usize::from(plan)]
    }
}

impl IndexMut<u8> for Plans {
    #[inline]
    fn index_mut(&mut self, plan: u8) -> &mut Plan {
        &mut self.all[usize::from(plan)]
    }
}

impl Plans {
    /// One plan; its jobs have at most `batch` rows.
    pub(super) fn new(cascade: Arc<Cascade>, batch: usize) -> Self {
        let mut plans = Self { all: Vec::new(), current: 0, batch };
        plans.put(0, cascade, 0);
        plans
    }

    /// Number of the plan that new flows get.
    #[inline]
    pub(super) fn current(&self) -> u8 {
        self.current
    }

    /// How many plans have numbers, those that nobody goes by any more among them.
    pub(super) fn len(&self) -> u8 {
        self.all.len() as u8
    }

    /// A number that no flow goes by; `None` when there is none.
    pub(super) fn free(&self) -> Option<u8> {
        let is_free = |plan: u8| plan != self.current && self[plan].undecided == 0;
        let unused = (self.all.len() < MOST_PLANS).then_some(self.len());
        (0..self.len()).find(|&plan| is_free(plan)).or(unused)
    }

    /// Gives new flows another plan, under a number that is free.
    pub(super) fn put(&mut self, number: u8, cascade: Arc<Cascade>, first_lane: usize) {
        let desk = Batcher::new(&cascade, self.batch, number);
        let plan = Plan { cascade, desk, undecided: 0, first_lane };
        match self.all.get_mut(usize::from(number)) {
            Some(place) => *place = plan,
            None => self.all.push(plan),
        }
        self.current = number;
    }

    /// Jobs that are with a lane.
    pub(super) fn jobs_out(&self) -> usize {
        self.all.iter().map(|plan| plan.desk.jobs_out()).sum()
    }

    /// Forgets every job, those with a lane included.
    pub(super) fn forget_jobs(&mut self) {
        let batch = self.batch;
        for (plan, number) in self.all.iter_mut().zip(0..) {
            plan.desk = Batcher::new(&plan.cascade, batch, number);
        }
    }

    /// Whether any job waits to be submitted.
    pub(super) fn has_work(&self) -> bool {
        self.all.iter().any(|plan| plan.desk.has_work())
    }
}
