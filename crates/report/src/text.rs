//! A plan's report as plain text, for the terminal.

use crate::number_format::{grouped, score, time};
use crate::sections::{
    Figure, Grid, Part, confusion_heads, counts, headline, pairs, parts, provenance, title,
};
use serveflow_train::dataset::DataSummary;
use serveflow_train::planner::report::PlanReport;
use std::fmt::Write;

/// Letters of a line of words.
const WIDTH: usize = 100;
/// Classes that are shown with their flows before a training.
const COUNT_LINES: usize = 40;
/// Points of the front that are told.
const FRONT_LINES: usize = 12;

/// The report from its headline to where it is from; ends with a line end.
#[must_use]
pub fn text(report: &PlanReport) -> String {
    let title = title(report);
    let mut text = format!("{title}\n{}\n\n", "=".repeat(title.chars().count()));
    text += &wrapped(&headline(report), "");
    for own in parts(report).iter().chain([&provenance(report)]) {
        text += &part(report, own);
    }
    text
}

/// The labelled flows of a training, a line for each of the largest classes, and warnings; ends
/// with a line end.
#[must_use]
pub fn data_text(summary: &DataSummary) -> String {
    let mut text = table(&counts(summary, COUNT_LINES));
    for warning in summary.warnings() {
        text += &wrapped(&format!("warning: {}", warning.sentence), "");
    }
    text
}

fn part(report: &PlanReport, part: &Part) -> String {
    let mut text = format!("\n{}\n{}\n", part.title, "-".repeat(part.title.chars().count()));
    text += &wrapped(&part.said, "");
    let drawn = part.figure.into_iter().flat_map(|figure| figure_grids(report, figure));
    for (name, grid) in drawn {
        let _ = write!(text, "\n{name}{}", table(&grid));
    }
    for grid in &part.grids {
        let _ = write!(text, "\n{}", table(grid));
    }
    if !part.notes.is_empty() {
        text.push('\n');
    }
    for note in &part.notes {
        text += &wrapped(note, "  ");
    }
    text
}

/// What a page draws, in numbers; each with a line above it, which may be empty.
fn figure_grids(report: &PlanReport, figure: Figure) -> Vec<(String, Grid)> {
    match figure {
        Figure::Front => vec![(String::new(), front(report))],
        Figure::Rules => rules(report),
        Figure::Confusion => vec![(String::new(), confusion(report))],
        // Their tables tell the same.
        Figure::Latency | Figure::Cost => Vec::new(),
    }
}

/// Some points of the front, from one end to the other.
fn front(report: &PlanReport) -> Grid {
    let all = report.front.len();
    let shown = all.min(FRONT_LINES);
    let row = |line: usize| {
        let point = &report.front[line * (all - 1) / (shown - 1).max(1)];
        vec![
            point.stages.join(" > "),
            score(point.macro_f1),
            time(point.geometric_us),
            format!("{} ns", grouped(point.cpu_ns)),
        ]
    };
    let heads = ["stages", "macro-F1", "latency\ngeom. mean", "a core's time\nper flow"];
    Grid { heads: heads.map(str::to_owned).into(), rows: (0..shown).map(row).collect() }
}

/// Macro-F1 at some escalated shares, for each pair of models.
fn rules(report: &PlanReport) -> Vec<(String, Grid)> {
    const SHARES: [f64; 7] = [0.0, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0];
    let pair = |pair: &&serveflow_train::planner::rules::RuleReport| {
        let name = format!(
            "Macro-F1 by share escalated from {} to {} ({} test flows)\n",
            pair.fast,
            pair.slow,
            grouped(pair.flows as f64)
        );
        let heads = SHARES.map(|share| format!("{:.0}%", share * 100.0));
        let row = |curve: &serveflow_train::planner::rules::RuleCurve| {
            let last = curve.macro_f1.len().saturating_sub(1) as f64;
            let at = |share: f64| curve.macro_f1.get((share * last).round() as usize);
            let cells = SHARES.map(|share| score(at(share).copied().unwrap_or(f64::NAN)));
            std::iter::once(curve.rule.replace('_', " ")).chain(cells).collect()
        };
        let heads = std::iter::once("rule".to_owned()).chain(heads).collect();
        (name, Grid { heads, rows: pair.curves.iter().map(row).collect() })
    };
    pairs(report).iter().map(pair).collect()
}

fn confusion(report: &PlanReport) -> Grid {
    let names = confusion_heads(report);
    let numbers = (1..=names.len()).map(|at| at.to_string());
    let cell = |&flows: &u64| if flows == 0 { ".".to_owned() } else { flows.to_string() };
    let row = |(name, row): (&String, &Vec<u64>)| {
        std::iter::once(name.clone()).chain(row.iter().map(cell)).collect()
    };
    let rows = names.iter().zip(&report.confusion).map(row).collect();
    Grid { heads: std::iter::once("true class".to_owned()).chain(numbers).collect(), rows }
}

/// A table whose columns are as wide as they must be: the first to the left, numbers to the right.
fn table(grid: &Grid) -> String {
    let heads: Vec<Vec<&str>> = grid.heads.iter().map(|head| head.split('\n').collect()).collect();
    let deep = heads.iter().map(Vec::len).max().unwrap_or(0);
    let letters = |text: &str| text.chars().count();
    let width = |column: usize| {
        let head = heads[column].iter().map(|line| letters(line)).max().unwrap_or(0);
        let cells = grid.rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| letters(cell)).chain([head]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
            if at == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
        });
        format!("{}\n", padded.collect::<String>().trim_end())
    };
    let mut text = String::new();
    let is_headed = grid.heads.iter().any(|head| !head.is_empty());
    for level in (0..deep).filter(|_| is_headed) {
        // Short heads stand at the bottom.
        let cell = |head: &Vec<&str>| (level + head.len()).checked_sub(deep);
        text += &line(
            heads.iter().map(|head| cell(head).map_or("", |at| head[at])).collect::<Vec<_>>(),
        );
    }
    for row in &grid.rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// Words in lines.
fn wrapped(words: &str, indent: &str) -> String {
    let mut text = String::new();
    let mut line = indent.to_owned();
    for word in words.split_whitespace() {
        if line.trim().is_empty() {
            line = format!("{indent}{word}");
        } else if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}{word}");
        } else {
            let _ = write!(line, " {word}");
        }
    }
    let _ = writeln!(text, "{line}");
    text
}
