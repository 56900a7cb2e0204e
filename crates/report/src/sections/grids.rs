//! Tables of the report's parts.

use super::{Grid, compared, idle_ns, pairs, single};
use crate::number_format::{NONE, grouped, percent, round, score, time};
use serveflow_train::planner::report::{
    Check, Choice, ClassLine, LatencyCurve, PlanReport, Single,
};
use serveflow_train::planner::rules::{RuleCurve, RuleReport};

/// Confusions that are told in words, at most.
const MOST_TOLD: usize = 5;

/// Every candidate, by the packets that it sees.
pub(super) fn singles(report: &PlanReport) -> Grid {
    let mut order: Vec<&Single> = report.singles.iter().collect();
    order.sort_by_key(|single| (single.packets, single.wait_ms));
    let row = |own: &&Single| {
        vec![
            format!("{}{}", own.name, if own.on_front { " *" } else { "" }),
            own.packets.to_string(),
            score(own.val.macro_f1),
            score(own.test.macro_f1),
            time(own.test.p50_us),
            time(own.test.geometric_us),
            format!("{:.1}", own.compute_us),
            grouped(own.score_ns.0),
            grouped(own.score_ns.1),
            grouped(own.test.cpu_ns),
            format!("{:.1}", own.train_s),
        ]
    };
    let heads = [
        "model",
        "packets",
        "macro-F1\ncalibration",
        "macro-F1\ntest",
        "latency\nmedian",
        "latency\ngeom. mean",
        "computing\nus",
        "scoring of 64\nns/flow",
        "scoring alone\nns/flow",
        "core in all\nns/flow",
        "training\ns",
    ];
    Grid::new(&heads, order.iter().map(row).collect())
}

/// What each rule needs, and the gap that it closes, by pair of models.
pub(super) fn rules(report: &PlanReport) -> Vec<Grid> {
    let pairs = pairs(report);
    let mut rules: Vec<&str> = Vec::new();
    for curve in pairs.iter().flat_map(|pair| &pair.curves) {
        if !rules.contains(&curve.rule.as_str()) {
            rules.push(&curve.rule);
        }
    }
    let grid = |head: &str, told: &dyn Fn(&RuleCurve) -> String| {
        let row = |pair: &&RuleReport| {
            let cell = |rule: &&str| {
                let own = pair.curves.iter().find(|curve| curve.rule == **rule);
                own.map_or_else(|| NONE.to_owned(), told)
            };
            let name = format!("{} > {}", pair.fast, pair.slow);
            std::iter::once(name).chain(rules.iter().map(cell)).collect()
        };
        let heads = rules.iter().map(|rule| words(rule).replace(' ', "\n"));
        let heads = std::iter::once(head.to_owned()).chain(heads).collect();
        Grid { heads, rows: pairs.iter().map(row).collect() }
    };
    let tolerated = pairs.first().map_or(0.0, |pair| pair.tolerated);
    let needed = |own: &RuleCurve| own.share_needed.map_or_else(|| "all".to_owned(), percent);
    vec![
        grid(&format!("share to escalate for\na loss of at most {tolerated}"), &needed),
        grid("gap closed", &|own: &RuleCurve| percent(own.gap_closed)),
    ]
}

/// A rule's name as words.
pub(crate) fn words(rule: &str) -> String {
    rule.replace('_', " ")
}

/// Classes one by one.
pub(super) fn classes(report: &PlanReport) -> Grid {
    let row = |(at, own): (usize, &ClassLine)| {
        vec![
            format!("{} {}", at + 1, own.label),
            grouped(own.flows as f64),
            score(own.precision),
            score(own.recall),
            score(own.f1),
            score(own.single_f1),
            difference(own.f1 - own.single_f1),
        ]
    };
    let heads = [
        "class",
        "test\nflows",
        "precision",
        "recall",
        "F1",
        "F1 of the\nsingle model",
        "difference",
    ];
    Grid::new(&heads, report.classes.iter().enumerate().map(row).collect())
}

fn difference(value: f64) -> String {
    match format!("{value:+.4}") {
        _ if !value.is_finite() => NONE.to_owned(),
        text if text.ends_with("0.0000") => "0".to_owned(),
        text => text,
    }
}

/// The classes as heads of rows: numbered.
pub(crate) fn confusion_heads(report: &PlanReport) -> Vec<String> {
    report.classes.iter().enumerate().map(|(at, own)| format!("{} {}", at + 1, own.label)).collect()
}

/// The confusions with the most flows, in words.
pub(super) fn worst_confusions(report: &PlanReport) -> Vec<String> {
    let mut found: Vec<(u64, usize, usize)> = Vec::new();
    for (truth, row) in report.confusion.iter().enumerate() {
        let wrong = row.iter().enumerate().filter(|&(answer, &flows)| answer != truth && flows > 0);
        found.extend(wrong.map(|(answer, &flows)| (flows, truth, answer)));
    }
    found.sort_by_key(|&(flows, truth, answer)| (std::cmp::Reverse(flows), truth, answer));
    let label = |at: usize| report.classes.get(at).map_or(NONE, |own| &own.label);
    let told = |&(flows, truth, answer): &(u64, usize, usize)| {
        format!("{} of {} taken for {}", grouped(flows as f64), label(truth), label(answer))
    };
    let told: Vec<String> = found.iter().take(MOST_TOLD).map(told).collect();
    match told.is_empty() {
        true => vec!["No test flow is taken for another class.".to_owned()],
        false => vec![format!("Most often: {}.", told.join("; "))],
    }
}

/// Latency at some shares of the flows.
pub(super) fn latency(report: &PlanReport) -> Grid {
    const SHARES: [(f64, &str); 6] =
        [(0.1, "10%"), (0.25, "25%"), (0.5, "50%"), (0.75, "75%"), (0.9, "90%"), (0.99, "99%")];
    let row = |curve: &LatencyCurve| {
        let last = curve.us.len().saturating_sub(1) as f64;
        let at = |(share, _): (f64, &str)| {
            let place = (share * last).ceil() as usize;
            curve.us.get(place).map_or_else(|| NONE.to_owned(), |&us| time(us))
        };
        std::iter::once(curve.name.clone()).chain(SHARES.map(at)).collect()
    };
    let heads = std::iter::once("flows decided within").chain(SHARES.map(|(_, name)| name));
    Grid::new(&heads.collect::<Vec<_>>(), report.latency.iter().map(row).collect())
}

/// Nanoseconds of a core by plan.
pub(super) fn cost(report: &PlanReport) -> Grid {
    let row = |(name, choice): &(String, &Choice)| {
        let test = &choice.test;
        let stage = |(name, ns): (&String, &f64)| format!("{name} {}", grouped(*ns));
        let stages: Vec<String> = choice.stages.iter().zip(&test.stage_ns).map(stage).collect();
        vec![
            name.clone(),
            grouped(idle_ns(choice)),
            grouped(test.stage_ns.iter().sum::<f64>()),
            grouped(test.gate_ns),
            grouped(test.cpu_ns),
            stages.join(", "),
        ]
    };
    let heads =
        ["plan", "packet path\nns", "stages\nns", "gates\nns", "in all\nns", "stage by stage, ns"];
    Grid::new(&heads, compared(report).iter().map(row).collect())
}

/// Waiting for packets is no time of a core: a line for each plan.
pub(super) fn collection(report: &PlanReport) -> Vec<String> {
    let line = |(name, choice): (String, &Choice)| {
        let own = choice.stages.iter().zip(&choice.test.reach);
        let computing: f64 = own
            .filter_map(|(stage, reach)| single(report, stage).map(|own| own.compute_us * reach))
            .sum();
        format!(
            "Waiting for packets takes no core: {name}, {} a flow on average, beside {} of \
             computing.",
            time((choice.test.mean_us - computing).max(0.0)),
            time(computing)
        )
    };
    compared(report).into_iter().map(line).collect()
}

/// What was predicted beside what was measured.
pub(super) fn checks(report: &PlanReport) -> Grid {
    let row = |check: &Check| {
        let amount = |value: f64| match check.unit.as_str() {
            "" => score(value),
            unit if value.abs() >= 1000.0 => format!("{} {unit}", grouped(value)),
            unit => format!("{} {unit}", round(value)),
        };
        let tolerance = match check.unit.as_str() {
            "" => round(check.tolerance),
            _ => percent(check.tolerance),
        };
        vec![
            check.what.clone(),
            amount(check.predicted),
            amount(check.measured),
            tolerance,
            if check.holds { "holds" } else { "does not hold" }.to_owned(),
        ]
    };
    let heads = ["what", "predicted", "measured", "may differ by", "it"];
    Grid::new(&heads, report.checks.iter().map(row).collect())
}

/// What the plan was made from.
pub(super) fn provenance(report: &PlanReport) -> Grid {
    let known = |text: &str| if text.is_empty() { "not written yet" } else { text }.to_owned();
    let mut rows = vec![
        vec!["labels, SHA-256".to_owned(), known(&report.labels_sha256)],
        vec!["bundle".to_owned(), known(&report.bundle)],
        vec!["seed".to_owned(), report.seed.to_string()],
    ];
    for (split, flows) in &report.flows {
        rows.push(vec![format!("flows of split {split}"), grouped(*flows as f64)]);
    }
    let left_out = match report.left_out.is_empty() {
        true => "nothing".to_owned(),
        false => report.left_out.join(", "),
    };
    rows.extend([
        vec![
            "training flows that calibrate too".to_owned(),
            format!(
                "{} (scored by models that saw no flow of their captures)",
                grouped(report.cross_fit_flows as f64)
            ),
        ],
        vec!["made small".to_owned(), report.objective.name().to_owned()],
        vec!["left out by the time budget".to_owned(), left_out],
        vec!["written by".to_owned(), report.written_by.clone()],
        vec!["schema".to_owned(), report.schema.clone()],
    ]);
    Grid::new(&["", ""], rows)
}
