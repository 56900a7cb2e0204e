//! What the benches of whole cascades share: a bundle and labelled flows to clone.

use super::args::ClonedArgs;
use crate::commands::data_args::Labelled;
use crate::commands::{Session, find_sample, label_book, labelled, reports};
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
        let dir = match &args.bundle {
            Some(bundle) => bundle.clone(),
            None => find_sample(None, "--bundle")?.join("bundle"),
        };
        let (bundle, ..) = session.load_placed(&dir)?;
        let config = session.typed.check_for(&bundle)?;
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
    let source = match &args.captures {
        Some(captures) => Labelled {
            captures: captures.clone(),
            labels: args.labels.clone(),
            labels_from: args.labels_from,
        },
        None => {
            let captures = find_sample(None, "--captures")?;
            let labels = Some(captures.join("labels.csv"));
            Labelled { captures, labels, labels_from: args.labels_from }
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
    let captures = source.captures.display();
    ensure!(
        !captured.templates.flows().is_empty(),
        "{captures}: expected labelled flows of the split `{split}`, found none"
    );
    Ok(Cloned {
        templates: captured.templates.with_gaps_scaled(args.gaps),
        damaged: captured.damaged.iter().map(SourceError::line).collect(),
        from: format!("from {captures}, split {split}"),
    })
}
