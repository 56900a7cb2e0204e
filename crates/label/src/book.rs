//! The label book: captures, and what their flows are.

use super::{LabelError, Split, sort_labels};
use serveflow_core::key::FlowKey;
use serveflow_core::verdict::FiveTuple;
use serveflow_io::inputs::LeftOut;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Labels are numbered with 16 bits, and a cascade takes one number less.
const MAX_LABELS: usize = u16::MAX as usize;

/// A flow's label and split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Index of the label in the book.
    pub label: u16,
    /// The part of the data it belongs to; `None` leaves it to the time order in its capture.
    pub split: Option<Split>,
    /// Number of the capture that it was cut from, where the table names one that is not its file.
    pub source: Option<u32>,
}

/// The capture that a flow comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Capture {
    /// The one that the label table's `source_capture` names, by number.
    Source(u32),
    /// The file it was read from, by index in the book's order.
    File(usize),
}

impl Capture {
    /// A number of its own.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Source(number) => 2 * number,
            Self::File(index) => 2 * index as u32 + 1,
        }
    }
}

/// The labels of one capture's flows.
#[derive(Clone, Debug)]
pub enum FileLabels {
    /// All flows have the same.
    Whole(Labelled),
    /// By flow key and time of the first packet, microseconds since the epoch.
    Flows(HashMap<FlowKey, Vec<(u64, Labelled)>>),
    /// By flow key and time of any packet, for a flow has the label of its first one.
    Packets(HashMap<FlowKey, Vec<(u64, Labelled)>>),
}

impl FileLabels {
    /// The label of a flow whose first packet came at `first_us`; time stamps may be off by one
    /// microsecond, which is what rounding does to them.
    #[must_use]
    pub fn find(&self, flow: &FiveTuple, first_us: u64) -> Option<Labelled> {
        match self {
            Self::Whole(labelled) => Some(*labelled),
            Self::Flows(entries) | Self::Packets(entries) => {
                let (key, _) = FiveTuple { vlan: None, ..*flow }.key();
                let distance = |entry: &&(u64, Labelled)| entry.0.abs_diff(first_us);
                let nearest = entries.get(&key)?.iter().min_by_key(distance)?;
                (nearest.0.abs_diff(first_us) <= 1).then_some(nearest.1)
            }
        }
    }

    /// Whether any flow may belong to a split.
    #[must_use]
    pub fn may_hold(&self, split: Split) -> bool {
        let may = |labelled: &Labelled| labelled.split.is_none_or(|own| own == split);
        match self {
            Self::Whole(labelled) => may(labelled),
            Self::Flows(entries) | Self::Packets(entries) => {
                entries.values().flatten().any(|(_, labelled)| may(labelled))
            }
        }
    }

    /// Flows that are listed one by one; 0 when the capture's flows are not listed.
    #[must_use]
    pub fn listed(&self) -> usize {
        match self {
            Self::Whole(_) | Self::Packets(_) => 0,
            Self::Flows(flows) => flows.values().map(Vec::len).sum(),
        }
    }
}

/// Captures, in order, with the labels of their flows.
#[derive(Clone, Debug, Default)]
pub struct LabelBook {
    /// Names of the labels, in order: as numbers if all of them are, else as text.
    pub labels: Vec<String>,
    /// Captures by path.
    pub files: BTreeMap<PathBuf, FileLabels>,
    /// SHA-256 of what the book was read from.
    pub sha256: String,
    /// Where it was read from: a table, or the captures themselves.
    pub path: PathBuf,
    /// The directory that captures stand below.
    pub captures: PathBuf,
    /// What in directories of captures is not read.
    pub left_out: Vec<LeftOut>,
}

impl LabelBook {
    /// Whether a table lists the flows one by one.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.files.values().any(|labels| matches!(labels, FileLabels::Flows(_)))
    }
}

/// Collects a book; labels get their indices at the end, in order.
#[derive(Default)]
pub(super) struct Writer {
    names: BTreeMap<String, u16>,
    files: BTreeMap<PathBuf, FileLabels>,
    sources: BTreeMap<[String; 2], u32>,
}

impl Writer {
    /// A number for a capture that flows were cut from, by its name and its origin's.
    pub(super) fn source(&mut self, name: [&str; 2]) -> u32 {
        let next = self.sources.len() as u32;
        *self.sources.entry(name.map(str::to_owned)).or_insert(next)
    }

    /// A provisional index for a label; what is beyond the most labels is refused at the end.
    pub(super) fn label(&mut self, name: &str) -> u16 {
        if let Some(&index) = self.names.get(name) {
            return index;
        }
        let index = self.names.len() as u16;
        self.names.insert(name.to_owned(), index);
        index
    }

    pub(super) fn whole(&mut self, file: PathBuf, labelled: Labelled) {
        self.files.insert(file, FileLabels::Whole(labelled));
    }

    /// Lists a flow; false when it is listed already as something else. A flow that is listed
    /// twice as the same counts once.
    pub(super) fn flow(
        &mut self,
        file: PathBuf,
        key: FlowKey,
        first_us: u64,
        labelled: Labelled,
    ) -> bool {
        let file = self.files.entry(file).or_insert_with(|| FileLabels::Flows(HashMap::new()));
        let FileLabels::Flows(flows) = file else { return false };
        let listed = flows.entry(key).or_default();
        if let Some((_, earlier)) = listed.iter().find(|(at, _)| *at == first_us) {
            return (earlier.label, earlier.split) == (labelled.label, labelled.split);
        }
        listed.push((first_us, labelled));
        true
    }

    pub(super) fn packet(&mut self, file: PathBuf, key: FlowKey, at_us: u64, labelled: Labelled) {
        let file = self.files.entry(file).or_insert_with(|| FileLabels::Packets(HashMap::new()));
        if let FileLabels::Packets(packets) = file {
            packets.entry(key).or_default().push((at_us, labelled));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The book of what was collected from `path`, whose labels stand in `source`.
    pub(super) fn finish(
        mut self,
        path: &Path,
        captures: &Path,
        source: &[u8],
    ) -> Result<LabelBook, LabelError> {
        if self.names.len() > MAX_LABELS {
            let (path, found) = (path.to_owned(), self.names.len());
            return Err(LabelError::TooMany { path, most: MAX_LABELS, found });
        }
        let mut labels: Vec<String> = self.names.keys().cloned().collect();
        sort_labels(&mut labels);
        let mut sorted = vec![0; labels.len()];
        for (index, label) in labels.iter().enumerate() {
            sorted[usize::from(self.names[label])] = index as u16;
        }
        let renumber =
            |labelled: &mut Labelled| labelled.label = sorted[usize::from(labelled.label)];
        for file in self.files.values_mut() {
            match file {
                FileLabels::Whole(labelled) => renumber(labelled),
                FileLabels::Flows(entries) | FileLabels::Packets(entries) => {
                    entries.values_mut().flatten().for_each(|(_, labelled)| renumber(labelled));
                }
            }
        }
        Ok(LabelBook {
            labels,
            files: self.files,
            sha256: sha256(source),
            path: path.to_owned(),
            captures: captures.to_owned(),
            left_out: Vec::new(),
        })
    }
}

/// SHA-256 in hex digits.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
