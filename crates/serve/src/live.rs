//! Live interfaces, as the configuration names them.

use crate::config::Config;
use serveflow_io::Source;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the kernel told of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceCount {
    /// Name of the interface.
    pub name: String,
    /// Frames that passed the filter and came to a worker.
    pub received: u64,
    /// Frames that passed the filter, and for which a ring had no room.
    pub dropped: u64,
    /// Times that a ring was full.
    pub full: u64,
    /// Times that the interface went down.
    pub downs: u64,
    /// Whether it is not there.
    pub is_gone: bool,
    /// Whether it is waited for where it is not there.
    pub is_waited_for: bool,
    /// Times that it came late or came back, and was listened to from then on.
    pub attached: u64,
    /// Frames that the network card was to stamp with the time and did not.
    pub kernel_stamped: u64,
}

/// The words of a run's end, a line for each interface.
#[must_use]
pub fn summary(counted: &[InterfaceCount]) -> String {
    let mut text = String::new();
    for InterfaceCount { name, received, dropped, full, downs, kernel_stamped, attached, .. } in
        counted
    {
        let _ = write!(text, "kernel:  {name}: {received} received, {dropped} dropped");
        for (count, what) in [
            (full, "times a ring was full"),
            (downs, "times the interface was down"),
            (attached, "times the interface came"),
            (kernel_stamped, "without a time stamp of the network card"),
        ] {
            if *count > 0 {
                let _ = write!(text, ", {count} {what}");
            }
        }
        text.push('\n');
    }
    text
}

/// What listens to interfaces.
pub struct LiveInput {
    /// A source for each worker.
    pub sources: Vec<Box<dyn Source>>,
    /// What the kernel counts.
    pub counted: Counted,
    /// Listens to interfaces that come later, where they are waited for.
    pub attacher: Option<Attacher>,
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use serveflow_io::live::ring::{RingShape, RxMode};
    pub use serveflow_io::live::{Attacher, Change, LiveError, is_there};
    use serveflow_io::live::{InterfaceCounters, LiveConfig, LiveRefusal};
    use std::hash::{BuildHasher, Hasher, RandomState};
    use std::sync::atomic::Ordering;

    /// What the kernel counts, to be read at any time.
    #[derive(Clone, Debug)]
    pub struct Counted(Arc<Vec<InterfaceCounters>>);

    impl Counted {
        /// What it has counted so far: it is asked now, whatever the workers do.
        #[must_use]
        pub fn read(&self) -> Vec<InterfaceCount> {
            self.0.iter().for_each(InterfaceCounters::refresh);
            let read = |one: &InterfaceCounters| InterfaceCount {
                name: one.name.clone(),
                // The kernel was asked a moment ago; what has been read since came as well.
                received: one
                    .received
                    .load(Ordering::Relaxed)
                    .max(one.taken.load(Ordering::Relaxed)),
                dropped: one.dropped.load(Ordering::Relaxed),
                full: one.full.load(Ordering::Relaxed),
                downs: one.downs.load(Ordering::Relaxed),
                is_gone: one.is_gone.load(Ordering::Relaxed),
                is_waited_for: one.is_waited_for,
                attached: one.attached.load(Ordering::Relaxed),
                kernel_stamped: one.kernel_stamped.load(Ordering::Relaxed),
            };
            self.0.iter().map(read).collect()
        }
    }

    /// The key of the configuration that an error is about.
    #[must_use]
    pub fn key_of(error: &LiveError) -> &'static str {
        match error.why {
            LiveRefusal::Filter(_) => "live.filter",
            LiveRefusal::Ring(_) => "live.interfaces",
        }
    }

    /// Opens the interfaces of a configuration: a source for each of its workers, which ends once
    /// `stop` is set and all frames are read that came before.
    ///
    /// # Errors
    /// When one of them cannot be opened, or the filter is none; the text names it.
    pub fn open(config: &Config, stop: &Arc<AtomicBool>) -> Result<LiveInput, LiveError> {
        let limits = &config.live;
        let random = RandomState::new().build_hasher().finish();
        let live = LiveConfig {
            interfaces: limits.interfaces.clone(),
            xdp: limits.xdp,
            workers: config.workers,
            shape: RingShape {
                block_bytes: limits.block_bytes,
                blocks: limits.blocks,
                rx_mode: match limits.block_ms {
                    Some(wait_ms) => RxMode::Blocks { wait_ms },
                    None => RxMode::Frames { snap_bytes: limits.snap_bytes as usize },
                },
            },
            spin_ns: u64::from(limits.spin_us) * 1_000,
            promiscuous: limits.promiscuous,
            hardware_time: limits.hardware_time,
            snap_bytes: limits.snap_bytes,
            filter: limits.filter.clone(),
            inner_keys: config.engine.flows.key.tunnels == serveflow_core::parse::Tunnels::Inner,
            seed: [random as u32, (random >> 32) as u32],
            waits: limits.wait_for_interface,
            now: crate::clock::now_ns,
            wall: crate::clock::epoch_ns,
        };
        let opened = serveflow_io::live::open(&live, stop)?;
        let boxed = |source| -> Box<dyn Source> { Box::new(source) };
        Ok(LiveInput {
            sources: opened.sources.into_iter().map(boxed).collect(),
            counted: Counted(opened.counters),
            attacher: opened.attacher,
        })
    }
}

#[cfg(target_os = "linux")]
pub use linux::{Attacher, Change, Counted, LiveError, is_there, key_of, open};

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;

    /// What the kernel counts: nothing on this system.
    #[derive(Clone, Debug)]
    pub struct Counted;

    impl Counted {
        /// Nothing.
        #[must_use]
        pub fn read(&self) -> Vec<InterfaceCount> {
            Vec::new()
        }
    }

    /// Why an interface cannot be listened to.
    #[derive(Debug)]
    pub struct LiveError;

    impl std::fmt::Display for LiveError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("expected Linux to listen to interfaces, found another system")
        }
    }

    impl std::error::Error for LiveError {}

    /// Listens to interfaces that come later: nothing on this system.
    #[derive(Debug)]
    pub enum Attacher {}

    /// What a look at the interfaces found: nothing on this system.
    #[derive(Debug)]
    #[non_exhaustive]
    pub enum Change {
        /// It came.
        Attached {
            /// Its name.
            interface: String,
        },
        /// It cannot be listened to.
        Refused {
            /// Why.
            error: LiveError,
        },
    }

    impl Attacher {
        /// Nothing.
        pub fn look(&mut self) -> Vec<Change> {
            match *self {}
        }
    }

    /// None is.
    #[must_use]
    pub fn is_there(_interface: &str) -> bool {
        false
    }

    /// The key of the configuration that an error is about.
    #[must_use]
    pub fn key_of(_error: &LiveError) -> &'static str {
        "live.interfaces"
    }

    /// Refuses: interfaces are listened to on Linux alone.
    ///
    /// # Errors
    /// Always.
    pub fn open(_config: &Config, _stop: &Arc<AtomicBool>) -> Result<LiveInput, LiveError> {
        Err(LiveError)
    }
}

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Attacher, Change, Counted, LiveError, is_there, key_of, open};
