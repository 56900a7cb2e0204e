//! Own rotation: when a file is set aside, and under which name.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// When a file is set aside for a new one, and how many of those are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Before it grows above so many bytes.
    pub most_bytes: Option<u64>,
    /// Once it is older than so many nanoseconds, with the next record.
    pub most_age_ns: Option<u64>,
    /// Files that are kept beside the one that is written: `NAME.1` is the latest.
    pub keep: u32,
}

impl Rotation {
    /// No rotation.
    pub const NEVER: Self = Self { most_bytes: None, most_age_ns: None, keep: 1 };

    /// Whether files are rotated at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.most_bytes.is_some() || self.most_age_ns.is_some()
    }

    /// Whether a file of this size and age makes room for a new one before `more` bytes are added.
    pub(super) fn is_due(&self, bytes: u64, more: u64, age_ns: u64) -> bool {
        let is_large = self.most_bytes.is_some_and(|most| bytes + more > most);
        let is_old = self.most_age_ns.is_some_and(|most| age_ns > most);
        bytes > 0 && more > 0 && (is_large || is_old)
    }

    /// Sets a file aside: each file that was set aside before gets the next number, and the last
    /// one goes, with all behind it where more were kept before.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<()> {
        self.remove_rest(path)?;
        for number in (1..self.keep).rev() {
            let from = numbered(path, number);
            if std::fs::symlink_metadata(&from).is_ok() {
                std::fs::rename(from, numbered(path, number + 1))?;
            }
        }
        std::fs::rename(path, numbered(path, 1))
    }

    /// Removes the files behind the last that is kept, up to the first number that is missing: what
    /// has a far number is not from here (`NAME.2026`). The last goes first, so that the next time
    /// finds what is left.
    fn remove_rest(&self, path: &Path) -> io::Result<()> {
        let behind = self.keep.saturating_add(1)..u32::MAX;
        let rest = behind.map(|number| numbered(path, number)).take_while(|name| is_file(name));
        let rest: Vec<PathBuf> = rest.collect();
        rest.iter().rev().try_for_each(std::fs::remove_file)
    }
}

/// Whether a file has this name, and nothing else, which would not be ours.
fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|there| there.is_file())
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_records_is_never_due() {
        let both = Rotation { most_bytes: Some(10), most_age_ns: Some(5), keep: 1 };
        assert!(!both.is_due(0, 100, 100), "an empty file");
        assert!(!both.is_due(100, 0, 100), "nothing comes");
        assert!(!both.is_due(5, 5, 5));
        assert!(both.is_due(5, 6, 0) && both.is_due(1, 1, 6));
        assert!(!Rotation::NEVER.is_due(u64::MAX / 2, 1, u64::MAX) && !Rotation::NEVER.is_on());
    }
}
