//! Labels by path: `captures/<label>/*.pcap`, or `captures/<label>.pcap`.

use super::book::Writer;
use super::{LabelBook, LabelError, Labelled, Split};
use serveflow_io::inputs::capture_name;
use serveflow_io::{InputSet, SourceError};
use std::path::Path;

/// Labels all captures below a directory by where they stand.
///
/// A part of the path named `train`, `val` or `test` is the split. What is left of the path says
/// the label: its first folder, or, for captures that stand at the top, the file name without what
/// says that it is a capture ([`capture_name`]). Files that are no captures are left out, and
/// listed in the book. Captures without a split are split by time within each capture: the first 70
/// % of the flows train, the next 15 % validate, the rest test.
///
/// # Errors
/// When the directory cannot be listed or holds no capture.
pub fn by_path(captures: &Path) -> Result<LabelBook, LabelError> {
    let mut book = Writer::default();
    let mut listing = String::new();
    let nothing = |error| match error {
        SourceError::NoFiles { .. } => LabelError::Nothing {
            path: captures.to_owned(),
            expected: "captures in folders named by label, or a labels.csv given with --labels; \
                       found no capture file",
        },
        error => error.into(),
    };
    let set = InputSet::find(&[captures]).map_err(nothing)?;
    let mut files = set.paths();
    files.sort();
    for file in files {
        let inside = file.strip_prefix(captures).unwrap_or(&file);
        let (label, split) = place(inside);
        listing.push_str(&format!("{}\t{label}\n", inside.display()));
        let label = book.label(&label);
        book.whole(file.clone(), Labelled { label, split, source: None });
    }
    Ok(LabelBook {
        left_out: set.left_out().to_vec(),
        ..book.finish(captures, captures, listing.as_bytes())?
    })
}

/// The label and the split that a path says.
fn place(inside: &Path) -> (String, Option<Split>) {
    let mut parts: Vec<String> =
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let at = parts.iter().rposition(|part| Split::from_name(part).is_some());
    let split = at.and_then(|at| Split::from_name(&parts.remove(at)));
    let label = if parts.len() > 1 { &parts[0] } else { capture_name(&parts[0]) };
    (label.to_owned(), split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_label_and_split() {
        let cases = [
            ("dns/a.pcap", "dns", None),
            ("train/dns/a.pcap.gz", "dns", Some(Split::Train)),
            ("dns/test/a.pcap", "dns", Some(Split::Test)),
            ("val/dns.p1.pcap.zst", "dns", Some(Split::Val)),
            ("tls.pcapng", "tls", None),
            ("google.com.pcap", "google.com", None),
            ("google.maps.PCAP1", "google.maps", None),
            ("test/file transfer", "file transfer", Some(Split::Test)),
        ];
        for (path, label, split) in cases {
            assert_eq!(place(Path::new(path)), (label.to_owned(), split), "{path}");
        }
    }
}
