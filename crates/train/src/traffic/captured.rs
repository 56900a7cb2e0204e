//! Templates out of real captures: labelled flows to be cloned, or whole captures to be replayed.

use super::template::TemplateSet;
use crate::dataset::{FlowInfo, RecordPlan, record};
use serveflow_core::FlowConfig;
use serveflow_core::features::layout::HeaderLayout;
use serveflow_core::features::{FeatureSpec, MaskSet};
use serveflow_core::key::FlowKey;
use serveflow_core::packet::Packet;
use serveflow_core::parse::{KeyRules, parse};
use serveflow_io::{Batch, FileSource, OwnedFrame, Source, SourceError};
use serveflow_label::{LabelBook, Split};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const BATCH_FRAMES: usize = 1024;

/// Templates, and what was damaged of the captures that they are from.
#[derive(Debug)]
pub struct Captured {
    /// The templates.
    pub templates: TemplateSet,
    /// Damaged captures; everything before the damage was used.
    pub damaged: Vec<SourceError>,
    /// Flows that the label table lists and no capture has.
    pub missing: usize,
}

/// The labelled flows of a split, told apart by the engine itself under the given flow rules.
/// `labels` holds the cascade's index of each label of the book.
#[must_use]
pub fn labelled(
    book: &LabelBook,
    split: Split,
    labels: &[u16],
    flows: FlowConfig,
    snap_bytes: usize,
) -> Captured {
    let mut book = book.clone();
    book.files.retain(|_, labels| labels.may_hold(split));
    // The cheapest features there are: only where flows begin is of interest.
    let spec = FeatureSpec {
        encoders: vec!["packet_series".to_owned()],
        packets: 1,
        layout: HeaderLayout::new(&[]),
        masks: MaskSet::default(),
    };
    let plan = RecordPlan { specs: vec![spec], wait_ns: 0, of_window: 0, flows };
    let dataset = record(&book, &plan, &mut |_| {}).expect("a plan of a known encoder");
    let mut templates = TemplateSet::of(flows.key);
    for (file, path) in book.files.keys().enumerate() {
        let infos: Vec<&FlowInfo> = dataset.flows.iter().filter(|info| info.file == file).collect();
        let frames = frames_by_flow(path, &infos, split, flows.key, snap_bytes);
        for (info, frames) in infos.iter().zip(&frames) {
            let label = info.label.map(|label| labels[usize::from(label)]);
            templates.add_flow(frames.iter().map(packet), label, snap_bytes);
        }
    }
    Captured { templates, damaged: dataset.damaged, missing: dataset.missing }
}

fn packet(frame: &OwnedFrame) -> Packet<'_> {
    let OwnedFrame { ts_ns, orig_len, link, ref data, .. } = *frame;
    Packet { ts_ns, orig_len, link, data }
}

/// The flows of one five-tuple, one after the other, and the one that is on.
struct Line {
    starts: Vec<(u64, usize)>,
    on: Option<usize>,
}

/// The packets of each labelled flow of the split; none for the other flows.
fn frames_by_flow(
    path: &Path,
    infos: &[&FlowInfo],
    split: Split,
    rules: KeyRules,
    snap_bytes: usize,
) -> Vec<Vec<OwnedFrame>> {
    let mut frames = vec![Vec::new(); infos.len()];
    let mut lines: HashMap<FlowKey, Line> = HashMap::new();
    for (flow, info) in infos.iter().enumerate().rev() {
        let (key, _) = info.flow.key();
        let line = lines.entry(key).or_insert(Line { starts: Vec::new(), on: None });
        line.starts.push((info.first_ns, flow));
    }
    each_packet(path, &mut |packet| {
        let Ok(parsed) = parse(packet, rules) else { return };
        let Some(line) = lines.get_mut(&parsed.key) else { return };
        // Flows are numbered in the order of their first packets, and the last one is popped first.
        if line.starts.last().is_some_and(|&(first_ns, _)| first_ns == packet.ts_ns) {
            line.on = line.starts.pop().map(|(_, flow)| flow);
        }
        let Some(flow) = line.on else { return };
        if infos[flow].split == split && infos[flow].label.is_some() {
            let kept = match snap_bytes {
                0 => packet.data,
                snap => &packet.data[..packet.data.len().min(snap)],
            };
            frames[flow].push(OwnedFrame::new(&Packet { data: kept, ..*packet }, None));
        }
    });
    frames
}

/// Goes through a capture; damage was told of when it was recorded.
fn each_packet(path: &Path, take: &mut dyn FnMut(&Packet<'_>)) -> Vec<SourceError> {
    read(&[path.to_owned()], take)
}

fn read(paths: &[PathBuf], take: &mut dyn FnMut(&Packet<'_>)) -> Vec<SourceError> {
    let mut source = FileSource::new(paths.to_vec());
    let (mut batch, mut damaged) = (Batch::new(), Vec::new());
    loop {
        match source.fill(&mut batch, BATCH_FRAMES) {
            Ok(0) => return damaged,
            Ok(_) => batch.iter().for_each(|packet| take(&packet)),
            Err(error) => damaged.push(error),
        }
    }
}

/// Whole captures as one template, whose packets are passed on as they are. Time stamps that step
/// back are raised to the one before.
#[must_use]
pub fn replay(paths: &[PathBuf], snap_bytes: usize) -> Captured {
    let mut templates = TemplateSet::new();
    let mut started_ns = None;
    let damaged = read(paths, &mut |packet| {
        let started_ns = *started_ns.get_or_insert(packet.ts_ns);
        templates.add_as_is(packet, started_ns, snap_bytes);
    });
    Captured { templates, damaged, missing: 0 }
}
