//! The sample: labelled captures with a bundle, from a directory or from within the program.

use anyhow::{Context, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};
use std::str::from_utf8;

/// The sample's directory, from the root of the project.
const DIRECTORY: &str = "data/app_protocol";
/// The bundle, test captures and test labels of `data/app_protocol`. `scripts/sample/pack.py`
/// writes it.
const PACKED: &[u8] = include_bytes!("../sample/app_protocol.tar.zst");
/// Unit of a tar archive: headers are one block, files whole blocks.
const BLOCK: usize = 512;
/// Temporary directories of one process.
const ATTEMPTS: u32 = 64;

/// A directory with captures in folders by split, `labels.csv` and `bundle`.
pub(crate) struct Sample {
    dir: PathBuf,
    /// Removed with the sample.
    unpacked: Option<Unpacked>,
}

impl Sample {
    /// The named directory; else that of the project, if this is the current directory; else what
    /// the program carries, unpacked to a temporary directory that lives as long as the sample.
    /// `option` is how another directory is named.
    pub(crate) fn find(named: Option<&Path>, option: &str) -> anyhow::Result<Self> {
        let has_labels = |dir: &Path| dir.join("labels.csv").is_file();
        let dir = named.unwrap_or(Path::new(DIRECTORY));
        if has_labels(dir) {
            return Ok(Self { dir: dir.to_owned(), unpacked: None });
        }
        if let Some(dir) = named {
            anyhow::bail!(
                "{option} {}: expected a sample with labels.csv, found none",
                dir.display()
            );
        }
        let temporary = std::env::temp_dir();
        let unpacked = Unpacked::below(&temporary).with_context(|| {
            format!(
                "{}: cannot unpack the sample; set TMPDIR to a directory with 2 MB of space, or \
                 name other data with {option}",
                temporary.display()
            )
        })?;
        Ok(Self { dir: unpacked.dir.clone(), unpacked: Some(unpacked) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    pub(crate) fn labels(&self) -> PathBuf {
        self.dir.join("labels.csv")
    }

    /// The folders of captures; the program carries that of the test split only.
    pub(crate) fn captures(&self) -> Vec<PathBuf> {
        let all = ["train", "val", "test"].map(|split| self.dir.join(split));
        all.into_iter().filter(|folder| folder.is_dir()).collect()
    }

    /// Whether its directory exists only while the program runs.
    pub(crate) fn is_temporary(&self) -> bool {
        self.unpacked.is_some()
    }

    /// Where it is from, in words.
    pub(crate) fn name(&self) -> String {
        match self.unpacked {
            Some(_) => "the sample within the program".to_owned(),
            None => self.dir.display().to_string(),
        }
    }
}

/// A directory with the unpacked sample, which is removed when this is dropped or when a signal
/// ends the program.
struct Unpacked {
    dir: PathBuf,
}

impl Unpacked {
    fn below(temporary: &Path) -> anyhow::Result<Self> {
        let dir = new_directory(temporary)?;
        let unpacked = Self { dir };
        unpacked.remove_on_signals()?;
        let tar = zstd::decode_all(PACKED).context("the sample within the program")?;
        for (name, content) in files(&tar)? {
            let path = unpacked.dir.join(name);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            }
            fs::write(&path, content).with_context(|| path.display().to_string())?;
        }
        Ok(unpacked)
    }

    /// A signal ends the program without running destructors.
    fn remove_on_signals(&self) -> anyhow::Result<()> {
        let mut signals =
            Signals::new([SIGHUP, SIGINT, SIGTERM]).context("cannot listen for signals")?;
        let dir = self.dir.clone();
        let thread = std::thread::Builder::new().name("sample".to_owned());
        let follow = move || {
            if let Some(signal) = signals.forever().next() {
                let _ = fs::remove_dir_all(&dir);
                std::process::exit(128 + signal);
            }
        };
        thread.spawn(follow).map(|_| ()).context("cannot start the thread sample")
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever clears temporary directories.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Makes a directory that only this user may enter. A name that exists is never used: somebody else
/// may have made it.
fn new_directory(temporary: &Path) -> anyhow::Result<PathBuf> {
    let process = std::process::id();
    for attempt in 0..ATTEMPTS {
        let dir = temporary.join(format!("serveflow-sample-{process}-{attempt}"));
        match DirBuilder::new().mode(0o700).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| dir.display().to_string()),
        }
    }
    anyhow::bail!("serveflow-sample-{process}-*: expected an unused name, found {ATTEMPTS} in use")
}

/// Names and contents of the files in a tar archive (POSIX ustar). It knows what
/// `scripts/sample/pack.py` writes: regular files whose names fit into the header.
fn files(tar: &[u8]) -> anyhow::Result<Vec<(&Path, &[u8])>> {
    let mut found = Vec::new();
    let mut rest = tar;
    // Blocks of zeros end an archive.
    while let Some((header, after)) = rest.split_at_checked(BLOCK).filter(|(head, _)| head[0] != 0)
    {
        let text = |from: usize, len: usize| {
            let field = &header[from..from + len];
            let end = field.iter().position(|&byte| byte == 0).unwrap_or(len);
            from_utf8(&field[..end]).context("sample archive: expected text in a header")
        };
        let name = Path::new(text(0, 100)?);
        let is_inside = name.components().all(|part| matches!(part, Component::Normal(_)));
        ensure!(
            is_inside && header[156] == b'0',
            "sample archive: expected regular files below its root, found `{}`",
            name.display()
        );
        let size = usize::from_str_radix(text(124, 12)?.trim(), 8)
            .with_context(|| format!("sample archive: size of `{}`", name.display()))?;
        let content = after.get(..size).with_context(|| {
            format!("sample archive: `{}`: expected {size} bytes, found fewer", name.display())
        })?;
        found.push((name, content));
        rest = after.get(size.next_multiple_of(BLOCK)..).unwrap_or_default();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn source() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DIRECTORY)
    }

    fn read_below(root: &Path, folder: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = folder.join(entry.unwrap().file_name());
            match root.join(&name).is_dir() {
                true => read_below(root, &name, into),
                false => drop(into.insert(name.clone(), fs::read(root.join(name)).unwrap())),
            }
        }
    }

    /// What `pack.py` packs, from the sources.
    fn expected() -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in ["bundle", "test"] {
            read_below(&source(), Path::new(folder), &mut files);
        }
        let licence = "LICENSE-UPSTREAM";
        files.insert(licence.into(), fs::read(source().join(licence)).unwrap());
        let labels = fs::read_to_string(source().join("labels.csv")).unwrap();
        let is_kept = |line: &&str| {
            let split = line.split(',').nth(1);
            split == Some("test") || split == Some("split")
        };
        let labels: String = labels.split_inclusive('\n').filter(is_kept).collect();
        files.insert("labels.csv".into(), labels.into_bytes());
        files
    }

    #[test]
    fn the_program_carries_the_test_part_of_the_sample() {
        let tar = zstd::decode_all(PACKED).unwrap();
        let found: BTreeMap<PathBuf, Vec<u8>> = files(&tar)
            .unwrap()
            .into_iter()
            .map(|(name, content)| (name.to_owned(), content.to_owned()))
            .collect();
        let expected = expected();
        let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "run scripts/sample/pack.py");
        for (name, content) in &expected {
            assert!(found[name] == *content, "{}: run scripts/sample/pack.py", name.display());
        }
    }

    #[test]
    fn unpacked_samples_are_separate_private_and_removed() {
        let temporary = std::env::temp_dir().join(format!("sample-test-{}", std::process::id()));
        fs::create_dir_all(&temporary).unwrap();
        let (one, other) =
            (Unpacked::below(&temporary).unwrap(), Unpacked::below(&temporary).unwrap());
        assert_ne!(one.dir, other.dir);
        for unpacked in [&one, &other] {
            let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&unpacked.dir).unwrap());
            assert_eq!(mode & 0o777, 0o700);
            let mut found = BTreeMap::new();
            read_below(&unpacked.dir, Path::new(""), &mut found);
            assert!(found == expected());
        }
        drop((one, other));
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
        fs::remove_dir(temporary).unwrap();
    }

    /// Every cut and every changed byte of a header ends in files or an error.
    #[test]
    fn a_damaged_archive_is_an_error_and_no_panic() {
        let tar = zstd::decode_all(PACKED).unwrap();
        let all = files(&tar).unwrap().len();
        assert!(files(&tar[..BLOCK + 1]).is_err());
        for cut in (0..tar.len()).step_by(997) {
            let _ = files(&tar[..cut]);
        }
        for at in 0..BLOCK {
            let mut damaged = tar[..4 * BLOCK].to_vec();
            for byte in [0, b'/', b'.', b'9', 0xff] {
                damaged[at] = byte;
                assert!(files(&damaged).map_or(0, |found| found.len()) <= all);
            }
        }
        let mut outside = tar.clone();
        outside[..3].copy_from_slice(b"../");
        assert!(files(&outside).is_err());
        outside[0] = b'/';
        assert!(files(&outside).is_err());
    }
}
