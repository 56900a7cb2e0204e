//! Which files the captures are: arguments and directories in, captures in the order of time out.

use super::left_out::{LeftOut, Why, told_left_out};
use super::names::{is_named_as_capture, natural_order};
use super::rules::OrderRules;
use super::{Reading, Spare, is_pipe, open};
use crate::error::SourceError;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Frames that are read of a capture to see when it begins.
const LOOK_FRAMES: usize = 32;

/// A capture, and when it begins.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Time stamp of its first packet; none where it holds none that can be read, or is a pipe.
    pub(super) first_ns: Option<u64>,
}

/// The captures that paths lead to, in the order of their first packets.
///
/// A directory stands for the captures in it and in its subdirectories. Their first bytes say what
/// they are, never their names; files that are no captures are left out and listed. Hidden files
/// and directories, whose names start with a dot, are passed over, and so are links to directories,
/// which could form a circle: they are listed too. A path that is no directory stands for itself,
/// whatever it is, and so does `-`. A file that several paths lead to is read once, and listed.
#[derive(Clone, Debug, Default)]
pub struct InputSet {
    found: Vec<Found>,
    left_out: Vec<LeftOut>,
}

impl InputSet {
    /// Looks for captures.
    ///
    /// # Errors
    /// When a path does not exist, a directory cannot be listed, or it holds no capture at all.
    pub fn find<P: AsRef<Path>>(paths: &[P]) -> Result<Self, SourceError> {
        let (mut set, mut search) = (Self::default(), Search::default());
        for path in paths.iter().map(AsRef::as_ref) {
            if path == Path::new("-") {
                set.found.push(Found { path: path.to_path_buf(), first_ns: None });
                continue;
            }
            let failed = |error| SourceError::Open { path: path.to_path_buf(), error };
            let metadata = fs::metadata(path).map_err(failed)?;
            if metadata.is_dir() {
                search.named.extend(identity(path, &metadata));
                set.take_directory(path, &mut search)?;
            } else if search.is_first(path, &metadata) {
                let first_ns = if is_pipe(path) { None } else { search.look.at(path) };
                set.found.push(Found { path: path.to_path_buf(), first_ns: first_ns.flatten() });
            } else {
                set.leave_out(path.to_path_buf(), Why::Twice);
            }
        }
        set.forget_what_is_read(&search);
        sort(&mut set.found);
        Ok(set)
    }

    /// Takes the captures in a directory, of which there must be one.
    fn take_directory(&mut self, path: &Path, search: &mut Search) -> Result<(), SourceError> {
        let (files, passed_over) = walk(path)?;
        let mut captures = 0;
        for file in files {
            captures += usize::from(self.take(file, search));
        }
        self.left_out.extend(passed_over);
        if captures == 0 {
            let left_out = std::mem::take(&mut self.left_out);
            let left_out = left_out.into_iter().filter(|left| left.path.starts_with(path));
            let told = told_left_out(&left_out.collect::<Vec<_>>());
            return Err(SourceError::NoFiles { path: path.to_path_buf(), told });
        }
        Ok(())
    }

    /// Takes a file of a directory; whether it is a capture, found before or not.
    fn take(&mut self, path: PathBuf, search: &mut Search) -> bool {
        // A link that leads nowhere is taken, and reading it says so.
        let metadata = fs::metadata(&path).ok();
        if metadata.as_ref().is_some_and(|found| !found.is_file()) {
            self.leave_out(path, Why::NoCapture);
            return false;
        }
        let Some(first_ns) = search.look.at(&path) else {
            self.leave_out(path, Why::NoCapture);
            return false;
        };
        if metadata.is_none_or(|found| search.is_first(&path, &found)) {
            self.found.push(Found { path, first_ns });
        } else {
            self.leave_out(path, Why::Twice);
        }
        true
    }

    fn leave_out(&mut self, path: PathBuf, why: Why) {
        self.left_out.push(LeftOut { path, why });
    }

    /// Lists nothing twice, and nothing hidden that was named by itself.
    fn forget_what_is_read(&mut self, search: &Search) {
        let mut listed = HashSet::new();
        self.left_out.retain(|left| {
            let is_named = left.why == Why::Hidden && search.knows(&left.path);
            !is_named && listed.insert(left.clone())
        });
    }

    /// The captures, in the order of their first packets; those that begin at the same time by
    /// name.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.found.iter().map(|found| found.path.clone()).collect()
    }

    /// What in directories is not read, and what was named twice.
    #[must_use]
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Names what was left out, in lines; nothing where nothing was.
    #[must_use]
    pub fn told(&self) -> String {
        told_left_out(&self.left_out)
    }

    pub(super) fn into_found(self) -> Vec<Found> {
        self.found
    }
}

/// What a search for captures has met.
#[derive(Default)]
struct Search {
    look: Look,
    /// Files that are read, and directories that were named.
    named: HashSet<Identity>,
}

impl Search {
    /// Whether a file was not found before; all but regular files always are the first.
    fn is_first(&mut self, path: &Path, metadata: &Metadata) -> bool {
        !metadata.is_file() || identity(path, metadata).is_none_or(|file| self.named.insert(file))
    }

    fn knows(&self, path: &Path) -> bool {
        let identity = fs::metadata(path).ok().and_then(|metadata| identity(path, &metadata));
        identity.is_some_and(|identity| self.named.contains(&identity))
    }
}

/// What two paths to the same file share: its device and its number there.
#[cfg(unix)]
type Identity = (u64, u64);

#[cfg(unix)]
fn identity(_path: &Path, metadata: &Metadata) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.dev(), metadata.ino()))
}

/// What two paths to the same file share: its path without links.
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(not(unix))]
fn identity(path: &Path, _metadata: &Metadata) -> Option<Identity> {
    fs::canonicalize(path).ok()
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
    /// When a capture begins, if it holds a packet that can be read; `None` for what is no capture.
    /// What cannot be read is taken for one, so that reading it says why.
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

/// All files below a directory, and what is passed over there, both sorted.
fn walk(root: &Path) -> Result<(Vec<PathBuf>, Vec<LeftOut>), SourceError> {
    let (mut below, mut directories) = (Below::default(), vec![root.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        if let Err(error) = below.list(&directory, &mut directories) {
            return Err(SourceError::Open { path: directory, error });
        }
    }
    below.files.sort_by(|a, b| natural_order(a, b));
    below.passed_over.sort_by(|a, b| natural_order(&a.path, &b.path));
    Ok((below.files, below.passed_over))
}

/// What stands below a directory.
#[derive(Default)]
struct Below {
    files: Vec<PathBuf>,
    passed_over: Vec<LeftOut>,
}

impl Below {
    /// Sorts the entries of one directory into files, directories and what is passed over.
    fn list(&mut self, directory: &Path, directories: &mut Vec<PathBuf>) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (kind, path) = (entry.file_type()?, entry.path());
            if is_hidden(&entry.file_name()) {
                self.passed_over.push(LeftOut { path, why: Why::Hidden });
            } else if kind.is_dir() {
                directories.push(path);
            } else if kind.is_symlink() && fs::metadata(&path).is_ok_and(|found| found.is_dir()) {
                self.passed_over.push(LeftOut { path, why: Why::Link });
            } else {
                // A link that leads nowhere is a file that cannot be opened, and reading says so.
                self.files.push(path);
            }
        }
        Ok(())
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
