//! The chosen plan in tables: its stages, its figures beside others', its limits.

use super::{Grid, compared, single};
use crate::number_format::{NONE, grouped, percent, round, score, time};
use serveflow_model::bundle::LEARNED;
use serveflow_train::planner::limits::{ConstraintStatus, Limit};
use serveflow_train::planner::replay::ReplayFigures;
use serveflow_train::planner::report::{Choice, PlanReport};

/// The stages in the order they are asked.
pub(super) fn stages(report: &PlanReport, choice: &Choice) -> Grid {
    let share = |shares: &[f64], at: usize| {
        shares.get(at).map_or_else(|| NONE.to_owned(), |&share| percent(share))
    };
    let row = |(at, name): (usize, &String)| {
        let own = single(report, name);
        let told =
            |spell: &dyn Fn(&super::Single) -> String| own.map_or_else(|| NONE.to_owned(), spell);
        vec![
            format!("{}. {name}", at + 1),
            told(&|own| own.packets.to_string()),
            told(&|own| {
                if own.packets == 1 { "none".to_owned() } else { format!("{} ms", own.wait_ms) }
            }),
            told(&|own| own.kind.clone()),
            share(&choice.test.reach, at),
            share(&choice.test.decided, at),
        ]
    };
    let rows = choice.stages.iter().enumerate().map(row).collect();
    let heads =
        ["stage", "packets", "waits\nat most", "model", "scored\nof flows", "decides\nof flows"];
    Grid::new(&heads, rows)
}

/// What passes flows on, in a sentence.
pub(super) fn rule(choice: &Choice) -> String {
    if choice.stages.len() < 2 {
        return "It has one stage: no flow is escalated.".to_owned();
    }
    if !choice.thresholds.is_empty() {
        let whose = match choice.thresholds.iter().all(|own| own.len() == 1) {
            true => "of the gate",
            false => "of the gate and the predicted class",
        };
        format!(
            "Rule: a flow is escalated where its {} is over the threshold {whose}.",
            choice.rule
        )
    } else if choice.rule == LEARNED {
        format!(
            "Rule: learned gates predict the gain of a later stage for a flow, which is escalated \
             where the gain exceeds its share of the cost {:.4}.",
            choice.price
        )
    } else {
        format!("Rule: a flow is escalated where its {} is over {:.4}.", choice.rule, choice.price)
    }
}

/// How a figure is told.
type Told = (&'static str, fn(&ReplayFigures) -> String);

/// The figures that plans are compared by.
const FIGURES: [Told; 11] = [
    ("macro-F1", |own| score(own.macro_f1)),
    ("accuracy", |own| percent(own.accuracy)),
    ("weighted F1", |own| score(own.weighted_f1)),
    ("latency, median", |own| time(own.p50_us)),
    ("latency, geometric mean", |own| time(own.geometric_us)),
    ("latency, mean", |own| time(own.mean_us)),
    ("latency, 99th percentile", |own| time(own.p99_us)),
    ("flows under 16 ms", |own| percent(own.share_under_16ms)),
    ("a core's time per flow", |own| format!("{} ns", grouped(own.cpu_ns))),
    ("flows/s per core", |own| grouped(own.flows_per_s)),
    ("waiting bytes per flow/s", |own| format!("{} B", grouped(own.waiting_bytes))),
];

/// The plan, the runner-up and the best single model on the test flows, and the plan where it was
/// chosen.
pub(super) fn figures(report: &PlanReport) -> Grid {
    let mut columns: Vec<(String, &ReplayFigures)> = compared(report)
        .into_iter()
        .map(|(name, choice)| (format!("{name}\ntest"), &choice.test))
        .collect();
    columns.push(("chosen\ncalibration".to_owned(), &report.chosen.val));
    columns.push(("chosen\nits split alone".to_owned(), &report.chosen.split));
    let row = |(what, spell): &Told| {
        let cells = columns.iter().map(|(_, figures)| spell(figures));
        std::iter::once((*what).to_owned()).chain(cells).collect()
    };
    let rows = FIGURES.iter().map(row).collect();
    let heads = std::iter::once(String::new()).chain(columns.iter().map(|(name, _)| name.clone()));
    Grid { heads: heads.collect(), rows }
}

/// How the limits stand; none when there are none.
pub(super) fn limits(report: &PlanReport) -> Option<Grid> {
    let standings = &report.chosen.standings;
    let row = |standing: &ConstraintStatus| {
        vec![
            standing.limit.to_string(),
            amount(standing.limit, standing.wanted),
            amount(standing.limit, standing.found),
            if standing.met { "met" } else { "not met" }.to_owned(),
        ]
    };
    let heads = ["limit\n(calibration flows)", "required", "found", "status"];
    (!standings.is_empty()).then(|| Grid::new(&heads, standings.iter().map(row).collect()))
}

fn amount(limit: Limit, value: f64) -> String {
    match limit {
        Limit::Loss | Limit::ClassLoss => score(value),
        Limit::P50 | Limit::P99 => format!("{} ms", round(value)),
        Limit::Rate => format!("{} flows/s", grouped(value)),
        Limit::Memory => format!("{} MiB", round(value)),
    }
}
