//! What the page draws: plots, and the confusion matrix as a table of shades.

use crate::number_format::{grouped, percent, round, tick};
use crate::sections::{Figure, compared, confusion_heads, idle_ns, pairs};
use crate::svg::{Axis, Bar, Dot, Line, MARK_US, Marks, bars, escape, lines};
use serveflow_train::planner::report::{Choice, LatencyCurve, PlanReport};
use serveflow_train::planner::rules::{RuleCurve, RuleReport};
use std::fmt::Write;

/// A figure of the report as HTML.
pub(super) fn figure(report: &PlanReport, figure: Figure) -> String {
    let drawn = match figure {
        Figure::Front => front(report),
        Figure::Rules => pairs(report).into_iter().map(rules).collect(),
        Figure::Confusion => return confusion(report),
        Figure::Latency => latency(report),
        Figure::Cost => cost(report),
    };
    format!("<div class=\"plots\">{drawn}</div>")
}

/// Singles as points with names, cascades as a line, the chosen one marked.
fn front(report: &PlanReport) -> String {
    let points = report.front.iter().map(|point| (point.geometric_us, point.macro_f1)).collect();
    let line = Line { name: "cascades".to_owned(), class: "line0".to_owned(), points };
    let chosen = &report.chosen.val;
    let mut dots = vec![Dot {
        name: "chosen".to_owned(),
        class: "dot1".to_owned(),
        at: (chosen.geometric_us, chosen.macro_f1),
    }];
    dots.extend(report.singles.iter().map(|single| Dot {
        name: single.name.clone(),
        class: "dot".to_owned(),
        at: (single.val.geometric_us, single.val.macro_f1),
    }));
    let all = || dots.iter().map(|dot| dot.at).chain(line.points.iter().copied());
    let horizontal = Axis::log("geometric mean of latency", tick, all().map(|at| at.0));
    let vertical = Axis::fitted("macro-F1", round, all().map(|at| at.1));
    let marks = Marks { mark: None, dots: &dots };
    let label = "Macro-F1 against the geometric mean of latency";
    wrap("", &lines(label, (&horizontal, &vertical), std::slice::from_ref(&line), &marks))
}

/// Every rule's line for one pair of models.
fn rules(pair: &RuleReport) -> String {
    let mut plain = 1;
    let line = |curve: &RuleCurve| {
        let last = curve.macro_f1.len().saturating_sub(1).max(1) as f64;
        let points = curve.macro_f1.iter().enumerate();
        let class = match curve.rule.as_str() {
            "learned" => "line0".to_owned(),
            "random" | "oracle" => curve.rule.clone(),
            _ => {
                plain += 1;
                format!("line{}", (plain - 1).min(5))
            }
        };
        Line {
            name: curve.rule.replace('_', " "),
            class,
            points: points.map(|(at, &f1)| (at as f64 / last, f1)).collect(),
        }
    };
    let drawn: Vec<Line> = pair.curves.iter().map(line).collect();
    let horizontal = Axis::percent("share of the flows escalated");
    let values = drawn.iter().flat_map(|line| line.points.iter().map(|point| point.1));
    let vertical = Axis::fitted("macro-F1", round, values);
    let title =
        format!("From {} to {}, {} flows", pair.fast, pair.slow, grouped(pair.flows as f64));
    wrap(&title, &lines(&title, (&horizontal, &vertical), &drawn, &Marks::default()))
}

/// The share of flows with an answer, by time.
fn latency(report: &PlanReport) -> String {
    let line = |(at, curve): (usize, &LatencyCurve)| {
        let last = curve.us.len().saturating_sub(1).max(1) as f64;
        let points = curve.us.iter().enumerate();
        Line {
            name: curve.name.clone(),
            class: format!("line{}", at.min(5)),
            points: points.map(|(at, &us)| (us, at as f64 / last)).collect(),
        }
    };
    let drawn: Vec<Line> = report.latency.iter().enumerate().map(line).collect();
    let all = drawn.iter().flat_map(|line| line.points.iter().map(|point| point.0));
    let horizontal = Axis::log("first packet to label", tick, all.chain([MARK_US]));
    let vertical = Axis::percent("share of the flows");
    let marks = Marks { mark: Some((MARK_US, "16 ms")), dots: &[] };
    wrap("", &lines("Latency, cumulative", (&horizontal, &vertical), &drawn, &marks))
}

/// Nanoseconds of a core per flow, stacked: packet path, stages, gates.
fn cost(report: &PlanReport) -> String {
    let compared = compared(report);
    let mut stages: Vec<String> = Vec::new();
    for stage in compared.iter().flat_map(|(_, choice)| &choice.stages) {
        if !stages.contains(stage) {
            stages.push(stage.clone());
        }
    }
    let bar = |(name, choice): &(String, &Choice)| {
        let of = |stage: &String| {
            let own = choice.stages.iter().zip(&choice.test.stage_ns);
            own.filter(|(name, _)| *name == stage).map(|(_, ns)| ns).sum::<f64>()
        };
        let values = std::iter::once(idle_ns(choice))
            .chain([choice.test.gate_ns])
            .chain(stages.iter().map(of))
            .collect();
        Bar { name: name.clone(), values }
    };
    let drawn: Vec<Bar> = compared.iter().map(bar).collect();
    let parts = ["packet path".to_owned(), "gates".to_owned()].into_iter().chain(stages.clone());
    let parts: Vec<String> = parts.collect();
    let most = drawn.iter().map(|bar| bar.values.iter().sum::<f64>());
    let vertical = Axis::fitted("ns of a core per flow", grouped, most.chain([0.0]));
    let spell = |ns: f64| format!("{} ns", grouped(ns));
    wrap("", &bars("Time of a core per flow", ("plan", &vertical), (&parts, spell), &drawn))
}

/// A plot, under its title if it has one.
fn wrap(title: &str, plot: &str) -> String {
    let title = match title {
        "" => String::new(),
        title => format!("<h3>{}</h3>", escape(title)),
    };
    format!("<section>{title}{plot}</section>")
}

/// Counts in cells that are as dark as their share of the row.
fn confusion(report: &PlanReport) -> String {
    let names = confusion_heads(report);
    let mut html = "<div class=\"wide\"><table class=\"heat\"><tr><th>true class</th>".to_owned();
    for at in 1..=names.len() {
        let _ = write!(html, "<th>{at}</th>");
    }
    html.push_str("</tr>");
    for (truth, (name, row)) in names.iter().zip(&report.confusion).enumerate() {
        let _ = write!(html, "<tr><th>{}</th>", escape(name));
        let all = row.iter().sum::<u64>().max(1) as f64;
        for (answer, &flows) in row.iter().enumerate() {
            html += &cell(flows, flows as f64 / all, truth == answer);
        }
        html.push_str("</tr>");
    }
    html + "</table></div>"
}

fn cell(flows: u64, share: f64, is_right: bool) -> String {
    if flows == 0 {
        return "<td></td>".to_owned();
    }
    let class = if is_right { "right" } else { "wrong" };
    // So light that the number can be read on it.
    let shade = 8.0 + share * 52.0;
    format!(
        "<td class=\"{class}\" style=\"--h:{shade:.0}%\" title=\"{} of the class\">{flows}</td>",
        percent(share)
    )
}
