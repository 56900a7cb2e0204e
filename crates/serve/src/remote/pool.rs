//! Servers that hold the same model: which one is asked, and what happens when it fails.
//!
//! A request goes to the ready server with the fewest requests in flight. If that one fails, it is
//! out, and another one is asked, if the budget has a try left. A server that is out is looked at
//! again and again, and is in once it and its model say that they are ready. While no server is in,
//! requests wait for one: those of the first `timeout_ms` of an outage, so that a short one loses
//! nothing and a long one holds nobody up.

use super::NodeStatus;
use super::answer::Failure;
use super::budget::Budget;
use super::grpc::Grpc;
use super::http::Http;
use super::node::{Endpoint, Node};
use super::tls::Roots;
use super::token::Token;
use crate::config::{Address, Servers};
use serveflow_core::lane::ScoreError;
use serveflow_core::rows::Scores;
use serveflow_model::remote::{InferenceRequest, RemoteSpec, RemoteTransport};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Threads that move bytes for all pools; who waits for an answer has a thread of his own.
const THREADS: usize = 2;

/// The runtime of all pools.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let build = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("remote").enable_all();
        builder.build().map_err(|error| format!("no threads for remote models: {error}"))
    };
    RUNTIME.get_or_init(build).as_ref().map_err(Clone::clone)
}

/// Servers that hold the same model.
#[derive(Debug)]
pub struct ServerPool {
    shared: Arc<Shared>,
    watches: Vec<AbortHandle>,
    runtime: &'static Runtime,
}

#[derive(Debug)]
struct Shared {
    spec: RemoteSpec,
    nodes: Vec<Node>,
    timeout: Duration,
    health: Duration,
    budget: Budget,
    /// Where the search for the least busy server begins.
    next: AtomicUsize,
    /// Since when no server is in.
    out_since: Mutex<Option<Instant>>,
    /// Told when a server is in again.
    is_in: Notify,
}

impl ServerPool {
    /// A pool of these servers. Waits until each was looked at once, at most for the time of an
    /// answer.
    ///
    /// # Errors
    /// When the token or the certificates cannot be read. Servers that are not there are no error.
    pub fn open(spec: &RemoteSpec, servers: &Servers) -> Result<Self, String> {
        let runtime = runtime()?;
        let _inside = runtime.enter();
        let timeout = Duration::from_millis(servers.timeout_ms);
        let roots = Roots::open(servers.ca_file.as_deref())?;
        let token = servers.token.as_ref().map(Token::open).transpose()?.map(Arc::new);
        let node = |address: &Address| {
            let token = token.clone();
            let endpoint: Box<dyn Endpoint> = match address.scheme.is_grpc() {
                true => Box::new(Grpc::open(address, &roots, token, timeout)?),
                false => Box::new(Http::open(address, &roots, token, timeout)?),
            };
            Ok(Node::new(address.to_string(), endpoint))
        };
        let shared = Arc::new(Shared {
            spec: spec.clone(),
            nodes: servers.endpoints.iter().map(node).collect::<Result<_, String>>()?,
            timeout,
            health: Duration::from_millis(servers.health_ms),
            budget: Budget::new(servers.retries_per_1000),
            next: AtomicUsize::new(0),
            out_since: Mutex::new(Some(Instant::now())),
            is_in: Notify::new(),
        });
        let looked = Arc::new(tokio::sync::Semaphore::new(0));
        let watch = |index| {
            let (shared, looked) = (Arc::clone(&shared), Arc::clone(&looked));
            runtime.spawn(async move { shared.watch(index, &looked).await }).abort_handle()
        };
        let watches: Vec<AbortHandle> = (0..shared.nodes.len()).map(watch).collect();
        let all = u32::try_from(watches.len()).unwrap_or(u32::MAX);
        let _ = runtime.block_on(async {
            tokio::time::timeout(timeout, looked.acquire_many(all)).await.map(drop)
        });
        Ok(Self { shared, watches, runtime })
    }

    /// What each server did so far, in the order in which they are named.
    #[must_use]
    pub fn status(&self) -> Vec<NodeStatus> {
        let status = |node: &Node| NodeStatus {
            model: self.shared.spec.model.clone(),
            endpoint: node.name.clone(),
            is_ready: node.is_ready(),
            in_flight: node.in_flight(),
            requests: node.requests.load(Ordering::Relaxed),
            failures: node.failures.load(Ordering::Relaxed),
            retries: node.retries.load(Ordering::Relaxed),
            trouble: node.told(),
        };
        self.shared.nodes.iter().map(status).collect()
    }
}

impl Drop for ServerPool {
    fn drop(&mut self) {
        self.watches.iter().for_each(AbortHandle::abort);
    }
}

impl RemoteTransport for ServerPool {
    fn infer(&self, request: &InferenceRequest<'_>, scores: &mut Scores) -> Result<(), ScoreError> {
        let values = self.runtime.block_on(self.shared.ask(request));
        let model = &self.shared.spec.model;
        let values =
            values.map_err(|why| ScoreError { message: format!("model `{model}`: {why}") })?;
        let classes = request.spec.classes;
        scores.reset(request.rows, classes);
        for (row, values) in values.chunks_exact(classes).enumerate() {
            scores.row_mut(row).copy_from_slice(values);
        }
        Ok(())
    }
}

impl Shared {
    /// Asks servers until one gives an answer that holds, or the deadline is over.
    async fn ask(&self, request: &InferenceRequest<'_>) -> Result<Vec<f32>, String> {
        let deadline = Instant::now() + self.timeout;
        self.budget.earn();
        let mut tried: Vec<usize> = Vec::new();
        let mut told: Vec<String> = Vec::new();
        loop {
            let Some(index) = self.choose(&tried, deadline).await else {
                told.push("no server is ready".to_owned());
                return Err(told.join("; "));
            };
            if !tried.is_empty() {
                if !self.budget.take() {
                    told.push("the retry budget is used up".to_owned());
                    return Err(told.join("; "));
                }
                self.nodes[index].retries.fetch_add(1, Ordering::Relaxed);
            }
            tried.push(index);
            match self.ask_node(index, &tried, request, deadline).await {
                Ok(values) => return Ok(values),
                Err(Failure::Question(why)) => return Err(why),
                Err(Failure::Server(why)) => told.push(why),
            }
            // Each server once, and one alone once more.
            if tried.len() > self.nodes.len() || Instant::now() >= deadline {
                return Err(told.join("; "));
            }
        }
    }

    /// Asks one server. If another one could be asked after it, it has half of the time that is
    /// left.
    async fn ask_node(
        &self,
        index: usize,
        tried: &[usize],
        request: &InferenceRequest<'_>,
        deadline: Instant,
    ) -> Result<Vec<f32>, Failure> {
        let node = &self.nodes[index];
        let left = deadline.saturating_duration_since(Instant::now());
        let has_other = self.least_busy(tried).is_some() && self.budget.is_left();
        let limit = if has_other { left / 2 } else { left };
        let answer = {
            let _flight = node.fly();
            timeout(limit, node.endpoint.infer(request)).await
        };
        let answer = answer.unwrap_or_else(|_| {
            Err(Failure::Server(format!("no response within {} ms", limit.as_millis())))
        });
        let checked = answer.and_then(|answer| answer.checked(request).map_err(Failure::Question));
        let name = &node.name;
        match checked {
            Ok(values) => {
                node.did_well();
                Ok(values)
            }
            Err(failure) => {
                node.failures.fetch_add(1, Ordering::Relaxed);
                let (Failure::Server(why) | Failure::Question(why)) = &failure;
                node.tell(why);
                let told = format!("{name}: {why}");
                if let Failure::Question(_) = failure {
                    return Err(Failure::Question(told));
                }
                self.put_out(node);
                Err(Failure::Server(told))
            }
        }
    }

    /// The server to ask: one that was not tried, or else one that is in again since. Waits for
    /// one, but not longer than the deadline and than an outage is waited out.
    async fn choose(&self, tried: &[usize], deadline: Instant) -> Option<usize> {
        loop {
            let mut is_in = pin!(self.is_in.notified());
            is_in.as_mut().enable();
            if let Some(index) = self.least_busy(tried).or_else(|| self.least_busy(&[])) {
                self.next.store(index + 1, Ordering::Relaxed);
                return Some(index);
            }
            let since = *self.out_since.lock().unwrap_or_else(PoisonError::into_inner);
            let patience = since.map_or(deadline, |since| deadline.min(since + self.timeout));
            timeout_at(patience, is_in).await.ok()?;
        }
    }

    /// The ready server with the fewest requests in flight, less those that were tried; where
    /// several have as few, the first of them behind the one that was asked last.
    fn least_busy(&self, tried: &[usize]) -> Option<usize> {
        let count = self.nodes.len();
        let start = self.next.load(Ordering::Relaxed);
        let order = (0..count).map(|step| (start + step) % count);
        let fits = |&index: &usize| self.nodes[index].is_ready() && !tried.contains(&index);
        order.filter(fits).min_by_key(|&index| self.nodes[index].in_flight())
    }

    /// A server is out.
    fn put_out(&self, node: &Node) {
        node.put_out();
        let mut since = self.out_since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.is_none() && !self.nodes.iter().any(Node::is_ready) {
            *since = Some(Instant::now());
        }
    }

    /// A server is in.
    fn put_in(&self, node: &Node) {
        let mut since = self.out_since.lock().unwrap_or_else(PoisonError::into_inner);
        node.put_in();
        *since = None;
        drop(since);
        self.is_in.notify_waiters();
    }

    /// Looks after a server, without end.
    async fn watch(&self, index: usize, looked: &tokio::sync::Semaphore) {
        let node = &self.nodes[index];
        loop {
            let ready = timeout(self.timeout, node.endpoint.ready(&self.spec)).await;
            let too_long = || Err(format!("not ready within {} ms", self.timeout.as_millis()));
            let ready = ready.unwrap_or_else(|_| too_long());
            let is_ready = ready.is_ok();
            if let Err(why) = ready {
                node.tell(&why);
                self.put_out(node);
                node.strike();
                node.endpoint.renew();
            } else {
                self.put_in(node);
            }
            looked.add_permits(1);
            if !is_ready {
                sleep(node.pause(self.health)).await;
            } else if timeout(self.health, node.wake.notified()).await.is_ok() {
                // A request failed.
                sleep(node.pause(self.health)).await;
            }
        }
    }
}
