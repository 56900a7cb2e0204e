//! Where the verdicts of a run go.

use super::serve_args::RunArgs;
use super::{Session, reports};
use anyhow::{Context, anyhow, bail};
use serveflow_io::Sink;
use serveflow_model::bundle::Bundle;
use serveflow_output::FORMATS;
use serveflow_output::format::VerdictFormat;
use serveflow_output::{
    Existing, FileOptions, Output, OutputFile, OutputLimits, OutputStatus, StandardStream,
};
use serveflow_serve::clock;
use serveflow_serve::config::{Config, OutputConfig, ServiceLimits};
use serveflow_serve::service::{Sandbox, would_write};
use serveflow_serve::summary;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What a run is, as far as its output is concerned.
#[derive(Clone, Copy)]
pub(crate) struct RunKind {
    /// Packets arrive in real time and cannot be held back.
    pub(crate) is_live: bool,
    /// It is looked at by metrics or a control socket.
    pub(crate) is_watched: bool,
}

impl RunKind {
    /// Whether it is a service, which goes on where the run before it ended.
    pub(crate) fn is_service(self) -> bool {
        self.is_live || self.is_watched
    }
}

/// What the command line says of an output.
#[derive(Clone, Copy, Default)]
pub(crate) struct Target<'a> {
    /// `--out`, if it is given.
    pub(crate) out: Option<&'a Path>,
    /// Whether the format is that of `--format`.
    pub(crate) has_format: bool,
    /// `--append`.
    pub(crate) append: bool,
    /// `--overwrite`.
    pub(crate) overwrite: bool,
}

impl<'a> From<&'a RunArgs> for Target<'a> {
    fn from(args: &'a RunArgs) -> Self {
        let RunArgs { out, format, append, overwrite, .. } = args;
        let (out, has_format) = (out.as_deref(), format.is_some());
        Self { out, has_format, append: *append, overwrite: *overwrite }
    }
}

/// An output that may be written to, and is not yet.
pub(crate) struct Outlet {
    kind: &'static VerdictFormat,
    path: Option<PathBuf>,
    limits: OutputLimits,
    transport: Transport,
}

enum Transport {
    None,
    Standard(StandardStream),
    File(Box<OutputFile>),
}

impl Outlet {
    /// Opens what verdicts go to, and changes nothing of it.
    pub(crate) fn open(config: &Config, args: Target<'_>, run: RunKind) -> anyhow::Result<Self> {
        let Config { output: config, service, .. } = config;
        let kind = format(config.format.as_deref(), args)?;
        let path = args.out.map(Path::to_owned);
        if let Some(path) = path.as_ref().filter(|_| kind.name != "null") {
            reports::keep_plain("--out", path)?;
        }
        if let Some(path) = path.as_ref().filter(|_| run.is_live && kind.name != "null") {
            foresee(config, service, path)?;
        }
        let transport = match &path {
            // Nothing is written.
            _ if kind.name == "null" => Transport::None,
            None if config.rotation.is_on() => {
                bail!("output.rotate_mb, output.rotate_s: expected --out with a file, found none")
            }
            None => Transport::Standard(
                StandardStream::output(kind.heading).context("standard output: cannot write")?,
            ),
            Some(path) => Transport::File(Box::new(OutputFile::open(
                path,
                FileOptions {
                    existing: existing(args, run),
                    rotation: config.rotation,
                    heading: kind.heading,
                    is_like: kind.is_like,
                    epoch: clock::epoch_ns,
                },
            )?)),
        };
        let limits = OutputLimits {
            buffer_bytes: config.buffer_bytes,
            is_lossless: !run.is_live,
            // Without metrics or a control socket nothing would show the loss, so the run ends.
            ends_with_reader: !run.is_watched,
            stall_ns: config.stall_ns,
            now: clock::now_ns,
        };
        Ok(Self { kind, path, limits, transport })
    }

    /// Opens and closes it, so that what a run refuses is refused; removes a file that it created.
    pub(crate) fn tried(config: &Config, args: Target<'_>, run: RunKind) -> anyhow::Result<()> {
        let is_new = args.out.is_some_and(|path| !path.exists());
        drop(Self::open(config, args, run)?);
        // The target of a link, and not the link.
        let made = args.out.filter(|_| is_new).and_then(|path| path.canonicalize().ok());
        if let Some(made) = made {
            let _ = std::fs::remove_file(made);
        }
        Ok(())
    }

    /// The directory in which the file may have to be reopened.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        let is_device = match &self.transport {
            Transport::File(file) => !file.is_regular() && file.file().is_some(),
            _ => false,
        };
        let path = self.path.as_ref().filter(|_| !is_device)?;
        Some(directory_of(path).to_owned())
    }

    /// Gives a file to the user that the process is about to become.
    #[cfg(target_os = "linux")]
    pub(crate) fn give_to(&self, user: &str) -> anyhow::Result<()> {
        let Transport::File(file) = &self.transport else { return Ok(()) };
        let Some(open) = file.file().filter(|_| file.is_regular()) else { return Ok(()) };
        let named = || format!("service.user = {user}");
        let (uid, gid) = serveflow_io::os::privileges::find(user).with_context(named)?;
        let given = std::os::unix::fs::fchown(open, Some(uid), Some(gid));
        given.with_context(|| format!("{}: cannot give it to {user}", self.name()))
    }

    /// Elsewhere than on Linux no process becomes another user.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn give_to(&self, _user: &str) -> anyhow::Result<()> {
        Ok(())
    }

    /// Checks whether the process can reopen the file with its present privileges.
    pub(crate) fn look_ahead(&self, config: &OutputConfig) -> anyhow::Result<()> {
        #[cfg(target_os = "linux")]
        if let Some(directory) = self.directory()
            && let Err(error) = serveflow_io::os::privileges::may_write(&directory)
        {
            let sentence = shut(&directory, &error);
            if config.rotation.is_on() {
                bail!("{sentence}");
            }
            tracing::warn!("{sentence}");
        }
        Ok(())
    }

    /// The output, as an error names it.
    fn name(&self) -> String {
        self.path.as_ref().map_or("standard output".to_owned(), |path| path.display().to_string())
    }

    /// Begins to write, with the privileges that the process has now.
    pub(crate) fn begin(self) -> anyhow::Result<Verdicts> {
        let name = self.name();
        let output = Output::new(self.limits);
        let started = match self.transport {
            Transport::None => Ok(()),
            Transport::Standard(stream) => output.write_to(stream, "output"),
            Transport::File(file) => output.write_to(*file, "output"),
        };
        started.with_context(|| format!("{name}: cannot write"))?;
        let output = (self.kind.name != "null").then_some(output);
        Ok(Verdicts { kind: self.kind, name, is_standard: self.path.is_none(), output })
    }
}

/// Refuses rotation where the process may not rotate without its privileges. It comes
/// before the file is opened: a start that is refused neither makes a file nor gives one away.
fn foresee(config: &OutputConfig, service: &ServiceLimits, path: &Path) -> anyhow::Result<()> {
    if !config.rotation.is_on() {
        return Ok(());
    }
    let confinement =
        Sandbox { user: service.user.clone(), is_strict: service.confine, ..Sandbox::default() };
    let directory = directory_of(path);
    would_write(&confinement, directory).map_err(|error| anyhow!(shut(directory, &error)))
}

/// The directory of a file.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// The error of a directory without write permission.
fn shut(directory: &Path, error: &std::io::Error) -> String {
    format!(
        "{}: expected a directory that this process may write to, because the output is opened \
         again after it is moved or rotated: {error}",
        directory.display()
    )
}

/// What happens to an existing file. A service appends to it; a run on captures refuses it, since
/// verdicts of other captures in the same file are seldom what was meant.
fn existing(args: Target<'_>, run: RunKind) -> Existing {
    match () {
        () if args.overwrite => Existing::Overwrite,
        () if args.append || run.is_service() => Existing::Append,
        () => Existing::Refuse,
    }
}

/// The format that was stated, or else the one that the output's name ends in.
fn format(stated: Option<&str>, args: Target<'_>) -> anyhow::Result<&'static VerdictFormat> {
    let ending =
        args.out.as_ref().and_then(|path| path.extension()?.to_str().map(str::to_lowercase));
    let by_ending = |ending: &String| FORMATS.iter().find(|kind| kind.endings.contains(&&**ending));
    let ends_in = ending.as_ref().and_then(by_ending);
    if ending.as_deref() == Some("parquet") && stated != Some("null") {
        bail!(
            "--out: expected a name for verdicts as json or csv, found one that ends in .parquet"
        );
    }
    let Some(stated) = stated else {
        return ends_in.or_else(|| FORMATS.first()).context("there is a format");
    };
    let kind = FORMATS.iter().find(|kind| kind.name == stated).context("the config was checked")?;
    if let (Some(other), Some(path)) = (ends_in, &args.out)
        && other.name != kind.name
        && !kind.endings.is_empty()
    {
        let which = if args.has_format { "--format" } else { "output.format =" };
        bail!(
            "{which} {stated}: expected an output that ends in .{}, found {}",
            kind.endings.join(" or ."),
            path.display()
        );
    }
    Ok(kind)
}

/// The output of a run.
pub(crate) struct Verdicts {
    kind: &'static VerdictFormat,
    name: String,
    is_standard: bool,
    output: Option<Output>,
}

impl Verdicts {
    /// A sink for each worker, all with the one output.
    pub(crate) fn sinks(&self, config: &Config, bundle: &Bundle) -> Vec<Box<dyn Sink>> {
        let stages = bundle.cascade.stages().iter().map(|stage| stage.name.clone());
        let (labels, stages) = (bundle.cascade.labels(), stages.collect::<Vec<_>>());
        let open = |_| match &self.output {
            Some(output) => (self.kind.open)(Box::new(output.clone()), labels, &stages),
            None => (self.kind.open)(Box::new(std::io::sink()), labels, &stages),
        };
        (0..config.workers).map(open).collect()
    }

    /// What signals and the service look at.
    pub(crate) fn output(&self) -> Option<Output> {
        self.output.clone()
    }

    /// Waits until all is written, at most so long, and reports records of a live run and losses.
    pub(crate) fn close(&self, session: &Session, run: RunKind, most: Duration) -> OutputStatus {
        let status = self.output.as_ref().map(|output| output.close(most)).unwrap_or_default();
        if self.output.is_some() && (run.is_live || status.all_lost() > 0) {
            session.say(&summary::records(&status));
        }
        status
    }

    /// The error of a run whose verdicts could not be written; none where the reader of a standard
    /// output has seen enough of a capture.
    pub(crate) fn failed(
        &self,
        error: &std::io::Error,
        run: RunKind,
        status: &OutputStatus,
    ) -> anyhow::Result<()> {
        let has_left = error.kind() == std::io::ErrorKind::BrokenPipe && self.is_standard;
        if has_left && !run.is_live {
            return Ok(());
        }
        // Not the system's error itself, which would be taken for a reader that has seen enough.
        bail!(
            "{}: cannot write verdicts: {error}; {} were written, {} were not",
            self.name,
            status.written,
            status.all_lost()
        )
    }
}
