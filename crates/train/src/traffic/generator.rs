//! The generator: flows cloned from templates, begun at a rate, their packets in order of time.

use super::agenda::Agenda;
use super::fresh::{FreshTuple, MOST_FLOWS};
use super::template::TemplateSet;
use crate::random::Random;
use serveflow_io::{Batch, Source, SourceError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// When the first flow begins, nanoseconds since the epoch.
pub const START_NS: u64 = 1_700_000_000_000_000_000;

/// How flows begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// As often as not soon after each other: exponential gaps, a Poisson process.
    Poisson,
    /// At equal distances.
    Constant,
}

/// What a generator makes.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// New flows per second of packet time.
    pub flows_per_s: f64,
    /// How they begin.
    pub arrivals: Arrivals,
    /// Most flows.
    pub flows: u64,
    /// Seed of every choice.
    pub seed: u64,
    /// Number of the worker that gets the packets; workers never share a five-tuple.
    pub worker: usize,
    /// No flow begins once this is set; those that have begun go on to their end.
    pub stop: Arc<AtomicBool>,
}

/// A packet that has its time but is not written yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it is sent, nanoseconds since the epoch.
    pub ts_ns: u64,
    /// Number of its flow.
    pub flow: u64,
    /// Its template, and its packet in the set.
    template: u32,
    packet: u32,
}

/// What a flow sends next.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    started_ns: u64,
    flow: u64,
    template: u32,
    packet: u32,
}

/// Makes packets, on the fly and without allocating once as many flows as ever are open.
#[derive(Debug)]
pub struct Generator {
    templates: TemplateSet,
    order: Arc<[u32]>,
    recipe: Recipe,
    random: Random,
    /// What open flows send next.
    agenda: Agenda<Cursor>,
    /// When the next flow begins.
    arrival_ns: Option<u64>,
    /// Set when no flow begins any more.
    is_draining: Arc<AtomicBool>,
    flows_made: u64,
    packets_made: u64,
}

/// The order in which templates are cloned, over and over: a seeded shuffle, so that any stretch
/// of flows holds the templates in about equal shares.
#[must_use]
pub fn shuffled(templates: usize, seed: u64) -> Arc<[u32]> {
    let mut order: Vec<u32> = (0..templates as u32).collect();
    Random::new(&[seed, 1]).choose(&mut order, templates);
    order.into()
}

impl Generator {
    /// A generator over templates that are cloned in the order of [`shuffled`].
    ///
    /// # Panics
    /// When there is no template, or the rate is not above 0.
    #[must_use]
    pub fn new(templates: TemplateSet, recipe: Recipe) -> Self {
        assert!(!templates.flows().is_empty(), "there is a template");
        assert!(recipe.flows_per_s > 0.0, "flows begin at a rate");
        Self {
            order: shuffled(templates.flows().len(), recipe.seed),
            random: Random::new(&[recipe.seed, 2, recipe.worker as u64]),
            agenda: Agenda::new(),
            arrival_ns: (recipe.flows > 0).then_some(START_NS),
            is_draining: Arc::default(),
            templates,
            recipe,
            flows_made: 0,
            packets_made: 0,
        }
    }

    /// Flows begun so far.
    #[must_use]
    pub fn flows_made(&self) -> u64 {
        self.flows_made
    }

    /// Packets planned so far, written or not.
    #[must_use]
    pub fn packets_made(&self) -> u64 {
        self.packets_made
    }

    /// A flag that is set once no flow begins any more.
    #[must_use]
    pub fn is_draining(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_draining)
    }

    /// No flow begins any more; those that have begun go on to their end.
    pub fn stop(&mut self) {
        self.recipe.stop.store(true, Ordering::Relaxed);
    }

    /// When the next packet is sent.
    pub fn peek_ns(&mut self) -> Option<u64> {
        let next = self.agenda.peek();
        next.into_iter().chain(self.arrival()).min()
    }

    /// When the next flow begins, unless none does any more.
    fn arrival(&self) -> Option<u64> {
        self.arrival_ns.filter(|_| !self.recipe.stop.load(Ordering::Relaxed))
    }

    /// The next packet.
    pub fn plan(&mut self) -> Option<Planned> {
        let next = self.agenda.peek();
        let arrival = self.arrival().filter(|&at| next.is_none_or(|next| at < next));
        let planned = match arrival {
            Some(now_ns) => self.begin(now_ns),
            None => {
                if self.arrival().is_none() {
                    self.is_draining.store(true, Ordering::Relaxed);
                }
                self.go_on()?
            }
        };
        self.packets_made += 1;
        Some(planned)
    }

    /// Begins a flow and makes out when the next one begins.
    fn begin(&mut self, now_ns: u64) -> Planned {
        let flow = self.flows_made;
        self.flows_made += 1;
        self.arrival_ns = (self.flows_made < self.recipe.flows.min(MOST_FLOWS)).then(|| {
            let gaps = match self.recipe.arrivals {
                Arrivals::Poisson => self.random.exponential(),
                Arrivals::Constant => 1.0,
            };
            now_ns + (gaps * 1e9 / self.recipe.flows_per_s).round() as u64
        });
        let template = self.order[(flow % self.order.len() as u64) as usize];
        let packet = self.templates.flows()[template as usize].first;
        self.expect(Cursor { started_ns: now_ns, flow, template, packet: packet + 1 });
        Planned { ts_ns: now_ns, flow, template, packet }
    }

    /// Goes on with an open flow.
    fn go_on(&mut self) -> Option<Planned> {
        let (ts_ns, cursor) = self.agenda.pop()?;
        let Cursor { flow, template, packet, .. } = cursor;
        self.expect(Cursor { packet: packet + 1, ..cursor });
        Some(Planned { ts_ns, flow, template, packet })
    }

    /// Makes the appointment of a flow's next packet, if it has one.
    fn expect(&mut self, cursor: Cursor) {
        let template = &self.templates.flows()[cursor.template as usize];
        if cursor.packet < template.first + template.packets {
            let since = self.templates.since_first_ns(cursor.packet);
            self.agenda.file(cursor.started_ns + since, cursor);
        }
    }

    /// Writes a planned packet into a batch.
    pub fn write(&mut self, planned: &Planned, batch: &mut Batch) {
        let template = &self.templates.flows()[planned.template as usize];
        let tuple = FreshTuple::new(self.recipe.worker, planned.flow, template);
        self.templates.write(planned.packet, planned.ts_ns, &tuple, batch);
    }
}

impl Source for Generator {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        while batch.len() < max_frames.max(1) {
            let Some(planned) = self.plan() else { break };
            self.write(&planned, batch);
        }
        Ok(batch.len())
    }

    fn name(&self) -> &'static str {
        "generator"
    }
}
