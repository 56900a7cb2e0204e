//! The folder that a training writes to, and the signals that interrupt it.

use super::complain;
use anyhow::{Context, ensure};
use serveflow_model::bundle::{Bundle, read_unsigned};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::{Path, PathBuf};

/// What a folder has that a bundle or a training was written to.
const OWN: [&str; 3] = ["plan.toml", "SHA256SUMS", "pool"];
/// Entries that a sentence names.
const NAMED: usize = 4;

/// Requires the folder of `--out` to be new, empty, or that of an earlier training, without
/// captures. Returns a sentence about the bundle that is replaced, if any.
///
/// # Errors
/// When there is something else in it.
pub(crate) fn claimed<'a>(
    out: &Path,
    captures: impl IntoIterator<Item = &'a PathBuf>,
) -> anyhow::Result<Option<String>> {
    let Ok(folder) = out.canonicalize() else { return Ok(None) };
    if !folder.is_dir() {
        return Ok(None);
    }
    let is_inside =
        |path: &&PathBuf| path.canonicalize().is_ok_and(|path| path.starts_with(&folder));
    if let Some(capture) = captures.into_iter().find(is_inside) {
        anyhow::bail!(
            "--out {}: expected a separate folder for the bundle, found one with the capture \
             {}",
            out.display(),
            capture.display()
        );
    }
    let entries = std::fs::read_dir(&folder).with_context(|| out.display().to_string())?;
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    let is_own = names.iter().any(|name| OWN.contains(&name.as_str()));
    if !is_own {
        let more = if names.len() > NAMED { ", ..." } else { "" };
        let found: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
        ensure!(
            names.is_empty(),
            "--out {}: expected a new or empty folder, or that of an earlier bundle, found \
             {}{more}",
            out.display(),
            found.join(", ")
        );
        return Ok(None);
    }
    Ok(replaced(out))
}

/// What a folder's bundle is, in words.
fn replaced(out: &Path) -> Option<String> {
    let id = Bundle::id_at(out)?;
    let of = match read_unsigned(out) {
        Ok((plan, _)) => format!(" (task `{}`, {} labels)", plan.task, plan.labels.len()),
        Err(_) => String::new(),
    };
    Some(format!("replacing the bundle {}{of} in {}", &id[..16.min(id.len())], out.display()))
}

/// On SIGINT or SIGTERM, says what is kept of the work so far, and exits with 128 + the signal.
pub(crate) fn say_when_interrupted(words: String) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for signals")?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let follow = move || {
        if let Some(signal) = signals.forever().next() {
            complain(&format!("\ninterrupted: {words}\n"));
            std::process::exit(128 + signal);
        }
    };
    thread.spawn(follow).map(|_| ()).context("cannot start the thread signals")
}
