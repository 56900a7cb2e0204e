//! Bundles are read on a thread of their own, one at a time.
//!
//! Reading can take long, or never come to an end (a large forest, a network file system that
//! hangs). Meanwhile the control thread answers health checks, pings the watchdog and keeps
//! `shutdown_timeout_ms`. A load that hangs is left behind when the process ends, since nothing
//! waits for its thread.

use super::{LoadedBundle, Refused, Service};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A load that takes longer is given up, so that a hung file system does not forbid the next one.
const GIVE_UP: Duration = Duration::from_secs(300);

/// What becomes of a bundle that was read.
#[derive(Clone, Debug, PartialEq)]
pub enum BundleLoad {
    /// It is served.
    Serve {
        /// Its directory; `None` is the one of the served bundle, read anew.
        path: Option<PathBuf>,
    },
    /// It goes into the shadow.
    Shadow {
        /// Its directory.
        path: PathBuf,
        /// The share of the flows that it sees.
        share: f64,
    },
}

/// What comes of a load, once the bundle is read.
pub type Pending = oneshot::Receiver<Result<Arc<LoadedBundle>, Refused>>;

/// Why no load was started.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotLoaded {
    /// Another bundle is being read.
    Busy {
        /// Its directory.
        path: PathBuf,
        /// How long so far.
        since: Duration,
    },
    /// The system gives no thread.
    NoThread {
        /// Its answer.
        error: std::io::Error,
    },
}

impl fmt::Display for NotLoaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { path, since } => write!(
                f,
                "a bundle is being read: {}, for {:.1} s so far; expected one at a time",
                path.display(),
                since.as_secs_f64()
            ),
            Self::NoThread { error } => write!(f, "cannot start a thread to read it: {error}"),
        }
    }
}

impl std::error::Error for NotLoaded {}

/// The load that is under way.
#[derive(Debug, Default)]
pub struct Loader {
    present: Mutex<Option<Present>>,
    started: AtomicU64,
}

#[derive(Debug)]
struct Present {
    number: u64,
    path: PathBuf,
    since: Instant,
}

impl Loader {
    fn present(&self) -> MutexGuard<'_, Option<Present>> {
        // Nothing is computed under the lock, so what a panic left is whole.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bundle that is being read, and for how long.
    #[must_use]
    pub fn reading(&self) -> Option<(PathBuf, Duration)> {
        let present = self.present();
        present.as_ref().map(|present| (present.path.clone(), present.since.elapsed()))
    }

    /// Gives up the load that is under way: its bundle is not served once it is read.
    pub fn give_up(&self) {
        if let Some(present) = self.present().take() {
            tracing::warn!(path = %present.path.display(), "the load of a bundle was given up");
        }
    }

    /// Begins a load, unless another one is under way; its number.
    fn begin(&self, path: &Path) -> Result<u64, NotLoaded> {
        let mut present = self.present();
        if let Some(Present { path, since, .. }) = &*present {
            let since = since.elapsed();
            if since < GIVE_UP {
                return Err(NotLoaded::Busy { path: path.clone(), since });
            }
            let seconds = since.as_secs();
            tracing::warn!(path = %path.display(), seconds, "the load of a bundle was given up");
        }
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        *present = Some(Present { number, path: path.to_owned(), since: Instant::now() });
        Ok(number)
    }

    /// Whether a load was not given up.
    fn is_wanted(&self, number: u64) -> bool {
        self.present().as_ref().is_some_and(|present| present.number == number)
    }
}

/// Ends a load, however its thread ends.
struct Guard(Arc<Service>, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut present = self.0.loader.present();
        if present.as_ref().is_some_and(|present| present.number == self.1) {
            *present = None;
        }
    }
}

impl Service {
    /// Begins to read a bundle; what comes of it is in the log, and in what is returned.
    ///
    /// # Errors
    /// When another bundle is being read, or the system gives no thread.
    pub fn start_load(self: &Arc<Self>, load: BundleLoad) -> Result<Pending, NotLoaded> {
        let path = match &load {
            BundleLoad::Serve { path: None } => self.switch.serving().0.path.clone(),
            BundleLoad::Serve { path: Some(path) } | BundleLoad::Shadow { path, .. } => {
                path.clone()
            }
        };
        let number = self.loader.begin(&path)?;
        let guard = Guard(Arc::clone(self), number);
        let (done, pending) = oneshot::channel();
        let read = move || {
            let service = &guard.0;
            let is_wanted = || service.loader.is_wanted(guard.1);
            let loaded = match &load {
                BundleLoad::Serve { path } => service.reload_while(path.as_deref(), &is_wanted),
                BundleLoad::Shadow { path, share } => {
                    service.begin_shadow_while(path, *share, &is_wanted)
                }
            };
            // The next load may begin once the answer to this one is known.
            drop(guard);
            let _ = done.send(loaded);
        };
        let thread = std::thread::Builder::new().name("bundle".to_owned());
        thread.spawn(read).map_err(|error| NotLoaded::NoThread { error })?;
        Ok(pending)
    }
}
