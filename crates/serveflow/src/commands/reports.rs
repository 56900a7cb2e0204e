//! The files of `--json` and `--html`, which replace earlier reports and nothing else.

use anyhow::{Context, ensure};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Extensions of compressed files.
const COMPRESSED: [&str; 14] =
    ["gz", "gzip", "tgz", "z", "zip", "zst", "zstd", "bz2", "xz", "lzma", "lz4", "br", "sz", "7z"];

/// Refuses a name with the extension of a compressed file, since output is not compressed.
///
/// # Errors
/// When the name has one.
pub(super) fn keep_plain(option: &str, out: &Path) -> anyhow::Result<()> {
    let ending = out.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let compressed = ending.filter(|ending| COMPRESSED.contains(&ending.as_str()));
    ensure!(
        compressed.is_none(),
        "{option}: expected a name without an ending of compression, since what is written is not \
         compressed, found {} with the ending .{}",
        out.display(),
        compressed.unwrap_or_default()
    );
    Ok(())
}

/// Requires each file to be new, empty, or an earlier report. Called before anything is measured: a
/// typing error must cost neither a capture, a label table or a bundle, nor the results of a long
/// run.
///
/// # Errors
/// When something else stands there, or nothing can be written.
pub(super) fn claim<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> anyhow::Result<()> {
    for path in paths {
        let found = found(path).with_context(|| format!("{}: cannot read", path.display()))?;
        ensure!(
            found.is_none(),
            "{}: expected a new file or a report to replace, found {}",
            path.display(),
            found.unwrap_or_default()
        );
        keep_plain("--json, --html", path)?;
        let is_new = !path.exists();
        let file = File::options().append(true).create(true).open(path);
        file.with_context(|| format!("{}: cannot write", path.display()))?;
        if is_new {
            // A command that fails leaves no empty report behind.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

/// What stands at a path, if it is not to be replaced.
fn found(path: &Path) -> std::io::Result<Option<&'static str>> {
    let Ok(metadata) = std::fs::metadata(path) else { return Ok(None) };
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(None);
    }
    let mut start = Vec::new();
    File::open(path)?.take(256).read_to_end(&mut start)?;
    let start = String::from_utf8_lossy(&start).trim_start().to_ascii_lowercase();
    if !start.starts_with(['{', '[']) && !start.starts_with("<!doctype html") {
        return Ok(Some("something else"));
    }
    let is_bundles = path.canonicalize()?.ancestors().skip(1).take(2).any(is_bundle);
    let is_report = path.file_stem().is_some_and(|stem| stem == "report");
    Ok((is_bundles && !is_report).then_some("a file of a bundle"))
}

fn is_bundle(folder: &Path) -> bool {
    folder.join("SHA256SUMS").exists()
}
