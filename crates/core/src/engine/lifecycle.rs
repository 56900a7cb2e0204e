//! A flow's way: waiting, asked, done.

use super::batcher::BatchRequest;
use super::pending::{Pending, RecordEnd};
use super::{AHEAD, Cascade, End, Engine};
use crate::deferral::FlowFacts;
use crate::gate::{Gate, best_class};
use crate::lane::Job;
use crate::record::{NONE, PacketMeta};
use crate::table::{DECIDED, Entry};
use crate::verdict::{Answer, Reason, Verdict};
use std::hint::black_box;

/// When the wait for a flow's present stage is over.
fn deadline(cascade: &Cascade, pending: &Pending) -> u64 {
    pending.first_at.saturating_add(cascade.want(pending.stage).wait_ns)
}

/// A question to be put to a stage.
struct Question {
    packets: u16,
    /// Why there are fewer packets than the stage wants.
    short: Option<Reason>,
    at: u64,
}

/// What a learned gate is to know of a flow, beside its row.
fn facts(
    entry: &Entry,
    first_at: u64,
    question: &Question,
    last: Option<&PacketMeta>,
) -> FlowFacts {
    let last = last.copied().unwrap_or_default();
    let elapsed_us = question.at.saturating_sub(first_at) / 1_000;
    FlowFacts {
        packets: question.packets,
        short: question.short.is_some(),
        proto: entry.key().proto(),
        size: last.size,
        payload: last.payload,
        flags: last.flags,
        backward: last.backward,
        elapsed_us: u32::try_from(elapsed_us).unwrap_or(u32::MAX),
    }
}

impl Engine {
    /// Ends every flow. Submit and collect until nothing is asked to get the last verdicts.
    pub fn finish(&mut self, end: End) {
        let all = self.flows_in_table();
        self.finish_some(&all, end);
    }

    /// Numbers of the flows in the table, oldest first, for [`Self::finish_some`].
    #[must_use]
    pub fn flows_in_table(&self) -> Vec<u32> {
        self.table.all()
    }

    /// Ends some of the flows of [`Self::flows_in_table`]: a table is ended part by part, so that
    /// not all of its rows and verdicts are in memory at a time. Between two parts no packet may
    /// come and no time may pass.
    pub fn finish_some(&mut self, flows: &[u32], end: End) {
        let now = match end {
            End::Stop => self.clock.now_ns(),
            End::Silence => u64::MAX,
        };
        self.end_these(flows, now);
    }

    pub(super) fn end_these(&mut self, flows: &[u32], now: u64) {
        for &id in flows {
            self.end_flow(id, Reason::Ended, now);
        }
    }

    /// Ends a flow, no packet finds it any more: for `reason` now, unless its time had passed
    /// before. The wheels find that a little late, and whoever comes first must tell the same.
    pub(super) fn end_flow(&mut self, id: u32, reason: Reason, now: u64) -> RecordEnd {
        let entry = &self.table[id];
        let leaves_at = entry.leaves_at(&self.config.flows);
        let cut = if leaves_at < now {
            RecordEnd::new(Reason::Ended, leaves_at)
        } else {
            RecordEnd::new(reason, now.max(entry.last_at))
        };
        let ticket = entry.pending;
        self.table.detach(id);
        if ticket == DECIDED {
            self.table.free(id);
        } else {
            self.cut(ticket, cut);
            self.step(ticket, cut.at);
        }
        cut
    }

    /// Closes a flow's record; the first cut stands, and a window's end that was not told before.
    pub(super) fn cut(&mut self, ticket: u32, cut: RecordEnd) {
        let pending = &mut self.room[ticket];
        let window_end = pending.window_end;
        let is_over = window_end <= cut.at && window_end < u64::MAX;
        let cut = if is_over { Self::end_of_window(window_end) } else { cut };
        pending.cut.get_or_insert(cut);
    }

    fn end_of_window(at: u64) -> RecordEnd {
        RecordEnd { is_window: true, ..RecordEnd::new(Reason::Ended, at) }
    }

    /// The entry of a packet of the flow that arrived at `at`: that of its next window, if it lies
    /// behind the window of the packet before. Kept out of the way of flows that are whole.
    #[inline(never)]
    pub(super) fn in_window(&mut self, id: u32, at: u64) -> u32 {
        let entry = &self.table[id];
        let end = entry.window_end(entry.last_at, self.config.flows.window_ns);
        if entry.is_closed() || at < end { id } else { self.next_window(id, at) }
    }

    /// Begins the flow's next window, with a packet that arrived at `at`; the entry of it.
    fn next_window(&mut self, id: u32, at: u64) -> u32 {
        let entry = self.table[id];
        let ticket = self.begin_sample(at, entry.window_end(at, self.config.flows.window_ns));
        let (before, now) = (entry.pending, self.clock.now_ns());
        let id = if before == DECIDED {
            self.table[id].pending = ticket;
            id
        } else {
            // The window before keeps its entry until its verdict.
            self.table.detach(id);
            let window_end = self.room[before].window_end;
            self.cut(before, Self::end_of_window(window_end));
            self.step(before, window_end);
            self.table.add_again(&entry, now, ticket)
        };
        self.room[ticket].entry = id;
        id
    }

    /// Counts a flow, or a window of one, and gives it a place to wait in.
    pub(super) fn begin_sample(&mut self, at: u64, window_end: u64) -> u32 {
        let seen = self.accounts.flows.seen;
        let plan = self.plans.current();
        let ticket = self.room.add(self.config.first_flow + seen * self.config.flow_step, plan);
        self.plans[plan].undecided += 1;
        self.accounts.flows.seen += 1;
        self.accounts.flows.collecting += 1;
        let pending = &mut self.room[ticket];
        (pending.first_at, pending.window_end) = (at, window_end);
        ticket
    }

    /// Ends the flows whose time has passed.
    pub(super) fn pass_leaving(&mut self, now: u64) {
        let mut taken = std::mem::take(&mut self.taken);
        while self.table.take_leaving(now, &mut taken) {
            for ids in taken.chunks(AHEAD) {
                black_box(self.table.touch_all(ids));
                for &id in ids {
                    if self.table.is_leaving(id, now) {
                        self.end_flow(id, Reason::Ended, now);
                    }
                }
            }
            taken.clear();
        }
        self.taken = taken;
    }

    /// Asks the flows whose deadline has passed.
    pub(super) fn pass_deadlines(&mut self, now: u64) {
        let mut taken = std::mem::take(&mut self.taken);
        while self.room.take_due(now, &mut taken) {
            for tickets in taken.chunks(AHEAD) {
                let tails = tickets.iter().map(|&ticket| self.room[ticket].tail);
                let touched = tails.filter(|&tail| tail != NONE).map(|tail| self.pool.touch(tail));
                black_box(touched.fold(0, |all, one| all | one));
                for &ticket in tickets {
                    self.pass_deadline(ticket, now);
                }
            }
            taken.clear();
        }
        self.taken = taken;
    }

    /// Asks a flow whose deadline has passed.
    fn pass_deadline(&mut self, ticket: u32, now: u64) {
        self.room.waits_no_more(ticket);
        let id = self.room[ticket].entry;
        if self.table[id].leaves_at(&self.config.flows) < now {
            self.end_flow(id, Reason::Ended, now);
        } else {
            self.step(ticket, now);
        }
    }

    /// Takes a waiting flow as far as it goes: a question to its stage, or a wait.
    pub(super) fn step(&mut self, ticket: u32, now: u64) {
        let mut pending = self.room[ticket];
        if pending.is_asked() {
            return;
        }
        let cascade = &self.plans[pending.plan].cascade;
        if pending.waits_on(cascade.want(pending.stage), now) {
            return;
        }
        if pending.cut.is_none() && pending.window_end <= now && pending.window_end < u64::MAX {
            pending.cut = Some(Self::end_of_window(pending.window_end));
            self.room[ticket].cut = pending.cut;
        }
        if pending.count == 0 && pending.cut.is_some() {
            // Not even the first packet found room: there is nothing to ask with.
            self.decide(ticket, Reason::Shed, pending.cut.map_or(now, |cut| cut.at));
            return;
        }
        let deadline = deadline(&self.plans[pending.plan].cascade, &pending);
        match self.question(&pending, deadline, now) {
            Some(question) => self.ask(ticket, &question),
            None => {
                let until = deadline.min(pending.window_end);
                self.room.wait_until(ticket, until, self.clock.now_ns());
            }
        }
    }

    /// What a flow asks its stage, if it need not wait any longer.
    fn question(&self, pending: &Pending, deadline: u64, now: u64) -> Option<Question> {
        let want = self.plans[pending.plan].cascade.want(pending.stage);
        let wanted = want.packets;
        let packets = self.in_time(pending, deadline).min(wanted);
        if packets == wanted {
            let at = self.last_of(pending, packets).map_or(now, |(_, last)| last.at_ns);
            return Some(Question { packets, short: None, at });
        }
        let late = Question { packets, short: Some(Reason::TimedOut), at: deadline };
        match pending.cut {
            Some(cut) if cut.at <= deadline => {
                let is_due = want.window && cut.is_window;
                Some(Question { packets, short: (!is_due).then_some(cut.reason), at: cut.at })
            }
            Some(_) => Some(late),
            None => (now > deadline || pending.tail_at > deadline).then_some(late),
        }
    }

    /// The last of a flow's first `packets` packets.
    fn last_of(&self, pending: &Pending, packets: u16) -> Option<(u32, PacketMeta)> {
        if packets == 0 {
            return None;
        }
        let cell = self.pool.back(pending.tail, pending.count - packets);
        Some((cell, *self.pool.meta(cell)))
    }

    /// Recorded packets that arrived before the deadline.
    fn in_time(&self, pending: &Pending, deadline: u64) -> u16 {
        let (mut packets, mut cell) = (pending.count, pending.tail);
        // Packets arrive in order, and mostly all are in time.
        if pending.tail_at <= deadline {
            return packets;
        }
        while packets > 0 && self.pool.meta(cell).at_ns > deadline {
            packets -= 1;
            cell = self.pool.back(cell, 1);
        }
        packets
    }

    /// Puts a flow's features into its stage's open job.
    fn ask(&mut self, ticket: u32, question: &Question) {
        self.room.stop_waiting(ticket);
        let last = self.last_of(&self.room[ticket], question.packets);
        let pending = &mut self.room[ticket];
        pending.question_ns = last.map_or(pending.first_ns, |(_, last)| last.ts_ns);
        let stage = usize::from(pending.stage);
        pending.set_asked(true);
        pending.used = question.packets;
        pending.short = question.short;
        // A later stage is never asked before an earlier one.
        pending.asked_at = question.at.max(pending.asked_at);
        pending.asked_wall_ns = self.wall_ns;
        self.accounts.flows.collecting -= 1;
        self.accounts.flows.in_inference += 1;
        let (flow, packets, entry) = (pending.id, question.packets, pending.entry);
        let (first_at, plan) = (pending.first_at, pending.plan);
        let facts =
            facts(&self.table[entry], first_at, question, last.as_ref().map(|(_, meta)| meta));
        let last = last.map_or(NONE, |(cell, _)| cell);
        let asking = BatchRequest { ticket, flow, last, packets, facts };
        let plan = &mut self.plans[plan];
        plan.desk.ask(&plan.cascade, &self.pool, stage, asking);
    }

    /// Takes the answers of a scored job.
    pub(super) fn resolve(&mut self, job: Box<Job>) {
        let shape = (job.scores.len(), job.scores.classes());
        let cascade = &self.plans[job.plan].cascade;
        if job.failed || shape != (job.tickets.len(), cascade.labels().len()) {
            self.accounts.inference_failures += 1;
            self.give_up(job, Reason::Failed);
            return;
        }
        let learned = match cascade.stages()[job.stage].gate_at(self.degradation) {
            Gate::Learned(deferral) => {
                deferral.rule(&job.scores, &job.facts, &mut self.rulings);
                true
            }
            Gate::Uncertainty { .. } => false,
        };
        for (group, tickets) in job.tickets.chunks(AHEAD).enumerate() {
            let touched = tickets.iter().map(|&ticket| {
                let pending = &self.room[ticket];
                pending.id | self.table[pending.entry].first_at
            });
            black_box(touched.fold(0, |all, one| all | one));
            for (row, &ticket) in (group * AHEAD..).zip(tickets) {
                let learned = learned.then(|| self.rulings.rulings()[row]);
                self.answer(ticket, job.stage, job.scores.row(row), learned);
            }
        }
        self.plans[job.plan].desk.give_back(job);
    }

    /// Gives up on a job that its lane refused.
    pub(super) fn shed_job(&mut self, job: Box<Job>) {
        self.accounts.inference_shed += 1;
        self.give_up(job, Reason::Shed);
    }

    /// Gives up on a job: the best answer so far stands for each of its flows, and none where it
    /// was their first question.
    fn give_up(&mut self, job: Box<Job>, reason: Reason) {
        for &ticket in &job.tickets {
            self.give_up_flow(ticket, reason);
        }
        self.plans[job.plan].desk.give_back(job);
    }

    /// Gives up on every question that is with a lane or on its way to one: the best answer so far
    /// stands, for the reason [`Reason::Failed`]. For models that do not answer, at the very end:
    /// what lanes still give back must not be handed in any more.
    pub fn abandon(&mut self) {
        for ticket in self.room.asked() {
            self.give_up_flow(ticket, Reason::Failed);
        }
        self.plans.forget_jobs();
    }

    /// Gives up on a flow's question.
    pub(super) fn give_up_flow(&mut self, ticket: u32, reason: Reason) {
        self.unask(ticket);
        let at = self.room[ticket].asked_at;
        self.decide(ticket, reason, at);
    }

    /// Moves a flow from asked back to waiting.
    fn unask(&mut self, ticket: u32) {
        let pending = &mut self.room[ticket];
        pending.set_asked(false);
        let compute_ns = self.wall_ns.saturating_sub(pending.asked_wall_ns);
        pending.compute_ns = pending.compute_ns.saturating_add(compute_ns);
        self.accounts.flows.in_inference -= 1;
        self.accounts.flows.collecting += 1;
    }

    /// The gate: a verdict, or on to a later stage. What a learned gate ruled comes with the
    /// answer.
    fn answer(&mut self, ticket: u32, stage: usize, scores: &[f32], learned: Option<Option<u8>>) {
        self.unask(ticket);
        let (label, confidence) = best_class(scores);
        let stages = self.plans[self.room[ticket].plan].cascade.stages();
        let confidence = stages[stage].confidence.at(confidence);
        let unknown = stages[stage].unknown.is_some_and(|rule| rule.is_unknown(scores));
        let pending = &mut self.room[ticket];
        let (at, short, packets) = (pending.asked_at, pending.short, pending.used);
        let stage_index = stage as u8;
        pending.answer = Some(Answer { label, confidence, stage: stage_index, packets, unknown });
        pending.deciding_ns = pending.question_ns;
        let is_last = stage + 1 == stages.len();
        if is_last {
            self.decide(ticket, short.unwrap_or(Reason::Final), at);
            return;
        }
        let degradation = self.degradation;
        let next = learned.unwrap_or_else(|| {
            let accepts = stages[stage].gate_at(degradation).accepts(label, scores);
            (!accepts).then_some(stage as u8 + 1)
        });
        let Some(next) = next else {
            self.decide(ticket, short.unwrap_or(Reason::Accepted), at);
            return;
        };
        if self.config.provisional {
            self.tell(ticket, Reason::Provisional, at, false);
        }
        self.room[ticket].stage = next;
        self.step(ticket, at);
    }

    /// Gives a flow its final verdict and frees what it held.
    fn decide(&mut self, ticket: u32, reason: Reason, at: u64) {
        self.tell(ticket, reason, at, true);
        self.accounts.flows.collecting -= 1;
        self.accounts.flows.verdicts[reason as usize] += 1;
        let pending = self.room[ticket];
        self.plans[pending.plan].undecided -= 1;
        self.pool.give_back(pending.tail, usize::from(pending.count));
        self.room.remove(ticket);
        self.table.set_decided(pending.entry);
        if self.table[pending.entry].is_detached() {
            self.table.free(pending.entry);
        }
    }

    /// Emits a verdict.
    fn tell(&mut self, ticket: u32, reason: Reason, at: u64, is_final: bool) {
        let pending = &self.room[ticket];
        let entry = &self.table[pending.entry];
        let first_ns = if pending.count > 0 { pending.first_ns } else { pending.first_at };
        let deciding_ns = match pending.answer {
            Some(_) => pending.deciding_ns,
            None => self.last_of(pending, pending.count).map_or(first_ns, |(_, last)| last.ts_ns),
        };
        self.verdicts.push(Verdict {
            id: pending.id,
            plan: pending.plan,
            flow: entry.key().five_tuple(entry.source_is_low()),
            answer: pending.answer,
            reason,
            is_final,
            first_ns,
            deciding_ns,
            collection_ns: at.saturating_sub(pending.first_at),
            compute_ns: pending.compute_ns,
        });
    }
}
