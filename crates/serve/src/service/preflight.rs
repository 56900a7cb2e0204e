//! What a start opens and needs before it serves. `run` and `check` go through the same functions,
//! so that whatever a start refuses, a check refuses with the same sentence.

use super::Listeners;
use crate::config::{Config, ConfigError, Typed};
use crate::live::{self, LiveInput};
use serveflow_io::os::as_user::{SystemLimits, as_user, is_root, number_of, system_limits};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Why a start is refused.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A value of the configuration.
    Config(ConfigError),
    /// The system allows less than the configuration needs.
    Limit(LimitShortage),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => write!(f, "{error}"),
            Self::Limit(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// A limit of the system that is too low.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitShortage {
    /// What is limited, as messages name it.
    what: &'static str,
    /// What may be lowered instead.
    remedy: &'static str,
    expected: String,
    found: String,
}

impl fmt::Display for LimitShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, remedy, expected, found } = self;
        write!(f, "{what}: expected at least {expected}, found {found}; raise it or lower {remedy}")
    }
}

/// What a service needs of the system at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bytes of address space: of flows, packets, jobs and rings, and of threads.
    pub bytes: u64,
    /// Descriptors: those of rings, sockets and a few more.
    pub descriptors: u64,
    /// Threads: of workers, their lanes for two bundles, and beside them.
    pub threads: u64,
}

/// What a process has of what the system limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes of address space.
    pub bytes: u64,
    /// Threads of the user in other processes, which count against the same limit.
    pub user_threads: u64,
    /// Threads in the control group, and how many there may be.
    pub tasks: Option<(u64, u64)>,
}

impl Held {
    /// What this process has now, and what the user of this number has beside it.
    #[must_use]
    pub fn now(uid: u32) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            bytes: status_bytes(&status, "VmSize:"),
            user_threads: user_threads(uid),
            tasks: tasks(),
        }
    }
}

/// Bytes of memory that this process has in use now, of its program and models.
#[must_use]
pub fn resident_bytes() -> u64 {
    status_bytes(&std::fs::read_to_string("/proc/self/status").unwrap_or_default(), "VmRSS:")
}

/// A line of proc_pid_status(5) that is in kB.
fn status_bytes(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Threads of a user in other processes, as far as they are to be seen.
fn user_threads(uid: u32) -> u64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0 };
    let own = std::process::id().to_string();
    let is_other = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit()) && name != own;
    let names = processes.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let threads = names.filter(|name| is_other(name)).filter_map(|name| {
        let status = std::fs::read_to_string(format!("/proc/{name}/status")).ok()?;
        threads_of(&status, uid)
    });
    threads.sum()
}

/// The threads of a process in proc_pid_status(5), if it is of this user.
fn threads_of(status: &str, uid: u32) -> Option<u64> {
    let word = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
    };
    let is_theirs = word("Uid:")?.parse() == Ok(uid);
    is_theirs.then(|| word("Threads:")?.parse().ok()).flatten()
}

/// Tasks of the process's control group, and how many there may be.
fn tasks() -> Option<(u64, u64)> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let directory = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let number = |name: &str| {
        let text = std::fs::read_to_string(directory.join(name)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    Some((number("pids.current")?, number("pids.max")?))
}

/// Holds what is needed against what the system allows and what is in use.
///
/// # Errors
/// When it allows less.
pub fn within_limits(
    needs: &Needs,
    limits: &SystemLimits,
    held: &Held,
) -> Result<(), LimitShortage> {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    let short = |what, remedy, expected: String, found: String| {
        Err(LimitShortage { what, remedy, expected, found })
    };
    let bytes = needs.bytes + held.bytes;
    if let Some(found) = limits.address_space.filter(|&most| most < bytes) {
        let remedy = "flows.capacity, limits.record_packets or limits.queue_depth";
        let what = "the limit of address space (ulimit -v, LimitAS=)";
        return short(what, remedy, mib(bytes), format!("{} MiB", found >> 20));
    }
    if let Some(found) = limits.descriptors.filter(|&most| most < needs.descriptors) {
        let (what, remedy) =
            ("the limit of descriptors (ulimit -n, LimitNOFILE=)", "limits.workers");
        return short(what, remedy, needs.descriptors.to_string(), found.to_string());
    }
    let threads = needs.threads + held.user_threads;
    if let Some(found) = limits.threads.filter(|&most| most < threads) {
        let what = "the limit of the user's threads (ulimit -u, LimitNPROC=)";
        return short(what, "limits.workers", threads.to_string(), found.to_string());
    }
    if let Some((used, most)) = held.tasks
        && most < used + needs.threads
    {
        let what = "the limit of tasks of the control group (TasksMax=)";
        return short(what, "limits.workers", (used + needs.threads).to_string(), most.to_string());
    }
    Ok(())
}

/// Everything that a start on interfaces opens, in its order. Dropping it closes everything.
pub struct Start {
    /// Sources, and what the kernel counts.
    pub live: LiveInput,
    /// Sockets of metrics and control.
    pub listeners: Listeners,
}

/// What is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// Everything.
    All,
    /// Not the sockets of metrics and control, which a running service has open.
    AllButSockets,
}

/// Opens what a service on interfaces needs.
///
/// # Errors
/// When any of it is refused.
pub fn open(
    typed: &Typed,
    config: &Config,
    needs: &Needs,
    what: Opens,
    stop: &Arc<AtomicBool>,
) -> Result<Start, StartError> {
    user(typed, config)?;
    // The limit of threads binds whom the process becomes, as root it is not bound.
    let uid = number_of(config.service.user.as_deref());
    within_limits(needs, &system_limits(uid), &Held::now(uid)).map_err(StartError::Limit)?;
    let live = interfaces(typed, config, stop)?;
    let listeners = match what {
        Opens::All => listeners(typed, config)?,
        Opens::AllButSockets => Listeners::default(),
    };
    Ok(Start { live, listeners })
}

/// An error of a key, with its place.
fn wrong(typed: &Typed, key: &str, message: String) -> ConfigError {
    typed.origin.located(ConfigError::Wrong { key: key.to_owned(), message })
}

/// Tries to become the user of the configuration.
fn user(typed: &Typed, config: &Config) -> Result<(), ConfigError> {
    let Some(user) = &config.service.user else { return Ok(()) };
    as_user(user, || ()).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!(
                    "expected to be started as root or as that user, found another one: {error}"
                )
            }
            io::ErrorKind::NotFound => error.to_string(),
            _ => format!("expected to become that user, found: {error}"),
        };
        wrong(typed, "service.user", format!("{user}: {why}"))
    })
}

/// Opens the interfaces of the configuration.
///
/// # Errors
/// When one of them cannot be listened to, or the filter is none.
pub fn interfaces(
    typed: &Typed,
    config: &Config,
    stop: &Arc<AtomicBool>,
) -> Result<LiveInput, ConfigError> {
    let refused = |error: live::LiveError| wrong(typed, live::key_of(&error), error.to_string());
    live::open(config, stop).map_err(refused)
}

/// Opens the sockets of the configuration.
///
/// # Errors
/// When one of them cannot be opened.
pub fn listeners(typed: &Typed, config: &Config) -> Result<Listeners, ConfigError> {
    let refused = |(key, message): (&str, String)| wrong(typed, key, message);
    Listeners::open(&config.service).map_err(refused)
}

/// What is no reason to refuse, and to be known: lines for the log and for `check`.
#[must_use]
pub fn warnings(config: &Config, bundle: &Path) -> Vec<String> {
    let service = &config.service;
    let mut warnings = Vec::new();
    if is_root() && service.user.is_none() {
        warnings.push(
            "it runs as root: set service.user, or start it as another user that has CAP_NET_RAW"
                .to_owned(),
        );
    }
    if let Some(address) = service.metrics.filter(|address| address.ip().is_unspecified()) {
        warnings.push(format!(
            "service.metrics = {address} listens on every address of this machine without \
             authentication"
        ));
    }
    if let Some(user) = &service.user
        && let Ok(Err(error)) = as_user(user, || readable(bundle))
    {
        warnings.push(format!(
            "service.user = {user} cannot read the bundle, so that it cannot be reloaded: {error}"
        ));
    }
    if config.live.wait_for_interface {
        let gone = config.live.interfaces.iter().filter(|name| !live::is_there(name));
        warnings
            .extend(gone.map(|name| format!("interface {name} is not there: it is waited for")));
    }
    warnings
}

/// Whether the files of a bundle can be opened.
fn readable(bundle: &Path) -> io::Result<()> {
    let named = |path: &Path, error: io::Error| {
        io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    };
    let mut directories = vec![bundle.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = std::fs::read_dir(&directory).map_err(|error| named(&directory, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| named(&directory, error))?;
            let (path, kind) = (entry.path(), entry.file_type());
            match kind.map_err(|error| named(&path, error))? {
                kind if kind.is_dir() => directories.push(path),
                kind if kind.is_file() => {
                    File::open(&path).map_err(|error| named(&path, error))?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each limit is held on its own, to the unit.
    #[test]
    fn what_is_needed_is_held_against_each_limit_to_the_unit() {
        let needs = Needs { bytes: 3 << 20, descriptors: 20, threads: 7 };
        let held = Held { bytes: 1 << 20, user_threads: 2, tasks: Some((5, 12)) };
        let enough =
            SystemLimits { address_space: Some(4 << 20), descriptors: Some(20), threads: Some(9) };
        assert_eq!(within_limits(&needs, &enough, &held), Ok(()));
        assert_eq!(within_limits(&needs, &SystemLimits::default(), &Held::default()), Ok(()));
        let short = |limits: SystemLimits, held: Held| {
            within_limits(&needs, &limits, &held).unwrap_err().to_string()
        };
        let said = short(SystemLimits { address_space: Some((4 << 20) - 1), ..enough }, held);
        assert!(said.contains("ulimit -v") && said.contains("at least 4 MiB"), "{said}");
        let said = short(SystemLimits { descriptors: Some(19), ..enough }, held);
        assert!(said.contains("ulimit -n") && said.contains("at least 20, found 19"), "{said}");
        let said = short(SystemLimits { threads: Some(8), ..enough }, held);
        assert!(said.contains("ulimit -u") && said.contains("at least 9, found 8"), "{said}");
        let said = short(enough, Held { tasks: Some((5, 11)), ..held });
        assert!(said.contains("TasksMax=") && said.contains("at least 12, found 11"), "{said}");
    }

    #[test]
    fn threads_of_a_user_are_those_of_its_processes() {
        let status = "Name:\tx\nUid:\t7\t0\t0\t0\nThreads:\t3\n";
        assert_eq!((threads_of(status, 7), threads_of(status, 0)), (Some(3), None));
        assert_eq!((threads_of("", 7), threads_of("Uid:\t7\n", 7)), (None, None));
    }
}
