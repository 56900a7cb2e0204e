//! `SHA256SUMS`: the bundle's hash list, in the form that `sha256sum -c` reads.

use super::read::{self, MOST_BUNDLE_BYTES, MOST_PLAN_BYTES, MOST_SUMS_BYTES};
use super::{BundleError, PLAN};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file that lists the hashes of all others; it is written last.
pub const SUMS: &str = "SHA256SUMS";

/// SHA-256 of some bytes, in hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The list's text for files and their contents.
pub(super) fn write(files: &BTreeMap<String, Vec<u8>>) -> String {
    files.iter().map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes))).collect()
}

/// The bundle's files by name, each read and held to its listed hash, and the bundle's id: the
/// hash of the list itself.
pub(super) fn read(dir: &Path) -> Result<(BTreeMap<String, Vec<u8>>, String), BundleError> {
    let path = dir.join(SUMS);
    is_one(dir)?;
    let list = read::file(dir, SUMS, MOST_SUMS_BYTES, "every bundle")?;
    let mut left = MOST_BUNDLE_BYTES;
    let text = String::from_utf8_lossy(&list);
    let mut files = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let parts = line.split_once("  ").filter(|(hash, name)| is_hash(hash) && is_inside(name));
        let Some((hash, name)) = parts else {
            return Err(BundleError::BadSums { path, line: index + 1 });
        };
        let most = if name == PLAN { MOST_PLAN_BYTES.min(left) } else { left };
        let bytes = read::file(dir, name, most, SUMS)?;
        left -= bytes.len() as u64;
        let found = sha256(&bytes);
        if found != hash {
            return Err(BundleError::WrongHash {
                path: dir.join(name),
                expected: hash.to_owned(),
                found,
            });
        }
        files.insert(name.to_owned(), bytes);
    }
    Ok((files, sha256(&list)))
}

/// Refuses what cannot be a bundle at a glance, and says what it is instead.
fn is_one(dir: &Path) -> Result<(), BundleError> {
    let unseen = |path: &Path, error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Ok(()),
        _ => Err(BundleError::Io { path: path.to_owned(), source: error }),
    };
    // What may not be looked at is not nothing.
    for path in [dir.to_owned(), dir.join(SUMS), dir.join(PLAN)] {
        path.symlink_metadata().map(drop).or_else(|error| unseen(&path, error))?;
    }
    dir.metadata().map(drop).or_else(|error| unseen(dir, error))?;
    let found = match dir {
        dir if dir.is_file() => "a file; captures are named without --bundle",
        // Also where it is a link that leads nowhere: the reader says so.
        dir if dir.join(SUMS).symlink_metadata().is_ok() => return Ok(()),
        dir if dir.join(PLAN).exists() => {
            "plan.toml without SHA256SUMS; `serveflow bundle pack` writes it"
        }
        dir if dir.is_dir() => "a directory without them",
        _ => "nothing",
    };
    Err(BundleError::NoBundle { path: dir.to_owned(), found })
}

/// Names of a list that is there, as far as it reads.
pub(super) fn listed(dir: &Path) -> Vec<String> {
    let list = read::file(dir, SUMS, MOST_SUMS_BYTES, "every bundle").unwrap_or_default();
    let text = String::from_utf8_lossy(&list);
    let names = text.lines().filter_map(|line| line.split_once("  "));
    names.map(|(_, name)| name.to_owned()).filter(|name| is_inside(name)).collect()
}

fn is_hash(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A bundle never reaches outside of its directory.
pub(super) fn is_inside(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('/') && name.split('/').all(|part| part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system does not let be looked at is not said to be nothing.
    #[test]
    fn a_path_that_cannot_be_looked_at_is_told_with_the_systems_error() {
        // Also root is refused these.
        let long = std::env::temp_dir().join("x".repeat(300));
        for path in [long.clone(), long.join("bundle"), "a\0b".into()] {
            let error = is_one(&path).unwrap_err();
            assert!(matches!(error, BundleError::Io { .. }), "{error}");
        }
        let missing = std::env::temp_dir().join("serveflow-nowhere/bundle");
        assert!(matches!(is_one(&missing), Err(BundleError::NoBundle { found: "nothing", .. })));
    }
}
