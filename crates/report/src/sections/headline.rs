//! The report in one paragraph, for a reader who reads nothing else.

use super::best;
use crate::number_format::{grouped, percent, score, time, times};
use serveflow_train::planner::report::PlanReport;
use serveflow_train::planner::search::SearchOutcome;

/// The title.
pub(crate) fn title(report: &PlanReport) -> String {
    match report.task.trim() {
        "" => "Plan of a cascade".to_owned(),
        task => format!("Plan of a cascade: {task}"),
    }
}

/// What was planned, what it gives on the test flows, and whether the limits are kept.
pub(crate) fn headline(report: &PlanReport) -> String {
    let (chosen, single) = (&report.chosen.test, &report.best_single.test);
    if report.classes.iter().all(|class| class.flows == 0) {
        return format!(
            "{} There are no test flows: its quality on flows that it was not chosen by is not \
             measured. {}",
            planned(report),
            kept(report)
        );
    }
    format!(
        "{} On {} test flows its macro-F1 is {}, {} {} of {}, the best single model. Its median \
         latency is {}, {}; {} of the flows are decided within 16 ms ({} by the single model \
         alone; most of a wait is for packets, not for models), and by the planner's figures a \
         core serves {} flows/s. {}",
        planned(report),
        grouped(report.classes.iter().map(|class| class.flows).sum::<u64>() as f64),
        score(chosen.macro_f1),
        against(chosen.macro_f1 - single.macro_f1),
        score(single.macro_f1),
        best(report),
        time(chosen.p50_us),
        faster(chosen.p50_us, single.p50_us),
        percent(chosen.share_under_16ms),
        percent(single.share_under_16ms),
        grouped(chosen.flows_per_s),
        kept(report),
    )
}

/// The figures that are asked for first, each with what it is.
pub(crate) fn highlights(report: &PlanReport) -> Vec<(String, String)> {
    let (chosen, single) = (&report.chosen.test, &report.best_single.test);
    let tile = |value: String, what: String| (value, what);
    vec![
        tile(
            score(chosen.macro_f1),
            format!("macro-F1; {} {}", best(report), score(single.macro_f1)),
        ),
        tile(
            time(chosen.p50_us),
            format!("median latency; {} {}", best(report), time(single.p50_us)),
        ),
        tile(
            format!("{}x", times(single.p50_us / chosen.p50_us)),
            "lower median latency".to_owned(),
        ),
        tile(percent(chosen.share_under_16ms), "of the flows under 16 ms".to_owned()),
        tile(grouped(chosen.flows_per_s), "flows/s per core".to_owned()),
        match &report.verdict {
            SearchOutcome::Met => {
                tile("met".to_owned(), "all limits, on calibration flows".to_owned())
            }
            SearchOutcome::Barely => {
                tile("barely".to_owned(), "all limits are kept, maybe by luck".to_owned())
            }
            SearchOutcome::NotMet { .. } => {
                tile("not met".to_owned(), "not every limit".to_owned())
            }
        },
    ]
}

fn planned(report: &PlanReport) -> String {
    let what = match report.task.trim() {
        "" => "the flows' classes".to_owned(),
        task => task.to_owned(),
    };
    let stages = &report.chosen.stages;
    let count =
        if stages.len() == 1 { "one stage".to_owned() } else { format!("{} stages", stages.len()) };
    let classes = report.classes.len();
    let noun = if classes == 1 { "class" } else { "classes" };
    format!(
        "To name {what} ({classes} {noun}), a plan of {count} was chosen: {}.",
        stages.join(" > ")
    )
}

fn against(difference: f64) -> String {
    match format!("{:.4}", difference.abs()).as_str() {
        _ if !difference.is_finite() => "against".to_owned(),
        "0.0000" => "the same as the".to_owned(),
        by if difference > 0.0 => format!("{by} above the"),
        by => format!("{by} below the"),
    }
}

fn faster(chosen_us: f64, single_us: f64) -> String {
    let ratio = single_us / chosen_us;
    match ratio {
        ratio if !ratio.is_finite() => format!("against {}", time(single_us)),
        ratio if ratio >= 1.05 => {
            format!("{} times faster than its {}", times(ratio), time(single_us))
        }
        ratio if ratio > 0.95 => format!("as its {}", time(single_us)),
        ratio => format!("{} times slower than its {}", times(1.0 / ratio), time(single_us)),
    }
}

/// Whether the limits are kept, which binds, and whether the test flows agree.
fn kept(report: &PlanReport) -> String {
    let mut text = match (&report.verdict, report.escalate) {
        (_, Some(share)) => {
            format!("The objective was that {} of the flows reach the last stage.", percent(share))
        }
        (SearchOutcome::Met, None) => "On the calibration flows all limits are kept.".to_owned(),
        (SearchOutcome::Barely, None) => {
            "On the calibration flows all limits are kept, but on too few resamples of them."
                .to_owned()
        }
        (SearchOutcome::NotMet { binding }, None) => {
            let named: Vec<String> = binding.iter().map(ToString::to_string).collect();
            let binds = match named.len() {
                0 => "it takes several to be given up".to_owned(),
                1 => format!("the one that binds: {}", named[0]),
                _ => format!("each of these binds: {}", named.join("; ")),
            };
            format!("Not all limits are kept on the calibration flows; {binds}.")
        }
    };
    let loss = report.best_single.test.macro_f1 - report.chosen.test.macro_f1;
    if let Some(guarantee) = report.guarantee.as_ref().filter(|guarantee| !guarantee.granted) {
        text +=
            &format!(" The requested guarantee is not given: all flows go to {}.", guarantee.slow);
    }
    if report.escalate.is_none() && loss > report.limits.max_loss {
        text += &format!(
            " On the test flows, which the choice never saw, the loss of macro-F1 is {}: more than \
             the {} that was tolerated.",
            score(loss),
            report.limits.max_loss
        );
    }
    text
}
