//! Test flows whose whole row equals that of a training flow.

use crate::dataset::Dataset;
use serveflow_core::rows::Rows;
use std::collections::{BTreeSet, HashMap};

/// What a test flow equals among the training flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copied {
    /// Nothing.
    No,
    /// Training flows of its own label alone.
    Same,
    /// Training flows of its own label and of others.
    Mixed,
    /// Training flows of other labels alone.
    Other,
}

/// What each of the flows `test` equals among the flows `train`, at a stage: words and the bits of
/// numbers, all of them.
pub(super) fn copies(
    dataset: &Dataset,
    stage: usize,
    train: &[usize],
    test: &[usize],
) -> Vec<Copied> {
    let rows = &dataset.rows[stage];
    let mut seen: HashMap<Vec<u32>, BTreeSet<Option<u16>>> = HashMap::new();
    for &flow in train {
        seen.entry(whole(rows, flow)).or_default().insert(dataset.flows[flow].label);
    }
    let copied = |&flow: &usize| match seen.get(&whole(rows, flow)) {
        None => Copied::No,
        Some(labels) if !labels.contains(&dataset.flows[flow].label) => Copied::Other,
        Some(labels) if labels.len() > 1 => Copied::Mixed,
        Some(_) => Copied::Same,
    };
    test.iter().map(copied).collect()
}

fn whole(rows: &Rows, row: usize) -> Vec<u32> {
    let numbers = rows.numbers(row).iter().map(|number| number.to_bits());
    rows.words(row).iter().copied().chain(numbers).collect()
}
