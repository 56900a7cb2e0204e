//! `--expect`: compares the scores of a bound model with those of the library that trained it.

use super::probabilities::{PREFIX, Probabilities, nanoseconds};
use anyhow::{Context, bail, ensure};
use serveflow::table::{FLOW_KEYS, Key, flow_keys};
use serveflow_core::rows::Scores;
use serveflow_train::dataset::FlowInfo;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The columns that say which flow a row is of; `file` may be there beside them.
const JOINED: [&str; 6] = ["src", "src_port", "dst", "dst_port", "proto", "first_ts"];
/// Time stamps of one flow differ at most by this: a data frame's numbers are no closer.
const SAME_NS: u64 = 1_000;

/// The flows that were recorded, what the model says of them, and the labels.
pub(super) struct Answers<'a> {
    /// The flows, in the order in which `serveflow features` writes them.
    pub(super) flows: &'a [FlowInfo],
    /// Their captures, by their number.
    pub(super) files: Vec<&'a PathBuf>,
    /// The model's scores, with a class for each label.
    pub(super) scores: &'a Scores,
    /// The labels.
    pub(super) labels: &'a [String],
    /// The model's classes.
    pub(super) classes: &'a [String],
}

/// Holds the answers to the table; what was compared, in words.
pub(super) fn hold(answers: &Answers<'_>, path: &Path, tolerance: f64) -> anyhow::Result<String> {
    let table = Probabilities::read(path)?;
    let place = path.display();
    ensure!(table.rows > 0, "{place}: expected rows of the exported flows, found none");
    let named = |class: &String| table.classes.iter().any(|(label, _)| label == class);
    if let Some(class) = answers.classes.iter().find(|class| !named(class)) {
        bail!("{place}: expected a column `{PREFIX}{class}`, found none");
    }
    let label_of = |label: &String| answers.labels.iter().position(|known| known == label);
    let mut columns = Vec::new();
    for (label, values) in &table.classes {
        let at = label_of(label).with_context(|| {
            let known = answers.labels.join(", ");
            format!(
                "{place}: `{PREFIX}{label}`: expected one of the labels {known}, found `{label}`"
            )
        })?;
        columns.push((label, at, values));
    }
    let flow_of = joined(answers, &table).with_context(|| place.to_string())?;
    let (mut first, mut rows_apart, mut largest) = (None, 0, 0.0_f64);
    for (row, &flow) in flow_of.iter().enumerate() {
        let scores = answers.scores.row(flow);
        let mut apart = None;
        for (label, at, values) in &columns {
            let (expected, found) = (values[row], f64::from(scores[*at]));
            let difference = (expected - found).abs();
            largest = largest.max(difference);
            // Not-a-number is within no tolerance.
            let is_within = difference <= tolerance;
            if !is_within && apart.is_none() {
                apart = Some((*label, expected, found));
            }
        }
        rows_apart += usize::from(apart.is_some());
        first = first.or(apart.map(|apart| (row, flow, apart)));
    }
    if let Some((row, flow, (label, expected, found))) = first {
        bail!(
            "{place}: row {} ({}): class `{label}`: expected {expected}, found {found}: the \
             difference exceeds --tolerance {tolerance}, in {rows_apart} of {} rows (at most \
             {largest}): the classes, the columns or the missing value are not those of the \
             training",
            row + 1,
            in_words(&answers.flows[flow]),
            table.rows
        );
    }
    let left = answers.flows.len() - table.rows.min(answers.flows.len());
    let rest = if left == 0 { String::new() } else { format!("; {left} flows are not in it") };
    Ok(format!(
        "compared with {place}: {} rows of {} classes, largest difference {largest:.1e}{rest}\n",
        table.rows,
        columns.len()
    ))
}

fn in_words(flow: &FlowInfo) -> String {
    let [src, src_port, dst, dst_port, proto, ..] = texts(flow);
    format!(
        "{proto} {src} port {src_port} to {dst} port {dst_port}, first packet at {} ns",
        flow.first_ns
    )
}

/// The keys of a flow, as a table of features has them.
fn texts(flow: &FlowInfo) -> [String; FLOW_KEYS.len()] {
    flow_keys(&flow.flow, flow.first_ns, flow.packets).map(|key| match key {
        Key::Text(text) => text.into_owned(),
        Key::Integer(number) => number.to_string(),
        Key::Time(ns) => ns.to_string(),
    })
}

/// The recorded flow of each row: by its keys, or by the order where there are none.
fn joined(answers: &Answers<'_>, table: &Probabilities) -> anyhow::Result<Vec<usize>> {
    let given: Vec<&str> = JOINED.into_iter().filter(|key| table.keys.contains_key(key)).collect();
    if given.is_empty() {
        let found = table.rows;
        let expected = answers.flows.len();
        ensure!(
            found == expected,
            "expected a row for each of {expected} flows, in the order of `serveflow features`, \
             found {found}; with the columns {} rows may have any order",
            JOINED.join(", ")
        );
        return Ok((0..found).collect());
    }
    if let Some(key) = JOINED.iter().find(|key| !given.contains(*key)) {
        bail!("expected the column `{key}` beside {}, found none", given.join(", "));
    }
    let mut by_tuple: HashMap<[String; 5], Vec<usize>> = HashMap::new();
    for (at, flow) in answers.flows.iter().enumerate() {
        let [src, src_port, dst, dst_port, proto, ..] = texts(flow);
        by_tuple.entry([src, src_port, dst, dst_port, proto]).or_default().push(at);
    }
    let mut taken = vec![false; answers.flows.len()];
    let mut found = Vec::with_capacity(table.rows);
    for row in 0..table.rows {
        let cell = |key: &str| table.keys[key][row].clone();
        let first_ts = cell("first_ts");
        let first_ns = nanoseconds(&first_ts).with_context(|| {
            let row = row + 1;
            format!("row {row}: `first_ts`: expected seconds since the epoch, found `{first_ts}`")
        })?;
        let tuple = ["src", "src_port", "dst", "dst_port", "proto"].map(cell);
        let file = table.keys.get("file").map(|files| Path::new(&files[row]));
        let is_of = |at: &&usize| {
            let flow = &answers.flows[**at];
            let whole = answers.files[flow.file];
            let same_file = file.is_none_or(|file| whole.ends_with(file) || file.ends_with(whole));
            same_file && flow.first_ns.abs_diff(first_ns) <= SAME_NS && !taken[**at]
        };
        let own = by_tuple.get(&tuple).into_iter().flatten().filter(is_of);
        let own = own.min_by_key(|at| answers.flows[**at].first_ns.abs_diff(first_ns)).copied();
        let Some(at) = own else {
            let row = row + 1;
            bail!(
                "row {row}: expected a flow of the captures, found {}, which is unknown or in an \
                 earlier row",
                [&tuple[..], &[first_ts]].concat().join(" ")
            );
        };
        taken[at] = true;
        found.push(at);
    }
    Ok(found)
}
