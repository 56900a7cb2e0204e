//! Interfaces that come late, or come back after they were removed.
//!
//! A thread beside the workers looks for them, opens a ring of each worker, and puts it where the
//! worker's source takes it. An interface that is made anew has another number, so sockets of the
//! one before bring nothing of it.

use super::feed::Feed;
use super::opening::open_feeds;
use super::{InterfaceCounters, LiveConfig, LiveError, socket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where a worker's source finds what was opened for it.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    has_news: AtomicBool,
    fresh: Mutex<Vec<(usize, Feed)>>,
}

impl Inbox {
    fn fresh(&self) -> MutexGuard<'_, Vec<(usize, Feed)>> {
        // A list is whole whatever panicked.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, interface: usize, feed: Feed) {
        self.fresh().push((interface, feed));
        self.has_news.store(true, Ordering::Release);
    }

    /// What is new: interfaces by their index, and what brings their frames.
    pub(super) fn take(&self) -> Vec<(usize, Feed)> {
        match self.has_news.swap(false, Ordering::Acquire) {
            true => std::mem::take(&mut *self.fresh()),
            false => Vec::new(),
        }
    }
}

/// What a look at the interfaces found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// It came, and is listened to.
    Attached {
        /// Its name.
        interface: String,
    },
    /// It is there and cannot be listened to; said once for each reason.
    Refused {
        /// Why.
        error: LiveError,
    },
}

/// Listens to interfaces that come, from the thread that looks. It needs `CAP_NET_RAW` whenever one
/// comes.
#[derive(Debug)]
pub struct Attacher {
    config: LiveConfig,
    counters: Arc<Vec<InterfaceCounters>>,
    inboxes: Vec<Arc<Inbox>>,
    /// The system's number of each interface that is listened to.
    numbers: Vec<Option<libc::c_int>>,
    /// Why it cannot be listened to, as it was said last.
    refused: Vec<Option<String>>,
}

impl Attacher {
    pub(super) fn new(
        config: LiveConfig,
        counters: Arc<Vec<InterfaceCounters>>,
        inboxes: Vec<Arc<Inbox>>,
        numbers: Vec<Option<libc::c_int>>,
    ) -> Self {
        let refused = vec![None; numbers.len()];
        Self { config, counters, inboxes, numbers, refused }
    }

    /// Looks which interfaces are gone, and listens to those that came.
    pub fn look(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        // A worker that has ended, or failed, takes no frames: its share is the others'.
        self.inboxes.retain(|inbox| Arc::strong_count(inbox) > 1);
        self.config.workers = self.inboxes.len();
        if self.inboxes.is_empty() {
            return changes;
        }
        for interface in 0..self.numbers.len() {
            if self.numbers[interface].is_some_and(socket::exists) {
                continue;
            }
            self.numbers[interface] = None;
            self.counters[interface].is_gone.store(true, Ordering::Relaxed);
            let name = &self.config.interfaces[interface];
            if !socket::is_there(name) {
                self.refused[interface] = None;
                continue;
            }
            match open_feeds(&self.config, name) {
                Ok((number, feeds)) => {
                    self.counters[interface].meter(&feeds);
                    for (inbox, feed) in self.inboxes.iter().zip(feeds) {
                        inbox.put(interface, feed);
                    }
                    self.numbers[interface] = Some(number);
                    self.refused[interface] = None;
                    let counters = &self.counters[interface];
                    counters.is_gone.store(false, Ordering::Relaxed);
                    counters.attached.fetch_add(1, Ordering::Relaxed);
                    changes.push(Change::Attached { interface: name.clone() });
                }
                // It may be removed again between the look and the opening, which is no matter.
                Err(error) if error.is_missing() => {}
                Err(error) => {
                    let said = Some(error.to_string());
                    if self.refused[interface] != said {
                        self.refused[interface] = said;
                        changes.push(Change::Refused { error });
                    }
                }
            }
        }
        changes
    }
}
