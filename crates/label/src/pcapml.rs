//! Labels from packet comments: pcapML (Holland et al., 2021) writes `sample id,label[,...]` into
//! the comment of each packet of a pcapng capture.

use super::book::Writer;
use super::{LabelBook, LabelError, Labelled};
use serveflow_core::parse::{KeyRules, Tunnels, parse};
use serveflow_io::{Batch, FileSource, Severity, Source};
use std::path::{Path, PathBuf};

const BATCH: usize = 4096;

/// Reads the labels of pcapML captures. A flow has the label of its first packet's comment.
///
/// # Errors
/// When a capture cannot be opened, is damaged, or no packet of any carries a label.
pub fn from_comments(files: &[PathBuf]) -> Result<LabelBook, LabelError> {
    let mut book = Writer::default();
    let mut batch = Batch::new();
    for file in files {
        let mut source = FileSource::new(vec![file.clone()]);
        loop {
            match source.fill(&mut batch, BATCH) {
                Ok(0) => break,
                Ok(_) => note_labels(&batch, file, &mut book),
                Err(error) if error.severity() == Severity::Damage => return Err(error.into()),
                // What else there is to say is said when the capture is recorded.
                Err(_) => {}
            }
        }
    }
    let path = files.first().cloned().unwrap_or_default();
    if book.is_empty() {
        return Err(LabelError::Nothing {
            path,
            expected: "packet comments of the form `sample id,label`",
        });
    }
    let listing: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    book.finish(&path, &path, listing.join("\n").as_bytes())
}

fn note_labels(batch: &Batch, file: &Path, book: &mut Writer) {
    for (index, packet) in batch.iter().enumerate() {
        let Some(name) = batch.note(index).and_then(label) else { continue };
        // Which packet of a tunnel flows will be made of is said elsewhere: either finds its label.
        let key = |tunnels| {
            let rules = KeyRules::default().with_tunnels(tunnels);
            parse(&packet, rules).ok().map(|parsed| parsed.key)
        };
        let (inner, outer) = (key(Tunnels::Inner), key(Tunnels::Outer));
        for key in inner.into_iter().chain(outer.filter(|outer| Some(*outer) != inner)) {
            let labelled = Labelled { label: book.label(name), split: None, source: None };
            book.packet(file.to_owned(), key, packet.ts_ns / 1000, labelled);
        }
    }
}

/// The label in a comment: what stands between the first two commas.
fn label(comment: &str) -> Option<&str> {
    let (_, rest) = comment.split_once(',')?;
    let label = rest.split(',').next().unwrap_or(rest).trim();
    (!label.is_empty()).then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_hold_a_sample_id_and_a_label() {
        assert_eq!(label("17,facebook"), Some("facebook"));
        assert_eq!(label("s=17, zoom ,lan2wan"), Some("zoom"));
        assert_eq!(label("17,"), None);
        assert_eq!(label("no label"), None);
    }
}
