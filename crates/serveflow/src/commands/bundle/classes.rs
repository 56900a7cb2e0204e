//! The label of each class of a model, and the source of that order.

use super::args::BundleAddArgs;
use anyhow::bail;
use serveflow_label::other_order;
use serveflow_model::formats::FormatHead;

/// Source of the order of the classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// `--classes`.
    Typed,
    /// The model file.
    File,
    /// Neither: the labels in their order.
    Order,
}

/// The classes of a model, as labels.
#[derive(Debug)]
pub(super) struct Classes {
    /// The labels in the order of the classes.
    pub(super) names: Vec<String>,
    source: Source,
}

impl Classes {
    /// The classes of a model with this header.
    ///
    /// # Errors
    /// When neither names them and their order is ambiguous.
    pub(super) fn find(
        args: &BundleAddArgs,
        head: &FormatHead,
        labels: &[String],
    ) -> anyhow::Result<Self> {
        // Numbers from 0 on are those of the labels.
        let is_counted = head.labels.iter().enumerate().all(|(n, label)| *label == n.to_string());
        let (names, source) = if !args.classes.is_empty() {
            (args.classes.clone(), Source::Typed)
        } else if is_counted && !labels.contains(&"0".to_owned()) || head.labels.is_empty() {
            (labels.to_vec(), Source::Order)
        } else {
            (head.labels.clone(), Source::File)
        };
        let other = other_order(&names).filter(|_| source == Source::Order);
        if let Some(text) = other {
            bail!(
                "{}: expected named classes, found a file without names and labels that are \
                 numbers, whose numeric and text orders differ: state the order of the training \
                 with --classes {} or --classes {}",
                args.model.display(),
                numbers_of(&names).join(","),
                text.join(",")
            );
        }
        Ok(Self { names, source })
    }

    /// The classes and their labels as a line of text.
    pub(super) fn text(&self, stage: &str) -> String {
        let pairs =
            self.names.iter().enumerate().map(|(class, label)| format!("{class} = {label}"));
        let source = match self.source {
            Source::Typed => "by --classes",
            Source::File => "by the model file",
            Source::Order => "labels in their order; the model file names none",
        };
        format!("classes of `{stage}`: {} ({source})\n", pairs.collect::<Vec<_>>().join(", "))
    }
}

/// The labels as numbers have them.
fn numbers_of(labels: &[String]) -> Vec<String> {
    let mut sorted = labels.to_vec();
    serveflow_label::sort_labels(&mut sorted);
    sorted
}
