//! Gates and costs of a bundle that was put together by hand, from labelled captures.

use crate::calibrate::{Calibrated, Granularity, StageAnswers, Target, calibrate, gate_plan};
use crate::dataset::{Dataset, FlowInfo, RecordPlan, record};
use crate::pipeline::{PipelineError, filled};
use crate::scoring::{score_all, score_cost};
use serveflow_core::FlowConfig;
use serveflow_core::engine::Stage;
use serveflow_core::gate::Uncertainty;
use serveflow_core::lane::ScoreError;
use serveflow_core::rows::Rows;
use serveflow_io::SourceError;
use serveflow_label::{LabelBook, Split};
use serveflow_model::bundle::{Bundle, CalibrationPlan, CostPlan, LanePlan, Plan};

/// How gates are to be calibrated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// What the gates are calibrated for.
    pub target: Target,
    /// Doubt by which they decide.
    pub measure: Uncertainty,
    /// One threshold each, or one for each label.
    pub granularity: Granularity,
}

/// What calibration gave.
#[derive(Debug)]
pub struct Recalibrated {
    /// The thresholds, and what they gave on the calibration flows.
    pub calibrated: Calibrated,
    /// What scoring costs, by stage.
    pub costs: Vec<CostPlan>,
    /// Calibration flows.
    pub flows: u64,
}

/// Why a bundle cannot be calibrated.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecalibrateError {
    /// The captures gave no calibration flows.
    Pipeline(PipelineError),
    /// A label of the captures is none of the bundle's.
    Label {
        /// The label.
        found: String,
    },
    /// A stage's model failed.
    Score {
        /// The stage.
        stage: String,
        /// Why.
        message: String,
    },
}

impl std::fmt::Display for RecalibrateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pipeline(error) => error.fmt(f),
            Self::Label { found } => {
                write!(f, "label `{found}` of the captures is none of the bundle's labels")
            }
            Self::Score { stage, message } => write!(f, "stage `{stage}`: {message}"),
        }
    }
}

impl std::error::Error for RecalibrateError {}

/// The calibration flows of a bundle: what each stage sees of them, and what they are.
#[derive(Debug)]
pub struct CalibrationFlows {
    /// A row for each flow, by stage.
    pub rows: Vec<Rows>,
    /// Their labels, by the bundle's order.
    pub truth: Vec<u16>,
    /// All flows of the captures at the stage that was asked for, beside those that calibrate.
    pub all: Option<AllFlows>,
    /// Damaged captures.
    pub damaged: Vec<SourceError>,
}

/// All flows of the captures, as a stage sees them.
#[derive(Debug)]
pub struct AllFlows {
    /// The flows, in the order in which a table of features has them; labels are in the bundle's
    /// order.
    pub flows: Vec<FlowInfo>,
    /// A row for each.
    pub rows: Rows,
}

/// Records the calibration flows for each stage of a bundle, and all flows for one stage if that is
/// wanted.
///
/// # Errors
/// When there are no calibration flows, or one has a label that the bundle does not know.
pub fn calibration_flows(
    book: &LabelBook,
    bundle: &Bundle,
    all_of: Option<usize>,
) -> Result<CalibrationFlows, RecalibrateError> {
    let labels = &bundle.plan.labels;
    if let Some(found) = book.labels.iter().find(|label| !labels.contains(label)) {
        return Err(RecalibrateError::Label { found: found.clone() });
    }
    let stages = bundle.cascade.stages();
    let flows = bundle.flow_config();
    let (mut rows, mut all) = (Vec::new(), None);
    let (mut truth, mut damaged) = (Vec::new(), Vec::new());
    // Stages that wait as long see their packets in one recording.
    for (first, group) in groups(stages) {
        let mut dataset = recorded(book, group, flows).map_err(RecalibrateError::Pipeline)?;
        let val = filled(&dataset, Split::Val).map_err(RecalibrateError::Pipeline)?;
        rows.extend((0..group.len()).map(|at| dataset.rows_of(at, &val)));
        let own = dataset.labels_of(&val);
        let name = |label: &u16| &dataset.labels[usize::from(*label)];
        let at =
            |label: &u16| labels.iter().position(|known| known == name(label)).unwrap_or(0) as u16;
        truth = own.iter().map(at).collect();
        if let Some(stage) = all_of.and_then(|all_of| all_of.checked_sub(first))
            && stage < group.len()
        {
            let names = std::mem::take(&mut dataset.labels);
            let known = |name: &String| labels.iter().position(|known| known == name);
            let known: Vec<Option<usize>> = names.iter().map(known).collect();
            let own = |label: u16| known[usize::from(label)].map(|at| at as u16);
            dataset.flows.iter_mut().for_each(|flow| flow.label = flow.label.and_then(own));
            let rows = std::mem::take(&mut dataset.rows[stage]);
            all = Some(AllFlows { flows: std::mem::take(&mut dataset.flows), rows });
        }
        damaged = dataset.damaged;
    }
    Ok(CalibrationFlows { rows, truth, all, damaged })
}

/// Scores the calibration flows with each stage's model, and finds the thresholds of all gates but
/// the last.
///
/// # Errors
/// When a model fails.
pub fn recalibrate(
    flows: &CalibrationFlows,
    bundle: &Bundle,
    wanted: Wanted,
    wall: &mut dyn FnMut() -> u64,
) -> Result<Recalibrated, RecalibrateError> {
    let (mut answers, mut costs) = (Vec::new(), Vec::new());
    for (at, stage) in bundle.cascade.stages().iter().enumerate() {
        let (model, rows) = (bundle.models[at].as_ref(), &flows.rows[at]);
        let failed = |error: ScoreError| RecalibrateError::Score {
            stage: stage.name.clone(),
            message: error.message,
        };
        let scores = score_all(model, rows).map_err(failed)?;
        answers.push(StageAnswers::new(stage.packets(), wanted.measure, &scores, rows.len()));
        costs.push(score_cost(model, rows, wall).map_err(failed)?);
    }
    let labels = bundle.plan.labels.len();
    let (target, granularity) = (wanted.target, wanted.granularity);
    let calibrated = calibrate(&answers, &flows.truth, labels, target, granularity);
    Ok(Recalibrated { calibrated, costs, flows: flows.truth.len() as u64 })
}

/// Neighbouring stages that wait equally long, each group with the index of its first.
fn groups(stages: &[Stage]) -> impl Iterator<Item = (usize, &[Stage])> {
    let alike = |a: &Stage, b: &Stage| {
        a.wait_ns == b.wait_ns || a.wants_window == b.wants_window && a.wants_window
    };
    let mut first = 0;
    stages.chunk_by(alike).map(move |group| {
        let start = first;
        first += group.len();
        (start, group)
    })
}

fn recorded(
    book: &LabelBook,
    stages: &[Stage],
    flows: FlowConfig,
) -> Result<Dataset, PipelineError> {
    let plan = RecordPlan {
        specs: stages.iter().map(|stage| stage.features.spec().clone()).collect(),
        wait_ns: stages[0].wait_ns,
        of_window: stages.iter().filter(|stage| stage.wants_window).count(),
        flows,
    };
    record(book, &plan, &mut |_| {}).map_err(PipelineError::Record)
}

impl Recalibrated {
    /// Writes gates, costs and lanes into the plan that they were found for; the lanes of some
    /// stages are kept.
    pub fn write(
        &self,
        plan: &mut Plan,
        wanted: Wanted,
        rule: &LanePlan,
        keep_lane: &dyn Fn(usize) -> bool,
    ) {
        let gates = plan.stages.len().saturating_sub(1);
        for index in 0..plan.stages.len() {
            let gate = (index < gates).then(|| {
                let calibrated = &self.calibrated;
                let calibration = CalibrationPlan {
                    target: wanted.target.words(),
                    flows: self.flows,
                    escalated: calibrated.escalated[index],
                    cascade_macro_f1: calibrated.cascade_macro_f1,
                    slow_macro_f1: calibrated.slow_macro_f1,
                };
                let threshold = &calibrated.thresholds[index];
                gate_plan(&plan.labels, wanted.measure, threshold, calibration)
            });
            let stage = &mut plan.stages[index];
            stage.gate = gate;
            stage.confidence.clear();
            stage.unknown = None;
            stage.cost = Some(self.costs[index]);
            if !keep_lane(index) {
                rule.lane(&self.costs[index]).clone_into(&mut stage.lane);
            }
        }
        plan.guarantee = None;
        // The levels loosen the gates that are replaced here.
        plan.degradation.clear();
        // Which flows reach a stage depends on the gates.
        plan.drift = None;
        plan.lane_rule = Some(*rule);
    }
}
