//! The cascade: one list of stages.

use crate::calibration::Calibration;
use crate::deferral::{Head, OUTCOMES, facts_shape};
use crate::features::Features;
use crate::gate::{Gate, Threshold};
use crate::open_set::OpenSet;
use std::fmt;

/// One stage: how many packets it wants, how they are encoded, how sure its answer must be, how
/// long a flow may wait for it, and in which lane it is scored.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Name for outputs.
    pub name: String,
    /// The features of its rows; their spec says how many packets they cover.
    pub features: Features,
    /// Whether its answer stands; not asked at the last stage.
    pub gate: Gate,
    /// Gates that take its place while there is more traffic than the models can take, each letting
    /// more answers stand than the one before; none at the last stage.
    pub degradation: Vec<Gate>,
    /// Longest wait for its packets, nanoseconds after the flow's first packet.
    pub wait_ns: u64,
    /// Whether it wants the window: it is asked when the window ends, however few packets came, or
    /// as soon as it has all the packets that its features cover, since no later one would show in
    /// its row.
    pub wants_window: bool,
    /// What its probability of an answer is worth.
    pub confidence: Calibration,
    /// Which of its answers say that the flow is of no class that was learned; none take all for
    /// known.
    pub unknown: Option<OpenSet>,
    /// Index of the lane that scores it.
    pub lane: usize,
}

impl Stage {
    /// A stage that waits so long for its packets, and is scored in the first lane.
    #[must_use]
    pub fn new(name: &str, features: Features, gate: Gate, wait_ns: u64) -> Self {
        Self {
            name: name.to_owned(),
            features,
            gate,
            degradation: Vec::new(),
            wait_ns,
            wants_window: false,
            confidence: Calibration::default(),
            unknown: None,
            lane: 0,
        }
    }

    /// The same, asked at the end of the window if it `wants` that: until then it waits.
    #[must_use]
    pub fn at_window_end(self, wants: bool) -> Self {
        let wait_ns = if wants { u64::MAX } else { self.wait_ns };
        Self { wait_ns, wants_window: wants, ..self }
    }

    /// The same without a gate, in the first lane: what it says of all flows that it is asked
    /// about.
    #[must_use]
    pub fn ungated(&self) -> Self {
        Self { gate: Gate::never(), degradation: Vec::new(), lane: 0, ..self.clone() }
    }

    /// Its gate at a level of degradation: 0 is its own, and beyond the last level there is none
    /// further.
    #[inline]
    #[must_use]
    pub fn gate_at(&self, level: u8) -> &Gate {
        match usize::from(level).min(self.degradation.len()) {
            0 => &self.gate,
            level => &self.degradation[level - 1],
        }
    }

    /// Packets that it wants.
    #[must_use]
    pub fn packets(&self) -> u16 {
        self.features.spec().packets
    }
}

/// All stages, in the order they are asked, and what their classes are called.
#[derive(Debug)]
pub struct Cascade {
    stages: Vec<Stage>,
    wants: Vec<Requirement>,
    labels: Vec<String>,
}

/// What a stage waits for: the little of it that is asked for each packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requirement {
    pub(super) packets: u16,
    pub(super) wait_ns: u64,
    pub(super) window: bool,
}

/// Why a list of stages is no cascade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CascadeError {
    /// There is no stage, or there are more than 255.
    StageCount(usize),
    /// There is no label, or there are more than 65,535.
    LabelCount(usize),
    /// A stage wants no packet.
    NoPackets(String),
    /// A stage wants fewer packets than the one before it.
    FewerPackets {
        /// Name of the stage.
        stage: String,
        /// Packets that it wants.
        packets: u16,
        /// Packets that the stage before it wants.
        before: u16,
    },
    /// A stage waits less long than the one before it, and would see fewer packets.
    ShorterWait {
        /// Name of the stage.
        stage: String,
        /// Its longest wait, nanoseconds.
        wait_ns: u64,
        /// Longest wait of the stage before it, nanoseconds.
        before: u64,
    },
    /// A per-class gate has not one threshold per label.
    Thresholds {
        /// Name of the stage.
        stage: String,
        /// Thresholds found.
        found: usize,
        /// Labels of the cascade.
        labels: usize,
    },
    /// A learned gate has no head, or one that leads to no later stage or takes other facts.
    Heads {
        /// Name of the stage.
        stage: String,
    },
}

impl fmt::Display for CascadeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StageCount(found) => write!(f, "expected 1 to 255 stages, found {found}"),
            Self::LabelCount(found) => write!(f, "expected 1 to 65535 labels, found {found}"),
            Self::NoPackets(stage) => {
                write!(f, "stage `{stage}`: expected at least 1 packet, found 0")
            }
            Self::FewerPackets { stage, packets, before } => {
                write!(
                    f,
                    "stage `{stage}` wants {packets} packets, fewer than the {before} of the stage \
                     before it"
                )
            }
            Self::ShorterWait { stage, wait_ns, before } => {
                let (wait, before) = (wait_ns / 1_000_000, before / 1_000_000);
                write!(
                    f,
                    "stage `{stage}` waits {wait} ms, less than the {before} ms of the stage \
                     before it"
                )
            }
            Self::Thresholds { stage, found, labels } => {
                write!(
                    f,
                    "stage `{stage}`: expected a threshold for each of {labels} labels, found \
                     {found}"
                )
            }
            Self::Heads { stage } => write!(
                f,
                "stage `{stage}`: expected at least one head in its gate, each with the inputs of \
                 this cascade, a later stage as its target and a finite cost"
            ),
        }
    }
}

impl std::error::Error for CascadeError {}

impl Cascade {
    /// Checks and keeps a list of stages.
    ///
    /// # Errors
    /// When the stages cannot be asked one after the other; see [`CascadeError`].
    pub fn new(stages: Vec<Stage>, labels: Vec<String>) -> Result<Self, CascadeError> {
        if stages.is_empty() || stages.len() > usize::from(u8::MAX) {
            return Err(CascadeError::StageCount(stages.len()));
        }
        if labels.is_empty() || labels.len() > usize::from(u16::MAX) {
            return Err(CascadeError::LabelCount(labels.len()));
        }
        let mut before = (0, 0);
        for stage in &stages {
            check(stage, before, labels.len())?;
            before = (stage.packets(), stage.wait_ns);
        }
        for index in 0..stages.len() {
            check_heads(&stages, index, labels.len())?;
        }
        let want = |stage: &Stage| Requirement {
            packets: stage.packets(),
            wait_ns: stage.wait_ns,
            window: stage.wants_window,
        };
        let wants = stages.iter().map(want).collect();
        Ok(Self { stages, wants, labels })
    }

    /// What a stage waits for.
    #[inline]
    pub(super) fn want(&self, stage: u8) -> Requirement {
        self.wants[usize::from(stage)]
    }

    /// The stages, in the order they are asked.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The labels, by index.
    #[must_use]
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Levels of degradation: how often its gates can be loosened.
    #[must_use]
    pub fn degradation_levels(&self) -> u8 {
        self.stages.iter().map(|stage| stage.degradation.len()).max().unwrap_or(0) as u8
    }

    /// Packets that the deepest stage wants.
    #[must_use]
    pub fn depth(&self) -> u16 {
        self.wants.last().map_or(0, |want| want.packets)
    }
}

/// Holds a stage to the packets and the wait of the one before it.
fn check(stage: &Stage, before: (u16, u64), labels: usize) -> Result<(), CascadeError> {
    let name = || stage.name.clone();
    let packets = stage.packets();
    if packets == 0 {
        return Err(CascadeError::NoPackets(name()));
    }
    if packets < before.0 {
        return Err(CascadeError::FewerPackets { stage: name(), packets, before: before.0 });
    }
    if stage.wait_ns < before.1 {
        let (wait_ns, before) = (stage.wait_ns, before.1);
        return Err(CascadeError::ShorterWait { stage: name(), wait_ns, before });
    }
    match &stage.gate {
        Gate::Uncertainty { threshold: Threshold::PerClass(all), .. } if all.len() != labels => {
            Err(CascadeError::Thresholds { stage: name(), found: all.len(), labels })
        }
        _ => Ok(()),
    }
}

/// Holds a learned gate to the stages that follow it.
fn check_heads(stages: &[Stage], index: usize, labels: usize) -> Result<(), CascadeError> {
    let gates = std::iter::once(&stages[index].gate).chain(&stages[index].degradation);
    gates.into_iter().try_for_each(|gate| check_gate_heads(stages, index, gate, labels))
}

fn check_gate_heads(
    stages: &[Stage],
    index: usize,
    gate: &Gate,
    labels: usize,
) -> Result<(), CascadeError> {
    let Gate::Learned(deferral) = gate else { return Ok(()) };
    let leads_on = |to: usize| to > index && to < stages.len();
    let fits = |head: &Head| {
        leads_on(head.to)
            && head.price.is_finite()
            && (head.model.shape(), head.model.classes()) == (facts_shape(labels), OUTCOMES)
    };
    if deferral.heads().is_empty() || !deferral.heads().iter().all(fits) {
        return Err(CascadeError::Heads { stage: stages[index].name.clone() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::layout::HeaderLayout;
    use crate::features::{FeatureSpec, MaskSet};

    fn stage(packets: u16, wait_ms: u64) -> Stage {
        let spec = FeatureSpec {
            encoders: vec!["packet_series".to_owned()],
            packets,
            layout: HeaderLayout::default(),
            masks: MaskSet::default(),
        };
        let features = Features::new(&spec).unwrap();
        Stage::new(&format!("at {packets}"), features, Gate::never(), wait_ms * 1_000_000)
    }

    fn refusal(stages: Vec<Stage>) -> String {
        Cascade::new(stages, vec!["a".to_owned(), "b".to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn stages_that_cannot_follow_each_other_are_refused_in_words() {
        assert_eq!(refusal(Vec::new()), "expected 1 to 255 stages, found 0");
        let fewer = refusal(vec![stage(5, 10), stage(3, 10)]);
        assert_eq!(fewer, "stage `at 3` wants 3 packets, fewer than the 5 of the stage before it");
        let shorter = refusal(vec![stage(3, 300), stage(5, 50)]);
        assert_eq!(
            shorter,
            "stage `at 5` waits 50 ms, less than the 300 ms of the stage before it"
        );
        assert!(refusal(vec![stage(0, 1)]).contains("at least 1 packet"));
        let mut odd = stage(1, 1);
        let threshold = Threshold::PerClass(vec![0.5]);
        odd.gate = Gate::Uncertainty { measure: crate::gate::Uncertainty::Margin, threshold };
        assert!(refusal(vec![odd]).contains("each of 2 labels, found 1"));
        assert!(Cascade::new(vec![stage(1, 5), stage(1, 5)], vec!["a".to_owned()]).is_ok());
    }
}
