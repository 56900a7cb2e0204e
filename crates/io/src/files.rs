//! Several captures, one after another.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::batch::Batch;
use crate::capture::CaptureReader;
use crate::error::SourceError;
use crate::source::Source;

/// Reads captures one after another, as if they were one.
///
/// An error ends the file that it names and no other: the next fill goes on with the next file.
/// Link types and formats may differ between the files.
pub struct FileSource {
    /// What is still to be opened.
    paths: std::vec::IntoIter<PathBuf>,
    current: Option<CaptureReader>,
    /// The read buffer while no file is open.
    buffer: Vec<u8>,
    name: String,
}

impl FileSource {
    /// A source over these files in this order; `-` is standard input.
    ///
    /// Files are opened when their turn comes. Use [`expand`] first when directories may be among
    /// them.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths: paths.into_iter(),
            current: None,
            buffer: Vec::new(),
            name: String::from("files"),
        }
    }

    /// Opens the next file; `false` when there is none left.
    fn open_next(&mut self) -> Result<bool, SourceError> {
        let Some(path) = self.paths.next() else {
            return Ok(false);
        };
        self.name = path.to_string_lossy().into_owned();
        let buffer = std::mem::take(&mut self.buffer);
        self.current = Some(CaptureReader::open_reusing(&path, buffer)?);
        Ok(true)
    }

    fn close(&mut self) {
        if let Some(reader) = self.current.take() {
            self.buffer = reader.into_buffer();
        }
    }
}

impl Source for FileSource {
    fn fill(&mut self, batch: &mut Batch, max_frames: usize) -> Result<usize, SourceError> {
        batch.clear();
        loop {
            if let Some(reader) = &mut self.current {
                let result = reader.fill(batch, max_frames);
                if matches!(result, Ok(count) if count > 0) {
                    return result;
                }
                self.close();
                result?;
            }
            if !self.open_next()? {
                return Ok(0);
            }
        }
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// Replaces each directory by the files in it and in its subdirectories.
///
/// The files of a directory are sorted by their full path. Hidden files and directories, whose name
/// starts with a dot, are left out, and so are links to directories, which could form a circle. A
/// path that is no directory stands for itself, and so does `-`.
///
/// # Errors
/// When a path does not exist, a directory cannot be listed, or it holds no file at all.
pub fn expand<P: AsRef<Path>>(paths: &[P]) -> Result<Vec<PathBuf>, SourceError> {
    let mut files = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path == Path::new("-") {
            files.push(path.to_path_buf());
            continue;
        }
        let failed = |error| SourceError::Open { path: path.to_path_buf(), error };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            files.push(path.to_path_buf());
            continue;
        }
        let found = walk(path)?;
        if found.is_empty() {
            return Err(SourceError::NoFiles { path: path.to_path_buf() });
        }
        files.extend(found);
    }
    Ok(files)
}

/// All files below a directory, sorted.
fn walk(root: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let (mut files, mut directories) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(directory) = directories.pop() {
        if let Err(error) = list(&directory, &mut files, &mut directories) {
            return Err(SourceError::Open { path: directory, error });
        }
    }
    files.sort();
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
        } else if !kind.is_symlink() || fs::metadata(&path).map_or(true, |found| found.is_file()) {
            // A link that leads nowhere is a file that cannot be opened, and is named as such then.
            files.push(path);
        }
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
