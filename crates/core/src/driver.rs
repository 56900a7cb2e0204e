//! The engine's protocol, once: packets in, jobs to their lanes and back, verdicts out.
//!
//! ```text
//! serve   push -> advance -> pump          for each batch of packets
//! pump    submit -> collect -> resolve     until nothing moves without waiting
//! finish  end open flows -> pump           until every flow has its verdict
//! drain   verdicts                         whenever the caller wants them
//! ```
//!
//! A driver holds nothing but what it is lent, so that one may be made for each batch. It reads no
//! clock and never sleeps: who has a clock hands it in, and so does who would rather sleep than
//! look again while a lane is busy.

use crate::engine::{End, Engine};
use crate::lane::{Lane, NoLane};
use crate::packet::Packet;
use crate::verdict::Verdict;
use std::fmt;

/// What is done about a lane that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// Waits for room, and so does the source: nothing is lost if its packets can wait, as a
    /// capture's can.
    Wait,
    /// Goes on, and the best answer so far stands for the flows that found no room: packets that
    /// come by themselves do not wait.
    Shed,
}

/// An engine and its lanes, driven.
///
/// ```
/// use serveflow_core::driver::Driver;
/// use serveflow_core::engine::{End, Engine};
/// use serveflow_core::lane::Lane;
/// use serveflow_core::packet::Packet;
///
/// /// The labels of all flows of some packets, by index; none where no model scored the flow.
/// fn labels<'a>(
///     engine: &mut Engine,
///     lanes: &mut [Box<dyn Lane>],
///     packets: impl Iterator<Item = Packet<'a>>,
/// ) -> Vec<Option<u16>> {
///     let mut driver = Driver::new(engine, lanes);
///     driver.serve(packets);
///     driver.finish(End::Silence);
///     driver.drain().map(|verdict| verdict.answer.map(|answer| answer.label)).collect()
/// }
/// ```
pub struct Driver<'a> {
    /// Takes the packets.
    pub engine: &'a mut Engine,
    /// Where stages are scored, by lane index: those of each cascade stand together.
    pub lanes: &'a mut [Box<dyn Lane>],
    wall: Option<&'a mut (dyn FnMut() -> u64 + 'a)>,
    rest: fn(u32),
    when_full: WhenFull,
}

impl fmt::Debug for Driver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("when_full", &self.when_full).finish_non_exhaustive()
    }
}

impl<'a> Driver<'a> {
    /// A driver that waits for lanes that are full, without a clock.
    #[must_use]
    pub fn new(engine: &'a mut Engine, lanes: &'a mut [Box<dyn Lane>]) -> Self {
        let rest = |_| std::hint::spin_loop();
        Self { engine, lanes, wall: None, rest, when_full: WhenFull::Wait }
    }

    /// The same with wall time, nanoseconds from any fixed start: verdicts then say how long their
    /// models took. It is read a few times a batch.
    #[must_use]
    pub fn with_wall(self, wall: &'a mut (dyn FnMut() -> u64 + 'a)) -> Self {
        Self { wall: Some(wall), ..self }
    }

    /// The same, but each turn of waiting for a lane calls this, with the number of the turn, from
    /// 1: it may sleep.
    #[must_use]
    pub fn with_rest(self, rest: fn(u32)) -> Self {
        Self { rest, ..self }
    }

    /// The same, but this is done about a lane that is full.
    #[must_use]
    pub fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// Takes packets, in the order of their times, and lets lanes score what they lead to.
    #[inline]
    pub fn serve<'p>(&mut self, packets: impl IntoIterator<Item = Packet<'p>>) {
        self.begin();
        self.take(packets);
    }

    /// Begins a batch: what the engine is to know of it comes between this and [`Self::take`].
    pub fn begin(&mut self) {
        if let Some(wall) = &mut self.wall {
            self.engine.set_wall(wall());
        }
    }

    /// The packets of a batch that was begun.
    #[inline]
    pub fn take<'p>(&mut self, packets: impl IntoIterator<Item = Packet<'p>>) {
        self.engine.push_all(packets);
        self.engine.advance();
        self.pump();
    }

    /// The same, with what a clock says that saw all packets, of which these are a share.
    #[inline]
    pub fn take_at<'p>(&mut self, packets: impl IntoIterator<Item = (Packet<'p>, u64)>) {
        self.engine.push_all_at(packets);
        self.engine.advance();
        self.pump();
    }

    /// Hands out jobs and takes answers until nothing moves any more without waiting; and waits, if
    /// it should, until every job is with a lane. Without packets, call it to take the answers of
    /// lanes that score beside this thread.
    pub fn pump(&mut self) {
        let mut turns = 0;
        loop {
            let all_out = self.submit();
            // Models that score on the spot took their time in between.
            self.begin();
            self.engine.collect(self.lanes);
            if !self.engine.has_work() {
                return;
            }
            if all_out {
                turns = 0;
            } else {
                self.wait(&mut turns);
            }
        }
    }

    /// The verdicts since the last call.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Verdict> {
        self.engine.drain_verdicts()
    }

    /// Gives every open flow its verdict, and waits for lanes until it has.
    pub fn finish(&mut self, end: End) {
        let done: Result<(), std::convert::Infallible> =
            self.finish_in_parts(end, usize::MAX, |_| Ok(()));
        done.unwrap_or_else(|never| match never {});
    }

    /// The same, so many flows at a time; `each` may take the verdicts of each part.
    ///
    /// # Errors
    /// Where `each` fails, which ends it at once.
    pub fn finish_in_parts<E>(
        &mut self,
        end: End,
        most_flows: usize,
        mut each: impl FnMut(&mut Engine) -> Result<(), E>,
    ) -> Result<(), E> {
        let open = self.engine.flows_in_table();
        for flows in open.chunks(most_flows.max(1)) {
            self.begin();
            self.engine.finish_some(flows, end);
            self.pump();
            each(self.engine)?;
        }
        self.begin();
        self.pump();
        let mut turns = 0;
        while self.engine.is_asking() {
            self.wait(&mut turns);
            self.pump();
            each(self.engine)?;
        }
        each(self.engine)
    }

    /// Hands out jobs; false if one of them waits for room.
    fn submit(&mut self) -> bool {
        match self.when_full {
            WhenFull::Wait => self.engine.submit_or_keep(self.lanes),
            WhenFull::Shed => {
                self.engine.submit(self.lanes);
                true
            }
        }
    }

    /// A turn of waiting for a lane. Where one says that its jobs need not be waited for any
    /// longer, all lanes are left, and the best answer so far stands for every flow that is asked.
    fn wait(&mut self, turns: &mut u32) {
        *turns = turns.saturating_add(1);
        (self.rest)(*turns);
        if self.lanes.iter().any(|lane| lane.is_given_up()) {
            self.engine.abandon();
            // What they still give back means nothing to the engine.
            self.lanes.iter_mut().for_each(|lane| *lane = Box::new(NoLane));
        }
    }
}
