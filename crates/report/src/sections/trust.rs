//! What can be relied on: the guarantee, and the probabilities.

use super::{Grid, Part};
use crate::number_format::{grouped, percent, round, score};
use serveflow_train::planner::guarantee::{Granted, name};
use serveflow_train::planner::report::{PlanReport, StageReliability};

/// What became of the guarantee; none where none was asked for.
pub(super) fn guarantee(report: &PlanReport) -> Option<Part> {
    let own = report.guarantee.as_ref()?;
    let asked = format!(
        "Requested: {} at most {} below that of {} alone, with {} confidence",
        spoken(own),
        own.guarantee.tolerated,
        own.slow,
        percent(own.guarantee.confidence)
    );
    let said = if own.granted {
        format!(
            "{asked}. The plan guarantees it: over draws of the calibration flows, such a \
             guarantee is broken in at most {} of the cases.",
            percent(1.0 - own.guarantee.confidence)
        )
    } else {
        format!(
            "{asked}. The plan guarantees nothing: {} calibration flows cannot support it, so that \
             all flows go to the slow model.",
            grouped(own.flows as f64)
        )
    };
    let rows = vec![
        vec!["calibration flows that it was tested on".to_owned(), grouped(own.flows as f64)],
        vec!["loss on these flows at the cost of the plan".to_owned(), score(own.measured)],
        vec!["smallest loss that they could support at it".to_owned(), score(own.smallest)],
    ];
    Some(Part {
        title: "The guarantee",
        said,
        figure: None,
        grids: vec![Grid::new(&["", ""], rows)],
        notes: vec![format!("Assumed: {}.", own.assumptions)],
    })
}

fn spoken(own: &Granted) -> String {
    name(own.guarantee.loss).replace("macro_f1", "macro-F1")
}

/// How far the stages' probabilities can be believed; none where that was not judged.
pub(super) fn reliability(report: &PlanReport) -> Option<Part> {
    let first = report.reliability.first()?;
    let row = |one: &StageReliability| {
        let own = &one.reliability;
        vec![
            one.stage.clone(),
            score(own.ece_raw),
            score(own.ece_temperature),
            score(own.ece_isotonic),
            round(own.temperature),
            score(own.brier_raw),
            score(own.nll_raw),
            score(one.verdicts_ece.0),
            format!(
                "{} ({})",
                score(one.verdicts_ece.1),
                if one.calibrated { "isotonic" } else { "raw" }
            ),
        ]
    };
    let heads = [
        "stage",
        "calibration error\nuncalibrated",
        "calibration error\nby temperature",
        "calibration error\nby isotonic regr.",
        "temperature",
        "Brier score",
        "log-loss\nnats",
        "verdicts' error\nuncalibrated",
        "verdicts' error\nas written",
    ];
    Some(Part {
        title: "How far probabilities can be believed",
        said: format!(
            "Expected calibration error is the distance between a stage's confidence and its share \
             of correct labels, on {} test flows: 0.05 means that 90 % is 85 % or 95 %. \
             Temperature (over 1 where a stage is overconfident) and isotonic regression were \
             fitted on the calibration split. The last two columns are of the flows that the stage \
             decides: where it makes the error smaller, the plan calibrates the confidence of its \
             verdicts by isotonic regression.",
            grouped(first.reliability.flows as f64)
        ),
        figure: None,
        grids: vec![Grid::new(&heads, report.reliability.iter().map(row).collect())],
        notes: Vec::new(),
    })
}
