//! The engine's twin: the written rules, in the most obvious way.
//!
//! Flows are lists of packets in a plain map, and a flow's verdict is worked out only when all of
//! its packets are known. No wheel, no pools, no jobs, no states.

use super::drive::Told;
use super::frames::Frame;
use super::models::hash_scores;
use super::words::packet_words;
use serveflow_core::NO_WINDOW;
use serveflow_core::deferral::{FlowFacts, facts_shape, push_facts};
use serveflow_core::engine::{Cascade, End, EngineConfig};
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::gate::{Gate, best_class};
use serveflow_core::key::FlowKey;
use serveflow_core::parse::{ACK, FIN, Parsed, RST, SYN, parse};
use serveflow_core::rows::{Rows, Scores};
use serveflow_core::verdict::Reason;
use std::collections::BTreeMap;

/// A packet of a flow.
struct Kept {
    ts_ns: u64,
    /// When it arrived: never before an earlier packet of the flow, nor before the clock.
    at: u64,
    parsed: Parsed,
    words: Vec<u32>,
}

struct Flow {
    first_at: u64,
    /// When the first packet of the present window arrived.
    began_at: u64,
    last_at: u64,
    source_is_low: bool,
    syn_seq: Option<u32>,
    fins: [bool; 2],
    closed: bool,
    /// Packets up to the one that closed the flow.
    packets: Vec<Kept>,
    /// Why and when the record closed.
    end: Option<(Reason, u64)>,
    /// Whether that was the end of a window.
    window_over: bool,
    /// How far the engine is with it.
    progress: Progress,
}

/// How far a flow has come after a packet, any flow's, all questions of which were answered.
#[derive(Clone, Copy, Default)]
struct Progress {
    stage: usize,
    asked_at: u64,
    /// The tick of the stages' wheel at which it began to wait for its stage.
    since_tick: u64,
    decided: bool,
}

/// The engine finds that a flow leaves, and that a stage's wait is over, a tick late: nanoseconds
/// shifted by so much. No verdict depends on it, but who is in a full table does.
const LEAVE_SHIFT: u32 = 26;
const WAIT_SHIFT: u32 = 23;

impl Flow {
    fn leaves_at(&self, config: &EngineConfig) -> u64 {
        if self.closed {
            return self.last_at.saturating_add(config.flows.linger_ns);
        }
        let idle = self.last_at.saturating_add(config.flows.idle_ns);
        idle.min(self.first_at.saturating_add(config.flows.active_ns))
    }

    fn is_new_connection(&self, parsed: &Parsed) -> bool {
        let opens = parsed.tcp_flags & (SYN | ACK) == SYN;
        if parsed.sender_is_low == self.source_is_low {
            let was_reset = self.closed && self.fins != [true, true];
            opens && (was_reset || self.syn_seq != Some(parsed.tcp_seq))
        } else {
            opens && self.closed
        }
    }

    fn add(&mut self, packet: Kept) {
        if self.closed {
            return;
        }
        let flags = packet.parsed.tcp_flags;
        self.last_at = packet.at;
        self.fins[usize::from(packet.parsed.sender_is_low)] |= flags & FIN != 0;
        self.closed = flags & RST != 0 || self.fins == [true, true];
        if self.closed {
            self.end = Some((Reason::Ended, packet.at));
        }
        self.packets.push(packet);
    }
}

/// The twin.
pub struct Twin<'a> {
    cascade: &'a Cascade,
    config: EngineConfig,
    now: u64,
    previous: Option<u64>,
    live: BTreeMap<FlowKey, Flow>,
    told: Vec<Told>,
    /// Undecided and decided flows that gave way.
    evictions: [u64; 2],
}

impl<'a> Twin<'a> {
    /// The final verdicts for traffic, sorted, and how many undecided and decided flows gave way.
    /// Which they are depends on when answers come: it is for batches of one packet.
    pub fn run(
        cascade: &'a Cascade,
        config: EngineConfig,
        frames: &[Frame],
        end: End,
    ) -> (Vec<Told>, [u64; 2]) {
        let (live, told) = (BTreeMap::new(), Vec::new());
        let evictions = [0; 2];
        let mut twin = Self { cascade, config, now: 0, previous: None, live, told, evictions };
        for frame in frames {
            twin.push(frame);
            // Who is decided matters where somebody may have to give way.
            if config.flows.capacity < frames.len() {
                twin.advance();
                let open = twin.live.iter().filter(|(_, flow)| !flow.progress.decided);
                let moved: Vec<(FlowKey, Progress)> =
                    open.map(|(key, flow)| (*key, twin.progress(*key, flow))).collect();
                for (key, progress) in moved {
                    twin.live.get_mut(&key).unwrap().progress = progress;
                }
            }
        }
        for key in twin.live.keys().copied().collect::<Vec<_>>() {
            let leaves_at = twin.live[&key].leaves_at(&config);
            let at = match end {
                End::Silence => leaves_at,
                End::Stop => leaves_at.min(twin.now.max(twin.live[&key].last_at)),
            };
            twin.end(key, Reason::Ended, at);
        }
        twin.told.sort();
        (twin.told, twin.evictions)
    }

    fn push(&mut self, frame: &Frame) {
        let Ok(parsed) = parse(&frame.packet(), self.config.flows.key) else {
            if !self.is_behind(frame.ts_ns) {
                self.tick(frame.ts_ns);
            }
            return;
        };
        self.tick(frame.ts_ns);
        let is_ahead = frame.ts_ns > self.now.saturating_add(self.config.most_ahead_ns);
        let ts_ns = if is_ahead || self.is_behind(frame.ts_ns) { self.now } else { frame.ts_ns };
        let key = parsed.key;
        let mut at = ts_ns.max(self.now);
        if let Some(flow) = self.live.get(&key) {
            at = at.max(flow.last_at);
            let leaves_at = flow.leaves_at(&self.config);
            if at > leaves_at {
                self.end(key, Reason::Ended, leaves_at);
            } else if flow.is_new_connection(&parsed) {
                self.end(key, Reason::Ended, at);
            }
        }
        self.next_window(key, at);
        if !self.live.contains_key(&key) {
            self.make_room();
            self.begin(&parsed, &frame.data, at);
        }
        let words = packet_words(&HeaderLayout::default(), &frame.data, &parsed);
        let flow = self.live.get_mut(&key).unwrap();
        flow.add(Kept { ts_ns, at, parsed, words });
    }

    fn is_behind(&self, ts_ns: u64) -> bool {
        ts_ns.saturating_add(self.config.flows.idle_ns) < self.now
    }

    /// The clock follows the earlier of the last two packets, and starts over with the later one
    /// when both lie more than the idle timeout behind.
    fn tick(&mut self, ts_ns: u64) {
        let previous = self.previous.replace(ts_ns).unwrap_or(ts_ns);
        let (earlier, later) = (previous.min(ts_ns), previous.max(ts_ns));
        if later.saturating_add(self.config.flows.idle_ns) >= self.now {
            self.now = self.now.max(earlier);
            return;
        }
        for key in self.live.keys().copied().collect::<Vec<_>>() {
            let flow = &self.live[&key];
            let at = flow.leaves_at(&self.config).min(self.now.max(flow.last_at));
            self.end(key, Reason::Ended, at);
        }
        self.now = later;
    }

    /// When the table is full, what is over leaves; then, one by one, what would leave first: of
    /// the decided flows, and of all only where none is decided.
    fn make_room(&mut self) {
        let capacity = self.config.flows.capacity.max(1);
        if self.live.len() < capacity {
            return;
        }
        self.advance();
        while self.live.len() >= capacity {
            let leaving = |(key, flow): (&FlowKey, &Flow)| {
                let Flow { progress: Progress { decided, .. }, first_at, .. } = *flow;
                (!decided, flow.leaves_at(&self.config), first_at, *key)
            };
            let (undecided, leaves_at, _, key) = self.live.iter().map(leaving).min().unwrap();
            if leaves_at < self.now {
                self.end(key, Reason::Ended, leaves_at);
            } else {
                self.evictions[usize::from(!undecided)] += 1;
                let at = self.now.max(self.live[&key].last_at);
                self.end(key, Reason::Evicted, at);
            }
        }
    }

    /// Ends the flows of which the engine finds that they are over: a tick late, or when the wait
    /// for a stage is found to be over.
    fn advance(&mut self) {
        for key in self.live.keys().copied().collect::<Vec<_>>() {
            let flow = &self.live[&key];
            let leaves_at = flow.leaves_at(&self.config);
            let is_old = leaves_at >> LEAVE_SHIFT < self.now >> LEAVE_SHIFT;
            let is_found = !flow.progress.decided && self.finds(flow, &flow.progress);
            if is_old || is_found && leaves_at < self.now {
                self.end(key, Reason::Ended, leaves_at);
            }
        }
    }

    /// Whether the engine finds that a flow's wait for its stage is over.
    fn finds(&self, flow: &Flow, progress: &Progress) -> bool {
        let stage = &self.cascade.stages()[progress.stage];
        let deadline = flow.began_at.saturating_add(stage.wait_ns);
        let until = deadline.min(self.window_end(flow).unwrap_or(u64::MAX));
        let since = (until >> WAIT_SHIFT).max(progress.since_tick);
        until < u64::MAX && self.now >> WAIT_SHIFT > since
    }

    /// How far the engine is with a flow, once everything is answered that can be asked by now.
    fn progress(&self, key: FlowKey, flow: &Flow) -> Progress {
        let mut progress = flow.progress;
        let tick = self.now >> WAIT_SHIFT;
        let window_end = self.window_end(flow).unwrap_or(u64::MAX);
        while !progress.decided {
            let stage = &self.cascade.stages()[progress.stage];
            let deadline = flow.began_at.saturating_add(stage.wait_ns);
            let wanted = usize::from(stage.packets());
            let in_time = flow.packets.iter().filter(|packet| packet.at <= deadline).count();
            let until = deadline.min(window_end);
            let is_found = self.finds(flow, &progress);
            let is_late = progress.asked_at > deadline
                || flow.packets.iter().any(|packet| packet.at > deadline);
            let end = flow
                .end
                .or((is_found && window_end == until).then_some((Reason::Ended, window_end)));
            if in_time < wanted && end.is_none() && !is_late && !is_found {
                break;
            }
            let seen = &flow.packets[..in_time.min(wanted)];
            let is_window = flow.end.is_none() && end.is_some();
            let (short, at) = self.question(progress.stage, flow, seen, (end, is_window));
            progress.asked_at = progress.asked_at.max(at);
            progress.since_tick = tick;
            match self.ask(progress.stage, key, flow, seen, (short.is_some(), at)).1 {
                Some(next) => progress.stage = next,
                None => progress.decided = true,
            }
        }
        progress
    }

    fn begin(&mut self, parsed: &Parsed, frame: &[u8], at: u64) {
        let opens = parsed.tcp_flags & (SYN | ACK) == SYN;
        let answers = parsed.tcp_flags & (SYN | ACK) == SYN | ACK;
        let answered = || {
            let tcp = parsed.transport.unwrap().offset as usize;
            u32::from_be_bytes(frame[tcp + 8..tcp + 12].try_into().unwrap()).wrapping_sub(1)
        };
        let flow = Flow {
            first_at: at,
            began_at: at,
            last_at: at,
            source_is_low: parsed.sender_is_low != answers,
            syn_seq: opens.then_some(parsed.tcp_seq).or_else(|| answers.then(answered)),
            fins: [false; 2],
            closed: false,
            packets: Vec::new(),
            end: None,
            window_over: false,
            progress: Progress::default(),
        };
        self.live.insert(parsed.key, flow);
    }

    fn end(&mut self, key: FlowKey, reason: Reason, at: u64) {
        let mut flow = self.live.remove(&key).unwrap();
        if let Some(over) = self.window_end(&flow).filter(|&over| over <= at && flow.end.is_none())
        {
            flow.end = Some((Reason::Ended, over));
            flow.window_over = true;
        }
        let end = *flow.end.get_or_insert((reason, at));
        self.told.push(self.verdict(key, &flow, end));
    }

    /// When the window ends that the flow's last packet lies in: windows are counted off one by
    /// one.
    fn window_end(&self, flow: &Flow) -> Option<u64> {
        let length = self.config.flows.window_ns;
        if length == NO_WINDOW {
            return None;
        }
        let windows = (flow.last_at - flow.first_at) / length + 1;
        Some(flow.first_at.saturating_add(windows.saturating_mul(length)))
    }

    /// A packet behind the window of an open flow: what was is judged as a flow of its own, and
    /// what comes is one too, which keeps the direction and the timeouts of the whole.
    fn next_window(&mut self, key: FlowKey, at: u64) {
        let Some(flow) = self.live.get(&key).filter(|flow| !flow.closed) else { return };
        let Some(over) = self.window_end(flow).filter(|&over| at >= over) else { return };
        let (packets, progress) = (Vec::new(), Progress::default());
        let rest = Flow { began_at: at, packets, end: None, window_over: false, progress, ..*flow };
        self.end(key, Reason::Ended, over);
        self.live.insert(key, rest);
    }

    /// Why a stage is asked about fewer packets than it wants, and when; `end` is the end of the
    /// record, if there is one, and whether it is that of a window.
    fn question(
        &self,
        stage: usize,
        flow: &Flow,
        seen: &[Kept],
        end: (Option<(Reason, u64)>, bool),
    ) -> (Option<Reason>, u64) {
        let stage = &self.cascade.stages()[stage];
        let deadline = flow.began_at.saturating_add(stage.wait_ns);
        if seen.len() == usize::from(stage.packets()) {
            return (None, seen[seen.len() - 1].at);
        }
        match end {
            (Some((_, at)), true) if at <= deadline && stage.wants_window => (None, at),
            (Some((reason, at)), _) if at <= deadline => (Some(reason), at),
            _ => (Some(Reason::TimedOut), deadline),
        }
    }

    /// What a stage answers, and which stage is asked next, if the answer does not stand.
    fn ask(
        &self,
        index: usize,
        key: FlowKey,
        flow: &Flow,
        seen: &[Kept],
        (is_short, asked_at): (bool, u64),
    ) -> ([f32; 4], Option<usize>) {
        let stage = &self.cascade.stages()[index];
        let (words, numbers) = row(flow, seen, usize::from(stage.packets()));
        let scores = hash_scores(index as u64, &words, &numbers);
        let facts = facts(key.proto(), flow, seen, is_short, asked_at);
        let is_last = index + 1 == self.cascade.stages().len();
        let next = if is_last { None } else { next(&stage.gate, index, &scores, &facts) };
        (scores, next)
    }

    /// The verdict of a flow that is over.
    fn verdict(&self, key: FlowKey, flow: &Flow, end: (Reason, u64)) -> Told {
        let (mut asked_at, mut index) = (0, 0);
        let stages = self.cascade.stages();
        loop {
            let stage = &stages[index];
            let deadline = flow.began_at.saturating_add(stage.wait_ns);
            let in_time = flow.packets.iter().filter(|packet| packet.at <= deadline).count();
            let seen = &flow.packets[..in_time.min(usize::from(stage.packets()))];
            let (short, at) = self.question(index, flow, seen, (Some(end), flow.window_over));
            asked_at = asked_at.max(at);
            let (scores, next) = self.ask(index, key, flow, seen, (short.is_some(), at));
            let Some(next) = next else {
                let (label, confidence) = best_class(&scores);
                let confidence = stage.confidence.at(confidence);
                let is_last = index + 1 == stages.len();
                let full = if is_last { Reason::Final } else { Reason::Accepted };
                let unknown = stage
                    .unknown
                    .is_some_and(|rule| rule.score.uncertainty(&scores) > rule.threshold);
                let packets = seen.len() as u16;
                let answer = (label, confidence.to_bits(), index as u8, packets, unknown);
                return Told {
                    flow: key.five_tuple(flow.source_is_low),
                    first_ns: flow.packets[0].ts_ns,
                    deciding_ns: seen.last().unwrap().ts_ns,
                    collection_ns: asked_at - flow.began_at,
                    reason: short.unwrap_or(full),
                    answer: Some(answer),
                };
            };
            index = next;
        }
    }
}

/// Where a flow goes that a gate does not accept.
fn next(gate: &Gate, index: usize, scores: &[f32], facts: &FlowFacts) -> Option<usize> {
    let Gate::Learned(rule) = gate else {
        let (label, _) = best_class(scores);
        return (!gate.accepts(label, scores)).then_some(index + 1);
    };
    let mut row = Rows::with_capacity(facts_shape(scores.len()), 1);
    push_facts(&mut row, scores, facts);
    let mut best = None;
    for head in rule.heads() {
        let mut outcome = Scores::default();
        head.model.score(&row, &mut outcome).unwrap();
        let gain = outcome.row(0)[2] - outcome.row(0)[0] - head.price;
        if gain > best.map_or(0.0, |(most, _)| most) {
            best = Some((gain, head.to));
        }
    }
    best.map(|(_, to)| to)
}

/// What is known of a flow when a stage is asked about the packets that it has seen.
fn facts(proto: u8, flow: &Flow, seen: &[Kept], short: bool, at: u64) -> FlowFacts {
    let last = &seen.last().unwrap().parsed;
    FlowFacts {
        packets: seen.len() as u16,
        short,
        proto,
        size: last.size,
        payload: last.payload,
        flags: last.tcp_flags,
        backward: last.sender_is_low != flow.source_is_low,
        elapsed_us: u32::try_from((at - flow.began_at) / 1_000).unwrap_or(u32::MAX),
    }
}

/// The row of `header_bits` and `packet_series`, unmasked.
fn row(flow: &Flow, seen: &[Kept], wanted: usize) -> (Vec<u32>, Vec<f32>) {
    let mut words: Vec<u32> = seen.iter().flat_map(|packet| packet.words.clone()).collect();
    words.resize(wanted * HeaderLayout::default().packet_words(), 0);
    let mut numbers = Vec::new();
    for (index, packet) in seen.iter().enumerate() {
        let backward = packet.parsed.sender_is_low != flow.source_is_low;
        let size = f32::from(packet.parsed.size);
        let before = if index == 0 { packet.ts_ns } else { seen[index - 1].ts_ns };
        numbers.push(if backward { -size } else { size });
        numbers.push((packet.ts_ns.saturating_sub(before) as f64 / 1e3) as f32);
        numbers.push(if backward { 1.0 } else { 0.0 });
        numbers.push(f32::from(packet.parsed.tcp_flags));
        numbers.push(f32::from(packet.parsed.payload));
    }
    for _ in seen.len()..wanted {
        numbers.extend([0.0, -1.0, -1.0, -1.0, -1.0]);
    }
    (words, numbers)
}
