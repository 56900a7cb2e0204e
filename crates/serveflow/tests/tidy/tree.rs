//! The files that the rules look at.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A text file: its path from the repository's root, with `/`, and what is in it.
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Text {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

/// A tracked file of any kind, by its path from the root and its size.
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) bytes: u64,
}

/// All files that Git tracks, or would track: new ones count before they are added.
pub(crate) struct Tree {
    root: PathBuf,
    pub(crate) entries: Vec<Entry>,
}

impl Tree {
    /// The working tree that this crate stands in.
    pub(crate) fn here() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed = Command::new("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root)
            .output()
            .expect("git runs: the tidy rules look at the files that it tracks");
        assert!(
            listed.status.success(),
            "git ls-files: {}",
            String::from_utf8_lossy(&listed.stderr)
        );
        let listed = String::from_utf8(listed.stdout).expect("tracked paths are UTF-8");
        let mut entries: Vec<Entry> = listed
            .split_terminator('\0')
            // A file that was deleted and not yet committed is still listed.
            .filter_map(|path| {
                let bytes = std::fs::metadata(root.join(path)).ok()?.len();
                Some(Entry { path: path.to_owned(), bytes })
            })
            .collect();
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        assert!(!entries.is_empty(), "git lists no file");
        Self { root, entries }
    }

    /// The text files whose paths are wanted; files that are not UTF-8 are no text.
    pub(crate) fn texts(&self, wanted: impl Fn(&str) -> bool) -> Vec<Text> {
        let wanted_entries = self.entries.iter().filter(|entry| wanted(&entry.path));
        wanted_entries
            .filter_map(|entry| {
                let bytes =
                    std::fs::read(self.root.join(&entry.path)).expect("a listed file can be read");
                let text = String::from_utf8(bytes).ok()?;
                Some(Text { path: entry.path.clone(), text })
            })
            .collect()
    }

    /// All Rust sources of the crates: `src`, `tests`, `benches`, `examples`.
    pub(crate) fn rust(&self) -> Vec<Text> {
        self.texts(|path| path.starts_with("crates/") && path.ends_with(".rs"))
    }

    /// The manifests of the workspace's crates.
    pub(crate) fn manifests(&self) -> Vec<Text> {
        self.texts(|path| path.starts_with("crates/") && path.ends_with("/Cargo.toml"))
    }
}
