//! Which files the captures are: arguments and directories in, captures in the order of time out.

use super::names::{is_named_as_capture, natural_order};
use super::rules::OrderRules;
use super::{Reading, Spare, is_pipe, open};
use crate::error::SourceError;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Frames that are read of a capture to see when it begins.
const LOOK_FRAMES: usize = 32;
/// Names that are listed of the files that were left out.
const LISTED: usize = 5;

/// A capture, and when it begins.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Time stamp of its first packet; none where it holds none that can be read, or is a pipe.
    pub(super) first_ns: Option<u64>,
}

/// The captures that paths lead to, in the order of their first packets.
///
/// A directory stands for the captures in it and in its subdirectories. Their first bytes say what they are,
/// never their names; files that are no captures are left out and listed. Hidden files and directories, whose
/// names start with a dot, are passed over, and so are links to directories, which could form a circle. A
/// path that is no directory stands for itself, whatever it is, and so does `-`.
#[derive(Clone, Debug, Default)]
pub struct InputSet {
    found: Vec<Found>,
    left_out: Vec<PathBuf>,
}

impl InputSet {
    /// Looks for captures.
    ///
    /// # Errors
    /// When a path does not exist, a directory cannot be listed, or it holds no capture at all.
    pub fn find<P: AsRef<Path>>(paths: &[P]) -> Result<Self, SourceError> {
        let mut set = Self::default();
        let mut look = Look::default();
        for path in paths.iter().map(AsRef::as_ref) {
            let failed = |error| SourceError::Open { path: path.to_path_buf(), error };
            let is_named = path == Path::new("-") || !fs::metadata(path).map_err(failed)?.is_dir();
            if is_named {
                let first_ns = if is_pipe(path) || path == Path::new("-") {
                    None
                } else {
                    look.at(path).unwrap_or_default()
                };
                set.found.push(Found { path: path.to_path_buf(), first_ns });
                continue;
            }
            let before = set.found.len();
            for file in walk(path)? {
                set.take(file, &mut look);
            }
            if set.found.len() == before {
                return Err(SourceError::NoFiles { path: path.to_path_buf() });
            }
        }
        sort(&mut set.found);
        Ok(set)
    }

    /// Takes a file of a directory, if it is a capture.
    fn take(&mut self, path: PathBuf, look: &mut Look) {
        let is_file = fs::metadata(&path).map_or(true, |found| found.is_file());
        match if is_file { look.at(&path) } else { None } {
            Some(first_ns) => self.found.push(Found { path, first_ns }),
            None => self.left_out.push(path),
        }
    }

    /// The captures, in the order of their first packets; those that begin at the same time by name.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.found.iter().map(|found| found.path.clone()).collect()
    }

    /// Files in directories that are no captures.
    #[must_use]
    pub fn left_out(&self) -> &[PathBuf] {
        &self.left_out
    }

    /// Names what was left out, as a line; nothing where nothing was.
    #[must_use]
    pub fn told(&self) -> String {
        told_left_out(&self.left_out)
    }

    pub(super) fn into_found(self) -> Vec<Found> {
        self.found
    }
}

/// Names files that are no captures, as a line; nothing where there are none.
#[must_use]
pub fn told_left_out(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let names: Vec<String> =
        files.iter().take(LISTED).map(|path| path.display().to_string()).collect();
    let more = files.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (plural, are) =
        if files.len() == 1 { ("", "is no capture") } else { ("s", "are no captures") };
    format!("left out: {} file{plural} that {are}: {}{more}\n", files.len(), names.join(", "))
}

/// Sorts captures by time, then by name, so that the order in which they were named never matters.
pub(super) fn sort(found: &mut [Found]) {
    found.sort_by(|a, b| a.first_ns.cmp(&b.first_ns).then_with(|| natural_order(&a.path, &b.path)));
}

/// Looks into files, one after another.
#[derive(Default)]
pub(super) struct Look {
    buffer: Vec<u8>,
    spare: Spare,
    stop: Arc<AtomicBool>,
}

impl Look {
    /// When a capture begins, if it holds a packet that can be read; `None` for what is no capture. What
    /// cannot be read is taken for one, so that reading it says why.
    pub(super) fn at(&mut self, path: &Path) -> Option<Option<u64>> {
        let mut stream = match open(path, 0, std::mem::take(&mut self.buffer), &self.stop) {
            Ok(stream) => stream,
            Err(SourceError::UnknownFormat { .. }) => return None,
            Err(SourceError::Empty { .. } | SourceError::Truncated { .. }) => {
                return is_named_as_capture(path).then_some(None);
            }
            Err(_) => return Some(None),
        };
        let rules = OrderRules::default();
        let mut reading = Reading {
            rules: &rules,
            frames: LOOK_FRAMES,
            spare: &mut self.spare,
            stop: &self.stop,
        };
        let piece = stream.next(&mut reading);
        self.buffer = stream.into_reader().into_buffer();
        let first_ns = piece.as_ref().map(|piece| piece.batch.ts_ns(0));
        self.spare.0.extend(piece.map(|piece| piece.batch));
        Some(first_ns)
    }
}

/// All files below a directory, sorted.
fn walk(root: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        if let Err(error) = list(&directory, &mut files, &mut directories) {
            return Err(SourceError::Open { path: directory, error });
        }
    }
    files.sort_by(|a, b| natural_order(a, b));
    Ok(files)
}

/// Sorts the visible entries of one directory into files and directories.
fn list(
    directory: &Path,
    files: &mut Vec<PathBuf>,
    directories: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            directories.push(path);
        } else if !kind.is_symlink() || fs::metadata(&path).map_or(true, |found| !found.is_dir()) {
            // A link that leads nowhere is a file that cannot be opened, and is named as such then.
            files.push(path);
        }
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
