//! A plan's report in words and tables, part by part: the page and the text tell the same.

mod choice;
mod data;
mod grids;
mod headline;
#[cfg(test)]
pub(crate) mod sample;
mod trust;
mod unknown;

pub(crate) use data::counts;
pub(crate) use grids::confusion_heads;
pub(crate) use headline::{headline, highlights, title};

use serveflow_train::planner::report::{Choice, PlanReport, Single};
use serveflow_train::planner::rules::RuleReport;

/// A table: heads (a line end breaks one), then rows.
pub(crate) struct Grid {
    pub(crate) heads: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Grid {
    fn new(heads: &[&str], rows: Vec<Vec<String>>) -> Self {
        Self { heads: heads.iter().map(|&head| head.to_owned()).collect(), rows }
    }
}

/// What a part shows beside its words; a page draws it, a text tells it in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Macro-F1 against latency.
    Front,
    /// Macro-F1 against the escalated share, by rule.
    Rules,
    /// Answers by true class.
    Confusion,
    /// The distribution of latency.
    Latency,
    /// Time of a core per flow.
    Cost,
}

/// A part of the report.
pub(crate) struct Part {
    pub(crate) title: &'static str,
    /// What is to be seen, in a sentence or two.
    pub(crate) said: String,
    pub(crate) figure: Option<Figure>,
    /// Tables, the first one first.
    pub(crate) grids: Vec<Grid>,
    /// What else is to be said, a line each.
    pub(crate) notes: Vec<String>,
}

/// All parts in the order they are read.
pub(crate) fn parts(report: &PlanReport) -> Vec<Part> {
    let mut parts = vec![chosen(report)];
    parts.extend(data::warnings(report));
    parts.extend(trust::guarantee(report));
    parts.extend([
        front(report),
        singles(report),
        rules(report),
        classes(report),
        confusion(report),
        latency(report),
        cost(report),
        checks(report),
    ]);
    parts.extend(trust::reliability(report));
    parts.extend(unknown::unknown(report));
    parts.extend(data::data(report));
    parts
}

/// Where a flow's figures are from, at the end: nothing here is for a decision.
pub(crate) fn provenance(report: &PlanReport) -> Part {
    Part {
        title: "Where this is from",
        said: "Inputs and settings that reproduce this plan, and data that it did not use."
            .to_owned(),
        figure: None,
        grids: vec![grids::provenance(report)],
        notes: Vec::new(),
    }
}

fn chosen(report: &PlanReport) -> Part {
    let mut grids = vec![choice::stages(report, &report.chosen), choice::figures(report)];
    grids.extend(choice::limits(report));
    let mut notes = report.reasons.clone();
    notes.push(choice::rule(&report.chosen));
    Part {
        title: "The chosen plan",
        said: "The first stage scores every flow; the rule accepts its label or escalates the \
               flow. The first table lists the stages with their shares of the test flows, the \
               second compares the plan."
            .to_owned(),
        figure: None,
        grids,
        notes,
    }
}

fn front(report: &PlanReport) -> Part {
    Part {
        title: "Macro-F1 against latency",
        said: format!(
            "Up and to the left is better: each point is a single model, the line is the best that \
             cascades reach, both on the calibration flows that the plan was chosen by. The line \
             has {} of {} operating points of {} cascades.",
            report.front.len(),
            report.searched.1,
            report.searched.0
        ),
        figure: Some(Figure::Front),
        grids: Vec::new(),
        notes: Vec::new(),
    }
}

fn singles(report: &PlanReport) -> Part {
    Part {
        title: "Single models",
        said: "Every candidate alone, by the packets that it uses: latency is on the test flows, \
               from a flow's first packet; compute is the median wall time of inference; \
               candidates marked * are stages of cascades."
            .to_owned(),
        figure: None,
        grids: vec![grids::singles(report)],
        notes: Vec::new(),
    }
}

fn rules(report: &PlanReport) -> Part {
    let shown = !report.rules.is_empty();
    Part {
        title: "Which flows are escalated",
        said: if shown {
            "Each rule escalates the flows of the highest uncertainty from a fast model to a slow \
             one: the higher its line at a share, the better it selects, on the test flows. Random \
             selects at random, the oracle knows the true labels; gap closed is the share of the \
             area between these two that lies below a rule's line."
        } else {
            "No rules were compared: it takes learned gates and a fast model that is not the best \
             one."
        }
        .to_owned(),
        figure: shown.then_some(Figure::Rules),
        grids: if shown { grids::rules(report) } else { Vec::new() },
        notes: Vec::new(),
    }
}

fn classes(report: &PlanReport) -> Part {
    Part {
        title: "Class by class",
        said: format!(
            "How well each class is named on the test flows, and the F1 of {}, the best single \
             model.",
            best(report)
        ),
        figure: None,
        grids: vec![grids::classes(report)],
        notes: Vec::new(),
    }
}

fn confusion(report: &PlanReport) -> Part {
    Part {
        title: "What is taken for what",
        said: "Test flows by true class (rows) and predicted class (columns, numbered as the \
               rows): the diagonal is correct, and the darker a cell, the larger its share of the \
               row."
            .to_owned(),
        figure: Some(Figure::Confusion),
        grids: Vec::new(),
        notes: grids::worst_confusions(report),
    }
}

fn latency(report: &PlanReport) -> Part {
    Part {
        title: "Latency of the flows",
        said: "Share of the test flows with a label within a time of their first packet: \
               collection until the deciding stage, and compute."
            .to_owned(),
        figure: Some(Figure::Latency),
        grids: vec![grids::latency(report)],
        notes: Vec::new(),
    }
}

fn cost(report: &PlanReport) -> Part {
    Part {
        title: "Where time goes, per flow",
        said: "Nanoseconds of a core that a test flow takes on average: its packets read and \
               looked up, each stage (by the share of flows that it scores), and the learned gates."
            .to_owned(),
        figure: Some(Figure::Cost),
        grids: vec![grids::cost(report)],
        notes: grids::collection(report),
    }
}

fn checks(report: &PlanReport) -> Part {
    let broken = report.checks.iter().filter(|check| !check.holds).count();
    let said = match (report.checks.len(), broken) {
        (0, _) => "The plan was not run: nothing was measured to hold against what it predicts."
            .to_owned(),
        (all, 0) => {
            format!("What the planner predicts beside what a run measured: all {all} hold.")
        }
        (all, 1) => {
            format!(
                "What the planner predicts beside what a run measured: 1 of {all} does not hold."
            )
        }
        (all, broken) => format!(
            "What the planner predicts beside what a run measured: {broken} of {all} do not hold."
        ),
    };
    let grids = (!report.checks.is_empty()).then(|| grids::checks(report));
    Part {
        title: "Predicted and measured",
        said,
        figure: None,
        grids: grids.into_iter().collect(),
        notes: Vec::new(),
    }
}

/// A pair of models is compared once, however often it is told.
pub(crate) fn pairs(report: &PlanReport) -> Vec<&RuleReport> {
    let mut pairs: Vec<&RuleReport> = Vec::new();
    for one in &report.rules {
        if !pairs.iter().any(|seen| seen.fast == one.fast && seen.slow == one.slow) {
            pairs.push(one);
        }
    }
    pairs
}

/// The best single model's name.
pub(crate) fn best(report: &PlanReport) -> String {
    report.best_single.stages.join(" > ")
}

/// A candidate by name.
pub(crate) fn single<'a>(report: &'a PlanReport, name: &str) -> Option<&'a Single> {
    report.singles.iter().find(|single| single.name == name)
}

/// What packets are read and looked up for, nanoseconds per flow: what is neither stage nor gate.
pub(crate) fn idle_ns(choice: &Choice) -> f64 {
    let test = &choice.test;
    (test.cpu_ns - test.stage_ns.iter().sum::<f64>() - test.gate_ns).max(0.0)
}

/// Plans side by side: the chosen one, the runner-up, the best single model.
pub(crate) fn compared(report: &PlanReport) -> Vec<(String, &Choice)> {
    let runner_up = report.runner_up.iter().map(|other| ("runner-up".to_owned(), other));
    std::iter::once(("chosen".to_owned(), &report.chosen))
        .chain(runner_up)
        .chain([(format!("{} alone", best(report)), &report.best_single)])
        .collect()
}
