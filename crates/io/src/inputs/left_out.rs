//! What was passed over on the way to the captures, and why.

use std::fmt::Write;
use std::path::PathBuf;

/// Names that are listed of each kind.
const LISTED: usize = 5;

/// A file or directory that is not read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeftOut {
    /// Where it stands.
    pub path: PathBuf,
    /// Why it is not read.
    pub why: Why,
}

/// Why a file or directory is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// A file in a directory is no capture.
    NoCapture,
    /// A name in a directory starts with a dot.
    Hidden,
    /// A link in a directory leads to a directory, which could form a circle.
    Link,
    /// The same file was found before.
    Twice,
}

impl Why {
    /// All but those found before, in the order in which they are told.
    const PASSED_OVER: [Self; 3] = [Self::NoCapture, Self::Hidden, Self::Link];

    /// So many of them, in words.
    fn words(self, count: usize) -> &'static str {
        match (self, count) {
            (Self::NoCapture, 1) => "file that is no capture",
            (Self::NoCapture, _) => "files that are no captures",
            (Self::Hidden, 1) => "hidden file or directory",
            (Self::Hidden, _) => "hidden files or directories",
            (Self::Link, 1) => "link to a directory",
            (Self::Link, _) => "links to directories",
            (Self::Twice, _) => "named twice, read once",
        }
    }
}

/// Names what was left out, in a line, and what was named twice, in another; nothing where there is
/// nothing.
#[must_use]
pub fn told_left_out(left_out: &[LeftOut]) -> String {
    let mut told = String::new();
    for why in Why::PASSED_OVER {
        let (count, names) = named(left_out, why);
        if count > 0 {
            told.push_str(if told.is_empty() { "left out: " } else { "; " });
            let _ = write!(told, "{count} {}: {names}", why.words(count));
        }
    }
    if !told.is_empty() {
        told.push('\n');
    }
    let (count, names) = named(left_out, Why::Twice);
    if count > 0 {
        let _ = writeln!(told, "{}: {names}", Why::Twice.words(count));
    }
    told
}

/// How many there are of a kind, and the names of the first.
fn named(left_out: &[LeftOut], why: Why) -> (usize, String) {
    let mut paths = left_out.iter().filter(|left| left.why == why).map(|left| &left.path);
    let names: Vec<String> =
        paths.by_ref().take(LISTED).map(|path| path.display().to_string()).collect();
    let more = paths.count();
    let mut list = names.join(", ");
    if more > 0 {
        let _ = write!(list, " and {more} more");
    }
    (names.len() + more, list)
}
