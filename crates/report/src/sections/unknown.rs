//! Flows of no class that was learned: the rules, what they cost known flows, how well they tell
//! new classes.

use super::{Grid, Part};
use crate::number_format::{NONE, grouped, percent, score};
use serveflow_train::open_set::{ClassUnknown, HeldOut, HeldOutClass, OpenSetReport, StageUnknown};
use serveflow_train::planner::report::PlanReport;

/// The open-set rules; none where none were asked for.
pub(super) fn unknown(report: &PlanReport) -> Option<Part> {
    let own = report.unknown.as_ref()?;
    let mut grids = vec![stages(own), classes(own)];
    grids.extend(own.held_out.as_ref().map(held_out));
    Some(Part {
        title: "Flows of no known class",
        said: said(own),
        figure: None,
        grids,
        notes: notes(own),
    })
}

fn said(own: &OpenSetReport) -> String {
    let told = own.held_out.as_ref().map_or_else(
        || "The detection of new classes was not measured.".to_owned(),
        |held| {
            let best = held.best();
            format!(
                "For {} classes that were held out of {}, one by one, it separates their flows \
                 from those of the others with a mean AUROC of {} on the test flows (0.5 is \
                 chance).",
                held.classes.len(),
                held.stage,
                score(held.test[best])
            )
        },
    );
    format!(
        "A verdict is \"unknown\" where the {} of the deciding stage's scores is over its \
         threshold. Of the test flows, which are all of known classes, {} are called unknown; at \
         most {} of those of a stage should be. Accuracy among the others is {}; of those called \
         unknown {} have the right nearest label. {told}",
        own.score.replace('_', " "),
        percent(own.test),
        percent(own.rate),
        percent(own.accuracy_rest),
        percent(own.accuracy_unknown),
    )
}

fn stages(own: &OpenSetReport) -> Grid {
    let row = |stage: &StageUnknown| {
        let flows = |(flows, _): (u64, f64)| grouped(flows as f64);
        let unknown = |(_, share): (u64, f64)| percent(share);
        vec![
            stage.stage.clone(),
            stage.threshold.map_or_else(|| NONE.to_owned(), |most| score(f64::from(most))),
            flows(stage.val),
            unknown(stage.val),
            flows(stage.test),
            unknown(stage.test),
        ]
    };
    let heads = [
        "stage",
        "threshold",
        "decides of the\ncalibration split",
        "of these\nunknown",
        "decides of the\ntest flows",
        "of these\nunknown",
    ];
    Grid::new(&heads, own.stages.iter().map(row).collect())
}

fn classes(own: &OpenSetReport) -> Grid {
    let row = |class: &ClassUnknown| {
        vec![class.label.clone(), grouped(class.flows as f64), percent(class.unknown)]
    };
    let heads = ["known class", "test\nflows", "called\nunknown"];
    Grid::new(&heads, own.classes.iter().map(row).collect())
}

fn held_out(held: &HeldOut) -> Grid {
    let best = held.best();
    let row = |class: &HeldOutClass| {
        let areas = class.test.iter().map(|&area| score(area));
        let name = [class.label.clone(), grouped(class.flows as f64)];
        let told = [percent(class.caught[best]), percent(class.false_unknown[best])];
        name.into_iter().chain(areas).chain(told).collect::<Vec<_>>()
    };
    let mean = |of: fn(&HeldOutClass) -> &Vec<f64>| {
        let sum: f64 = held.classes.iter().map(|class| of(class)[best]).sum();
        percent(sum / held.classes.len().max(1) as f64)
    };
    let line = |name: &str, areas: &[f64]| {
        let areas = areas.iter().map(|&area| score(area));
        [name.to_owned(), String::new()].into_iter().chain(areas).collect::<Vec<_>>()
    };
    let mut rows: Vec<Vec<String>> = held.classes.iter().map(row).collect();
    let mut last = line("mean", &held.test);
    last.extend([mean(|class| &class.caught), mean(|class| &class.false_unknown)]);
    let mut chosen_by = line("mean, calibration", &held.val);
    chosen_by.extend([NONE.to_owned(), NONE.to_owned()]);
    rows.extend([last, chosen_by]);
    let scores = held.scores.iter().map(|name| format!("AUROC\n{}", name.replace('_', "\n")));
    let heads = ["class that was\nheld out".to_owned(), "test\nflows".to_owned()].into_iter();
    let told = ["called\nunknown".to_owned(), "others called\nunknown".to_owned()];
    Grid { heads: heads.chain(scores).chain(told).collect(), rows }
}

fn notes(own: &OpenSetReport) -> Vec<String> {
    let mut notes = Vec::new();
    for stage in own.stages.iter().filter(|stage| stage.threshold.is_none()) {
        notes.push(format!(
            "{} has no rule: it decides {} flows of the calibration split, and a rate of {} takes \
             {} or more.",
            stage.stage,
            grouped(stage.val.0 as f64),
            percent(own.rate),
            grouped((1.0 / own.rate - 1.0).ceil())
        ));
    }
    if let Some(held) = &own.held_out {
        notes.push(format!(
            "{} of {} classes were held out, each by a training of {} without it; the score of the \
             best mean AUROC on the calibration split was chosen ({}).",
            held.classes.len(),
            held.of,
            held.stage,
            own.score.replace('_', " ")
        ));
    }
    notes.push(format!(
        "Assumed: a flow to come is exchangeable with the flows of the calibration split that its \
         stage decides; then it is called unknown with a probability of at most {}, over the draw \
         of both. Flows of one capture are alike, and where stages or prices were chosen by the \
         same split, that is only nearly so.",
        percent(own.rate)
    ));
    notes
}
