//! Labels by path: `captures/<label>/*.pcap`, or `captures/<label>.pcap`.

use super::book::Writer;
use super::{LabelBook, LabelError, Labelled, Split};
use std::path::{Path, PathBuf};

/// Endings that are not part of a capture's name.
const ENDINGS: [&str; 7] = ["gz", "zst", "pcap", "pcapng", "cap", "dmp", "ntar"];

/// Labels all captures below a directory by where they stand.
///
/// A part of the path named `train`, `val` or `test` is the split. What is left of the path says
/// the label: its first folder, or, for captures that stand at the top, the file name up to its
/// first dot. Captures without a split are split by time within each capture: the first 70 % of
/// the flows train, the next 15 % validate, the rest test.
///
/// # Errors
/// When the directory cannot be listed or holds no capture.
pub fn by_path(captures: &Path) -> Result<LabelBook, LabelError> {
    let mut book = Writer::default();
    let mut listing = String::new();
    for file in serveflow_io::expand(&[captures])? {
        let inside = file.strip_prefix(captures).unwrap_or(&file);
        if !is_capture(inside) {
            continue;
        }
        let (label, split) = place(inside);
        listing.push_str(&format!("{}\t{label}\n", inside.display()));
        let label = book.label(&label);
        book.whole(file.clone(), Labelled { label, split, source: None });
    }
    if book.is_empty() {
        return Err(LabelError::Nothing {
            path: captures.to_owned(),
            expected: "captures in folders named by label, or a labels.csv given with --labels",
        });
    }
    book.finish(captures, captures, serveflow_model::bundle::sha256(listing.as_bytes()))
}

fn is_capture(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

/// The label and the split that a path says.
fn place(inside: &Path) -> (String, Option<Split>) {
    let mut parts: Vec<String> =
        inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let at = parts.iter().rposition(|part| Split::from_name(part).is_some());
    let split = at.and_then(|at| Split::from_name(&parts.remove(at)));
    let label = if parts.len() > 1 { parts[0].clone() } else { stem(&parts[0]) };
    (label, split)
}

/// A file name up to its first ending.
fn stem(name: &str) -> String {
    let path = PathBuf::from(name);
    path.file_stem().map_or_else(String::new, |_| name.split('.').next().unwrap_or(name).to_owned())
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
        ];
        for (path, label, split) in cases {
            assert_eq!(place(Path::new(path)), (label.to_owned(), split), "{path}");
        }
    }
}
