//! The labelled flows of a training, and what they cannot support.

use super::{Grid, Part};
use crate::number_format::grouped;
use serveflow_label::Split;
use serveflow_train::dataset::{ClassCount, DataSummary};
use serveflow_train::planner::report::PlanReport;

/// Labelled flows and captures of each class, by split; of so many classes, the largest, the rest
/// in one line.
pub(crate) fn counts(summary: &DataSummary, most: usize) -> Grid {
    let number = |count: u64| grouped(count as f64);
    let row = |class: &ClassCount| {
        let splits = Split::ALL.into_iter().map(|split| class.split(split));
        let cells = splits.flat_map(|count| [number(count.flows), number(count.captures)]);
        std::iter::once(class.label.clone()).chain(cells).collect()
    };
    let heads = [
        "label",
        "train\nflows",
        "train\ncaptures",
        "val\nflows",
        "val\ncaptures",
        "test\nflows",
        "test\ncaptures",
    ];
    let shown = summary.classes.len().min(most);
    let mut rows: Vec<Vec<String>> = summary.classes[..shown].iter().map(row).collect();
    let rest = &summary.classes[shown..];
    if !rest.is_empty() {
        let flows = |split| rest.iter().map(|class| class.split(split).flows).sum();
        let mut line = vec![format!("{} more labels", rest.len())];
        for split in Split::ALL {
            line.extend([number(flows(split)), String::new()]);
        }
        rows.push(line);
    }
    Grid::new(&heads, rows)
}

/// What the data and the limits cannot support; none where there is nothing to warn of.
pub(super) fn warnings(report: &PlanReport) -> Option<Part> {
    let notes: Vec<String> = report.warnings.iter().map(|one| one.sentence.clone()).collect();
    (!notes.is_empty()).then(|| Part {
        title: "Warnings",
        said: "Read these before you rely on any figure of this report.".to_owned(),
        figure: None,
        grids: Vec::new(),
        notes,
    })
}

/// The labelled flows; none where the pool is of an older program.
pub(super) fn data(report: &PlanReport) -> Option<Part> {
    let summary = report.data.as_ref()?;
    let all: u64 = summary.classes.iter().map(ClassCount::flows).sum();
    Some(Part {
        title: "Labelled flows",
        said: format!(
            "{} labelled flows of {} labels, and {} flows without a label, by split and with the \
             number of captures that they come from.",
            grouped(all as f64),
            grouped(summary.classes.len() as f64),
            grouped(summary.unlabelled as f64)
        ),
        figure: None,
        grids: vec![counts(summary, usize::MAX)],
        notes: Vec::new(),
    })
}
