//! A server of a pool: how it is asked, what it did so far, and whether it is ready.

use super::answer::{Answer, Failure};
use serveflow_model::remote::{InferenceRequest, RemoteSpec};
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a server is left alone that failed once; each further time it is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);

/// What comes later.
pub(super) type Soon<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a server is asked.
pub(super) trait Endpoint: Send + Sync + fmt::Debug {
    /// Asks it to score rows.
    fn infer<'a>(&'a self, request: &'a InferenceRequest<'a>) -> Soon<'a, Result<Answer, Failure>>;
    /// Asks whether it and the model are ready; why not, in words.
    fn ready<'a>(&'a self, spec: &'a RemoteSpec) -> Soon<'a, Result<(), String>>;
    /// Forgets connections that may be dead.
    fn renew(&self);
}

/// A server of a pool.
#[derive(Debug)]
pub(super) struct Node {
    /// Its address, as errors name it.
    pub(super) name: String,
    /// How it is asked.
    pub(super) endpoint: Box<dyn Endpoint>,
    /// Requests that were sent, those of them that failed, and those that were tried before.
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) retries: AtomicU64,
    in_flight: AtomicU64,
    is_ready: AtomicBool,
    /// What went wrong last, in words.
    trouble: Mutex<String>,
    /// How often it went out since it last gave a good answer.
    strikes: AtomicU32,
    /// Wakes who looks after it.
    pub(super) wake: Notify,
}

/// A request in flight; it ends when this is dropped.
pub(super) struct Flight<'a>(&'a AtomicU64);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Node {
    /// A server that is not ready as far as is known.
    pub(super) fn new(name: String, endpoint: Box<dyn Endpoint>) -> Self {
        Self {
            name,
            endpoint,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            is_ready: AtomicBool::new(false),
            trouble: Mutex::default(),
            strikes: AtomicU32::new(0),
            wake: Notify::new(),
        }
    }

    /// Whether it gets requests.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Acquire)
    }

    /// Requests that it has not answered yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request is on its way.
    pub(super) fn fly(&self) -> Flight<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight(&self.in_flight)
    }

    /// Something went wrong.
    pub(super) fn tell(&self, why: &str) {
        why.clone_into(&mut self.trouble.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What went wrong last; empty if nothing did.
    pub(super) fn told(&self) -> String {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It gave a good answer.
    pub(super) fn did_well(&self) {
        self.strikes.store(0, Ordering::Relaxed);
    }

    /// It is out. Requests that were in flight together count as one strike.
    pub(super) fn put_out(&self) {
        if self.is_ready.swap(false, Ordering::AcqRel) {
            self.strike();
            self.wake.notify_one();
        }
    }

    /// It failed, while it was out or not.
    pub(super) fn strike(&self) {
        let more = |strikes: u32| Some(strikes.saturating_add(1));
        let _ = self.strikes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// It gets requests.
    pub(super) fn put_in(&self) {
        self.is_ready.store(true, Ordering::Release);
    }

    /// How long it is left alone: the longer the more often it failed, and not longer than `most`.
    pub(super) fn pause(&self, most: Duration) -> Duration {
        let doublings = self.strikes.load(Ordering::Relaxed).saturating_sub(1).min(16);
        (SHORTEST_PAUSE * (1 << doublings)).min(most)
    }
}
