//! The engine: packets and scored jobs go in, jobs and verdicts come out.
//!
//! What a stage sees of a flow is a function of the flow's packets and their times alone, never of
//! when the engine was called: a stage gets the flow's first packets, up to its depth, that came
//! before its deadline and before the flow ended. So batches, lanes and shards change no verdict.

mod admit;
mod batcher;
mod cascade;
mod cascades;
mod config;
mod lifecycle;
mod pending;
mod time;

pub use cascade::{Cascade, CascadeError, Stage};
pub use cascades::MOST_PLANS;
pub use config::EngineConfig;

pub use crate::prealloc::Shortage;

use crate::clock::Clock;
use crate::counters::Counters;
use crate::deferral::RulingBuffers;
use crate::features::layout::HeaderLayout;
use crate::lane::{Job, Lane};
use crate::packet::Packet;
use crate::parse::{self, Parsed, Reject};
use crate::prealloc::reserve;
use crate::record::{PacketMeta, PacketPool};
use crate::select::Selection;
use crate::table::{DECIDED, FlowTable, NO_WINDOW, Opening, Tag};
use crate::verdict::{Reason, Verdict};
use cascades::Plans;
use pending::{PendingTable, RecordEnd};
use std::hint::black_box;
use std::sync::Arc;

/// How the input ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A capture is over: what follows is taken to be silence, so every deadline and timeout runs
    /// out as it would on the wire.
    Silence,
    /// The engine is stopped: flows are asked at once with what they have.
    Stop,
}

/// Groups packets into flows and takes each flow through the cascade.
#[derive(Debug)]
pub struct Engine {
    plans: Plans,
    config: EngineConfig,
    selection: Option<Arc<Selection>>,
    table: FlowTable,
    room: PendingTable,
    pool: PacketPool,
    clock: Clock,
    wall_ns: u64,
    /// How far gates are loosened.
    degradation: u8,
    accounts: Counters,
    verdicts: Vec<Verdict>,
    /// What a learned gate ruled on a job's flows.
    rulings: RulingBuffers,
    /// Flows whose time has passed, between finding and ending or asking them.
    taken: Vec<u32>,
}

impl Engine {
    /// An empty engine.
    #[must_use]
    pub fn new(cascade: Arc<Cascade>, mut config: EngineConfig) -> Self {
        // No window is shorter than a tick of time.
        config.flows.window_ns = config.flows.window_ns.max(1);
        let layout = layout_of(&cascade);
        Self {
            plans: Plans::new(cascade, config.batch_rows),
            config,
            selection: None,
            table: FlowTable::new(config.flows),
            room: PendingTable::new(config.flows.capacity),
            pool: PacketPool::new(layout, config.record_packets),
            clock: Clock::new(config.flows.idle_ns, config.most_ahead_ns),
            wall_ns: 0,
            degradation: 0,
            accounts: Counters::default(),
            verdicts: Vec::new(),
            rulings: RulingBuffers::default(),
            taken: Vec::new(),
        }
    }

    /// The same with a selection: packets of flows that it leaves out are counted and no more. Time
    /// goes on with them, so the verdicts of the flows that are kept are the same.
    #[must_use]
    pub fn selecting(self, selection: Option<Arc<Selection>>) -> Self {
        Self { selection, ..self }
    }

    /// Sets the memory aside that flows and their packets may ever need by the limits, untouched:
    /// the system is asked for no more of it while packets wait. Without this it grows as flows
    /// come, and where there is no more, flows give way before the table is full, or find no room
    /// ([`Reject::NoMemory`]).
    ///
    /// # Errors
    /// When the system does not have so much.
    pub fn reserve(&mut self) -> Result<(), Shortage> {
        let flows = self.config.flows.capacity;
        self.table.reserve()?;
        self.room.reserve(flows)?;
        self.pool.reserve()?;
        reserve(&mut self.taken, flows, "the order in which flows end")
    }

    /// Takes the memory for all limits now, if the limits say so: on the thread that will serve,
    /// and before the first packet.
    ///
    /// # Panics
    /// When there were packets.
    pub fn prefault(&mut self) {
        if self.config.prefault {
            self.table.prefault();
            self.room.prefault(self.config.flows.capacity);
            self.pool.prefault();
        }
    }

    /// The cascade that new flows go through.
    #[must_use]
    pub fn cascade(&self) -> &Arc<Cascade> {
        &self.plans[self.plans.current()].cascade
    }

    /// A number for another plan, which no flow goes by; `None` while flows go by all of them.
    #[must_use]
    pub fn free_plan(&self) -> Option<u8> {
        self.plans.free()
    }

    /// Sends flows that begin from now on through another cascade. Flows that began before keep
    /// theirs, and no packet or flow is lost. The new plan's lanes are those from `first_lane` on,
    /// of all that are handed to [`Self::submit`]; verdicts name the plan by `number`.
    ///
    /// # Panics
    /// When the number is not [`Self::free_plan`].
    pub fn adopt(&mut self, number: u8, cascade: Arc<Cascade>, first_lane: usize) {
        assert_eq!(Some(number), self.plans.free(), "no flow goes by the number of a new plan");
        self.pool.keep_too(&layout_of(&cascade));
        self.plans.put(number, cascade, first_lane);
    }

    /// Where everything went so far.
    #[must_use]
    pub fn accounts(&self) -> &Counters {
        &self.accounts
    }

    /// Flows in the table, decided ones included.
    #[must_use]
    pub fn table_len(&self) -> usize {
        self.table.len()
    }

    /// Packets kept of undecided flows.
    #[must_use]
    pub fn recorded_packets(&self) -> usize {
        self.pool.used()
    }

    /// Jobs that are with a lane.
    #[must_use]
    pub fn jobs_out(&self) -> usize {
        self.plans.jobs_out()
    }

    /// Bytes taken from the allocator for flows and their packets.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.room.bytes() + self.pool.bytes()
    }

    /// Verdicts since they were last cleared.
    #[must_use]
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// Takes the verdicts out, and keeps the memory.
    pub fn drain_verdicts(&mut self) -> std::vec::Drain<'_, Verdict> {
        self.verdicts.drain(..)
    }

    /// Forgets the verdicts that were handed out, and keeps the memory.
    pub fn clear_verdicts(&mut self) {
        self.verdicts.clear();
    }

    /// Tells the wall time, nanoseconds from any fixed start; the engine itself reads no clock.
    /// The time between the values told at asking and at answer is a verdict's compute latency.
    pub fn set_wall(&mut self, wall_ns: u64) {
        self.wall_ns = wall_ns;
    }

    /// Loosens the gates to a level of degradation, or tightens them again; 0 are the gates as they
    /// were planned. It is for answers that come from now on.
    pub fn set_degradation(&mut self, level: u8) {
        self.degradation = level;
    }

    /// How far gates are loosened.
    #[must_use]
    pub fn degradation(&self) -> u8 {
        self.degradation
    }

    /// Takes a packet.
    pub fn push(&mut self, packet: &Packet<'_>) {
        let mut sighting = ParsedPacket::default();
        self.sight(packet, &mut sighting);
        if let Some(selection) = &self.selection {
            leave_out(selection, &mut sighting);
        }
        self.take(packet, &sighting);
    }

    /// Takes packets, as [`Self::push`] takes each of them, and is faster: what it needs of memory
    /// for one packet arrives while it looks at others.
    pub fn push_all<'a>(&mut self, packets: impl IntoIterator<Item = Packet<'a>>) {
        self.push_timed(packets.into_iter().map(|packet| (packet, None)));
    }

    /// Takes packets with what a clock says that saw all packets, of which these are a share.
    /// Engines that share traffic go by one clock, or they would tell different times.
    pub fn push_all_at<'a>(&mut self, packets: impl IntoIterator<Item = (Packet<'a>, u64)>) {
        self.push_timed(packets.into_iter().map(|(packet, now_ns)| (packet, Some(now_ns))));
    }

    #[inline]
    fn push_timed<'a>(&mut self, mut packets: impl Iterator<Item = (Packet<'a>, Option<u64>)>) {
        let mut run = [(Packet::default(), ParsedPacket::default()); AHEAD];
        loop {
            let mut len = 0;
            for (slot, (packet, now_ns)) in run.iter_mut().zip(&mut packets) {
                self.sight(&packet, &mut slot.1);
                slot.1.told_ns = now_ns;
                slot.0 = packet;
                len += 1;
            }
            if let Some(selection) = &self.selection {
                run[..len].iter_mut().for_each(|slot| leave_out(selection, &mut slot.1));
            }
            self.look_ahead(&mut run[..len]);
            for (packet, sighting) in &run[..len] {
                self.take(packet, sighting);
            }
            if len < AHEAD {
                return;
            }
        }
    }

    /// What a packet says of itself.
    #[inline]
    fn sight(&self, packet: &Packet<'_>, sighting: &mut ParsedPacket) {
        let parsed = &mut sighting.parsed;
        sighting.fate = match parse::parse_into(packet, self.config.flows.key, parsed) {
            Ok(()) => Fate::Taken,
            Err(reject) => Fate::Rejected(reject),
        };
        sighting.tag = self.table.tag(&parsed.key);
        sighting.guess = None;
    }

    /// Touches what the packets will need, each kind of memory for all of them before the next: the
    /// processor waits for many lines at once, and for none twice.
    #[inline]
    fn look_ahead(&self, run: &mut [(Packet<'_>, ParsedPacket)]) {
        let touched = run.iter().map(|(_, sighting)| self.table.touch(sighting.tag));
        black_box(touched.fold(0, |all, slot| all | slot));
        let mut tickets = [DECIDED; AHEAD];
        for (ticket, (_, sighting)) in tickets.iter_mut().zip(run.iter_mut()) {
            sighting.guess = self.table.guess(sighting.tag);
            *ticket = sighting.guess.map_or(DECIDED, |id| self.table[id].pending);
        }
        let waiting = tickets.into_iter().filter(|&ticket| ticket != DECIDED);
        black_box(waiting.fold(0, |all, ticket| all | self.room[ticket].tail));
        self.pool.touch_free(run.len());
        black_box(self.table.touch_free(NEW_FLOWS) | self.room.touch_free(NEW_FLOWS));
    }

    fn take(&mut self, packet: &Packet<'_>, sighting: &ParsedPacket) {
        let mut packet = *packet;
        if let Some(now_ns) = sighting.told_ns {
            self.clock.follow(now_ns);
        } else {
            packet.ts_ns = self.tick(packet.ts_ns, sighting.fate);
        }
        self.accounts.packets.seen += 1;
        match sighting.fate {
            Fate::Taken => self.accept(&packet, sighting, self.clock.now_ns()),
            Fate::Filtered => self.accounts.packets.filtered += 1,
            Fate::Rejected(reject) => self.accounts.packets.rejected[reject as usize] += 1,
        }
    }

    /// Hands full jobs to their lanes, and the job of the first stage that has rows; call it again,
    /// behind [`Self::collect`], as long as there is work ([`Self::has_work`]): what the first
    /// stage passes on then joins the job of a later one. A lane that is full sheds the job's
    /// flows.
    pub fn submit(&mut self, lanes: &mut [Box<dyn Lane>]) {
        for number in 0..self.plans.len() {
            let plan = &mut self.plans[number];
            plan.desk.close_first(&plan.cascade, &self.pool);
            while let Some(job) = self.plans[number].desk.next_ready() {
                if let Err(job) = self.hand_out(job, lanes) {
                    self.shed_job(job);
                }
            }
        }
    }

    /// As [`Self::submit`], but a job that its lane refuses is kept, and so is what stands behind
    /// it: false, and the caller should collect before it calls again.
    ///
    /// A lane that refuses while no job is out has no room to come, so its job is shed all the
    /// same: to wait would be to wait without end.
    pub fn submit_or_keep(&mut self, lanes: &mut [Box<dyn Lane>]) -> bool {
        // Plans have lanes of their own: one that waits does not hold up another.
        let mut all_out = true;
        for plan in 0..self.plans.len() {
            all_out &= self.submit_plan_or_keep(plan, lanes);
        }
        all_out
    }

    fn submit_plan_or_keep(&mut self, number: u8, lanes: &mut [Box<dyn Lane>]) -> bool {
        let mut closed = false;
        loop {
            while let Some(job) = self.plans[number].desk.next_ready() {
                match self.hand_out(job, lanes) {
                    Ok(()) => {}
                    Err(job) if self.plans[number].desk.jobs_out() == 0 => self.shed_job(job),
                    Err(job) => {
                        self.plans[number].desk.put_back(job);
                        return false;
                    }
                }
            }
            // Only now, so that rows gather in few and full jobs while a lane is waited for.
            let plan = &mut self.plans[number];
            if closed || !plan.desk.has_work() {
                return true;
            }
            plan.desk.close_first(&plan.cascade, &self.pool);
            closed = true;
        }
    }

    fn hand_out(&mut self, job: Box<Job>, lanes: &mut [Box<dyn Lane>]) -> Result<(), Box<Job>> {
        let plan = &mut self.plans[job.plan];
        let lane = plan.first_lane + plan.cascade.stages()[job.stage].lane;
        lanes[lane].submit(job)?;
        plan.desk.note_out();
        Ok(())
    }

    /// Takes scored jobs from the lanes: verdicts, or further questions.
    pub fn collect(&mut self, lanes: &mut [Box<dyn Lane>]) {
        for lane in lanes {
            while let Some(job) = lane.poll() {
                self.plans[job.plan].desk.note_back();
                self.resolve(job);
            }
        }
    }

    /// Whether any job waits to be submitted.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.plans.has_work()
    }

    /// Whether any flow's features are with a model.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.accounts.flows.in_inference > 0
    }

    /// Puts a parsed packet into its flow.
    fn accept(&mut self, packet: &Packet<'_>, sighting: &ParsedPacket, now: u64) {
        let parsed = &sighting.parsed;
        let Some((id, at)) = self.flow_for(packet, sighting, now) else {
            self.accounts.packets.rejected[Reject::NoMemory as usize] += 1;
            return;
        };
        let entry = &mut self.table[id];
        let (was_closed, pending) = (entry.is_closed(), entry.pending);
        if was_closed {
            self.accounts.packets.after_close += 1;
            return;
        }
        let closes = entry.note(parsed, at);
        if closes {
            self.table.leaves_earlier(id, now);
        }
        if pending == DECIDED {
            self.accounts.packets.ignored += 1;
            return;
        }
        let recorded = self.record(id, pending, packet, parsed, at);
        let packets = &mut self.accounts.packets;
        *(if recorded { &mut packets.recorded } else { &mut packets.ignored }) += 1;
        if self.table[id].pending == DECIDED {
            return; // The record pool was full: the flow was shed on the spot.
        }
        if closes {
            self.cut(pending, RecordEnd::new(Reason::Ended, at));
        }
        if recorded || closes {
            self.step(pending, at);
        }
    }

    /// The packet's flow, a new one if need be, and when the packet arrived by the flow's clock;
    /// `None` where there is no memory for a new one.
    fn flow_for(
        &mut self,
        packet: &Packet<'_>,
        sighting: &ParsedPacket,
        now: u64,
    ) -> Option<(u32, u64)> {
        let parsed = &sighting.parsed;
        let mut at = packet.ts_ns.max(now);
        if let Some(id) = self.table.find(&parsed.key, sighting.tag, sighting.guess) {
            let entry = &self.table[id];
            at = at.max(entry.last_at);
            let is_over = entry.leaves_at(&self.config.flows) < at;
            if !is_over && !entry.is_new_connection(parsed) {
                if self.config.flows.window_ns != NO_WINDOW {
                    return Some((self.in_window(id, at), at));
                }
                return Some((id, at));
            }
            self.end_flow(id, Reason::Ended, at);
        }
        let opening = Opening::of(parsed, packet.data);
        self.begin_flow((parsed.key, sighting.tag), opening, at).map(|id| (id, at))
    }

    /// Keeps a packet if the flow still wants packets; false when it does not or cannot.
    fn record(
        &mut self,
        id: u32,
        ticket: u32,
        packet: &Packet<'_>,
        parsed: &Parsed,
        at: u64,
    ) -> bool {
        let pending = &mut self.room[ticket];
        if pending.count >= self.plans[pending.plan].cascade.depth() || pending.cut.is_some() {
            return false;
        }
        let meta = PacketMeta {
            ts_ns: packet.ts_ns,
            at_ns: at,
            size: parsed.size,
            payload: parsed.payload,
            flags: parsed.tcp_flags,
            backward: self.table[id].is_backward(parsed),
        };
        let Some(cell) = self.pool.keep(meta, packet.data, parsed, pending.tail) else {
            self.cut(ticket, RecordEnd::new(Reason::Shed, at));
            self.step(ticket, at);
            return false;
        };
        if pending.count == 0 {
            pending.first_ns = packet.ts_ns;
        }
        pending.tail = cell;
        pending.tail_at = at;
        pending.count += 1;
        true
    }
}

/// The headers that any stage of a cascade looks at.
fn layout_of(cascade: &Cascade) -> HeaderLayout {
    let layouts = cascade.stages().iter().map(|stage| stage.features.layout());
    layouts.fold(HeaderLayout::new(&[]), |sum, layout| sum.union(&layout))
}

/// Packets that are looked at together: enough for all the lines that a core can wait for at once.
const AHEAD: usize = 32;

/// Flows that as many packets begin as a rule, at most.
const NEW_FLOWS: usize = AHEAD / 4;

/// Where a packet goes, as far as itself says.
#[derive(Clone, Copy, Debug, Default)]
enum Fate {
    #[default]
    Taken,
    Filtered,
    Rejected(Reject),
}

/// Notes what the selection says of a packet. One that is left out needs no look at the table, so
/// it gets the tag of nothing, whose place in the table is as good as any and always the same.
#[inline(never)]
fn leave_out(selection: &Selection, sighting: &mut ParsedPacket) {
    if matches!(sighting.fate, Fate::Taken) && !selection.keeps(&sighting.parsed.key) {
        sighting.fate = Fate::Filtered;
        sighting.tag = Tag::default();
    }
}

/// What a packet says of itself, before its flow is looked up.
#[derive(Clone, Copy, Debug, Default)]
struct ParsedPacket {
    /// Means nothing when the packet is rejected.
    parsed: Parsed,
    fate: Fate,
    /// What a clock says that saw all packets, when there is one.
    told_ns: Option<u64>,
    tag: Tag,
    /// The entry that it most likely belongs to.
    guess: Option<u32>,
}
