//! Reading the files of a bundle: regular files inside of its directory alone, and no more bytes
//! than there may be.
//!
//! Who can write into a bundle's directory must not make a service read what lies elsewhere, wait
//! for ever, or run out of memory: links are followed only where they end inside of the directory,
//! nothing but regular files is opened for reading, and a file that is longer than it may be is not
//! read at all.

use super::BundleError;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;

/// The most bytes of `SHA256SUMS`.
pub const MOST_SUMS_BYTES: u64 = 1 << 20;
/// The most bytes of `plan.toml`.
pub const MOST_PLAN_BYTES: u64 = 1 << 24;
/// The most bytes of all files of a bundle together, and of a model file.
pub const MOST_BUNDLE_BYTES: u64 = 1 << 30;

/// Reads a file of the bundle in `dir`, of at most so many bytes.
///
/// # Errors
/// When it is missing, leads out of the bundle, is no regular file, or is longer.
pub(super) fn file(
    dir: &Path,
    name: &str,
    most: u64,
    named_by: &str,
) -> Result<Vec<u8>, BundleError> {
    let path = dir.join(name);
    let io = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => {
            BundleError::Missing { path: path.clone(), named_by: named_by.to_owned() }
        }
        _ => BundleError::Io { path: path.clone(), source },
    };
    // Where all links on the way end.
    let (real, root) = (path.canonicalize().map_err(io)?, dir.canonicalize().map_err(io)?);
    if !real.starts_with(&root) {
        let expected = "a file inside of the bundle".to_owned();
        return Err(BundleError::File {
            path: path.clone(),
            expected,
            found: format!("a link to {}", real.display()),
        });
    }
    regular(&path, open(&real, false).map_err(io)?, most)
}

/// Reads a model file that is to come into a bundle, wherever it is and links lead to: it must be
/// one that the bundle could hold.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer than a bundle may be.
pub fn model_file(path: &Path) -> Result<Vec<u8>, BundleError> {
    let io = |source: std::io::Error| BundleError::Io { path: path.to_owned(), source };
    regular(path, open(path, true).map_err(io)?, MOST_BUNDLE_BYTES)
}

/// Reads an open file, which must be a regular one of at most so many bytes.
fn regular(path: &Path, opened: File, most: u64) -> Result<Vec<u8>, BundleError> {
    let io = |source: std::io::Error| BundleError::Io { path: path.to_owned(), source };
    let refused = |expected: String, found: String| BundleError::File {
        path: path.to_owned(),
        expected,
        found,
    };
    let kind = opened.metadata().map_err(io)?;
    if !kind.is_file() {
        return Err(refused("a regular file".to_owned(), what(&kind).to_owned()));
    }
    let too_long =
        |found: u64| refused(format!("at most {most} bytes"), format!("{found} or more"));
    if kind.len() > most {
        return Err(too_long(kind.len()));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(kind.len() as usize).map_err(|error| io(error.into()))?;
    opened.take(most + 1).read_to_end(&mut bytes).map_err(io)?;
    // It may have grown meanwhile.
    if bytes.len() as u64 > most {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Opens what links were resolved of, or else follows them. The kind of file is looked at once it
/// is open, so that nobody can put another one there in between; opening itself waits for nothing.
fn open(path: &Path, follows: bool) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(not(unix))]
    let _ = follows;
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let links = if follows { 0 } else { libc::O_NOFOLLOW };
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | links);
    }
    options.open(path)
}

/// What a file is that is none, in words.
fn what(kind: &std::fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = kind.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_block_device() || kind.is_char_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a directory" } else { "something else" }
}
