//! What the benches of whole cascades share: a bundle and labelled flows to clone.

use super::args::ClonedArgs;
use crate::commands::data_args::Labelled;
use crate::commands::sample::Sample;
use crate::commands::{Session, label_book, labelled, reports};
use anyhow::ensure;
use serveflow_bench::contender::Contender;
use serveflow_io::SourceError;
use serveflow_model::bundle::Bundle;
use serveflow_train::evaluate::label_map;
use serveflow_train::traffic::captured::labelled as clone_flows;
use serveflow_train::traffic::template::TemplateSet;

/// A bundle, ready to serve.
pub(crate) struct Setting {
    pub(crate) bundle: Bundle,
    pub(crate) cascade: Contender,
    pub(crate) batch_frames: usize,
}

impl Setting {
    /// The bundle that was named, or that of the sample.
    pub(crate) fn load(session: &Session, args: &ClonedArgs) -> anyhow::Result<Self> {
        reports::claim(args.json.iter().chain(&args.html))?;
        let (mut bundle, _) = match &args.bundle {
            Some(bundle) => session.load(bundle)?,
            None => session.load(&Sample::find(None, "--bundle")?.bundle())?,
        };
        let config = session.typed.check_for(&bundle)?;
        bundle.place(&config.lanes.places(&bundle)?);
        let cascade = Contender::cascade(&bundle, config.engine, config.queue_depth);
        let cascade = Contender { batch: config.lanes.batch, ..cascade };
        Ok(Self { bundle, cascade, batch_frames: config.batch_frames })
    }

    /// Index of the last stage.
    pub(crate) fn last_stage(&self) -> usize {
        self.bundle.plan.stages.len() - 1
    }
}

/// Labelled flows to clone.
pub(crate) struct Cloned {
    pub(crate) templates: TemplateSet,
    pub(crate) damaged: Vec<String>,
    /// Where they are from, in words.
    pub(crate) from: String,
}

/// The labelled flows that were named, or those of the sample.
pub(crate) fn cloned(
    session: &Session,
    setting: &Setting,
    args: &ClonedArgs,
) -> anyhow::Result<Cloned> {
    let labels_from = args.labels_from;
    // Lives until the flows are read.
    let sample;
    let (source, name) = match &args.captures {
        Some(captures) => {
            let (captures, labels) = (captures.clone(), args.labels.clone());
            let name = captures.display().to_string();
            (Labelled { captures, labels, labels_from }, name)
        }
        None => {
            sample = Sample::find(None, "--captures")?;
            let (captures, labels) = (sample.dir().to_owned(), Some(sample.labels()));
            (Labelled { captures, labels, labels_from }, sample.name())
        }
    };
    let book = label_book(session, &source)?;
    let labels = label_map(&setting.bundle, &book)?;
    let rules = setting.cascade.engine.flows;
    let captured = clone_flows(&book, args.split, &labels, rules, args.snap_bytes);
    if captured.missing > 0 {
        labelled::surveyed(session, &book, rules)?;
    }
    let split = args.split.name();
    ensure!(
        !captured.templates.flows().is_empty(),
        "{name}: expected labelled flows of the split `{split}`, found none"
    );
    Ok(Cloned {
        templates: captured.templates.with_gaps_scaled(args.gaps),
        damaged: captured.damaged.iter().map(SourceError::line).collect(),
        from: format!("from {name}, split {split}"),
    })
}
