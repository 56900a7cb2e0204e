//! What the user wants of a cascade, and whether it is met.

use super::replay::ReplayFigures;
use crate::metrics::Confusion;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What is made as small as the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// The geometric mean of end-to-end latency.
    Latency,
    /// Time of a core per flow.
    Cpu,
    /// The share of flows that leave the first stage.
    Escalation,
}

impl Objective {
    /// All objectives.
    pub const ALL: [Self; 3] = [Self::Latency, Self::Cpu, Self::Escalation];

    /// The objective as options spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Cpu => "cpu",
            Self::Escalation => "escalation",
        }
    }

    /// What is made small, and what decides between equals.
    #[must_use]
    pub fn value(self, figures: &ReplayFigures) -> (f64, f64) {
        // A model alone is asked about all flows, as the last stage is about those that are passed
        // on.
        let escalated = match figures.decided[..] {
            [] | [_] => 1.0,
            [first, ..] => 1.0 - first,
        };
        match self {
            Self::Latency => (figures.geometric_us, figures.cpu_ns),
            Self::Cpu => (figures.cpu_ns, figures.geometric_us),
            Self::Escalation => (escalated, figures.geometric_us),
        }
    }
}

/// Limits that the user states; none of them must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// Largest loss of macro-F1 against the best single candidate.
    pub max_loss: f64,
    /// Largest loss of any class's recall against the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_class_loss: Option<f64>,
    /// Longest median of end-to-end latency, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Longest 99th percentile of end-to-end latency, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// New flows per second that must be served, all cores together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows_per_s: Option<f64>,
    /// Cores that serve.
    pub cores: usize,
    /// Most memory for flows that wait, at that rate of flows, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<f64>,
}

impl Default for Constraints {
    fn default() -> Self {
        Self {
            max_loss: 0.005,
            max_class_loss: None,
            p50_ms: None,
            p99_ms: None,
            flows_per_s: None,
            cores: 1,
            memory_mb: None,
        }
    }
}

/// A limit by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Macro-F1.
    Loss,
    /// Recall of a class.
    ClassLoss,
    /// Median latency.
    P50,
    /// 99th percentile of latency.
    P99,
    /// Flows per second.
    Rate,
    /// Memory of waiting flows.
    Memory,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loss => "loss of macro-F1",
            Self::ClassLoss => "loss of a class's recall",
            Self::P50 => "median latency",
            Self::P99 => "99th percentile of latency",
            Self::Rate => "flows per second",
            Self::Memory => "memory of waiting flows",
        })
    }
}

/// A cascade of one worker does not quite scale: what is lost per doubling of workers, as measured
/// by `bench scale` on two cores, is left to it. Here all cores count in full.
fn rate(figures: &ReplayFigures, cores: usize) -> f64 {
    figures.flows_per_s * cores as f64
}

/// How a limit stands: what was asked for, and what there is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConstraintStatus {
    /// Which limit.
    pub limit: Limit,
    /// What the user states.
    pub wanted: f64,
    /// What the cascade has.
    pub found: f64,
    /// Whether that is within the limit.
    pub met: bool,
}

impl Constraints {
    /// How each stated limit stands for a cascade; `best` is the best single candidate.
    #[must_use]
    pub fn standings(
        &self,
        figures: &ReplayFigures,
        table: &Confusion,
        best: &Confusion,
    ) -> Vec<ConstraintStatus> {
        let at_most = |limit, wanted: Option<f64>, found: f64| {
            wanted.map(|wanted| ConstraintStatus {
                limit,
                wanted,
                found,
                met: found <= wanted + 1e-12,
            })
        };
        let at_least = |limit, wanted: Option<f64>, found: f64| {
            wanted.map(|wanted| ConstraintStatus { limit, wanted, found, met: found >= wanted })
        };
        let recall_loss = |class| best.class(class).recall - table.class(class).recall;
        let class_loss = (0..table.classes()).map(recall_loss).fold(0.0, f64::max);
        let memory = self.flows_per_s.unwrap_or(0.0) * figures.waiting_bytes / f64::from(1 << 20);
        let standings = [
            at_most(Limit::Loss, Some(self.max_loss), best.macro_f1() - figures.macro_f1),
            at_most(Limit::ClassLoss, self.max_class_loss, class_loss),
            at_most(Limit::P50, self.p50_ms, figures.p50_us / 1e3),
            at_most(Limit::P99, self.p99_ms, figures.p99_us / 1e3),
            at_least(Limit::Rate, self.flows_per_s, rate(figures, self.cores)),
            at_most(Limit::Memory, self.memory_mb, memory),
        ];
        standings.into_iter().flatten().collect()
    }
}
