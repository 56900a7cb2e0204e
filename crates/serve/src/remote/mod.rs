//! Models that answer elsewhere: pools of servers, asked over the Open Inference Protocol.
//!
//! [`RemoteConfig`] says where the servers stand. A model of a bundle that is opened with
//! [`Remote::connecting`] gets a pool of them. The pool chooses a server, sends it the
//! request with a deadline, retries on another one if that fails, and checks the servers' readiness
//! in the background. All of it
//! needs the cargo feature `remote`; without it, such a model is refused with a sentence.

#[cfg(feature = "remote")]
mod answer;
#[cfg(feature = "remote")]
mod budget;
#[cfg(feature = "remote")]
mod grpc;
#[cfg(feature = "remote")]
mod http;
#[cfg(feature = "remote")]
mod messages;
#[cfg(feature = "remote")]
mod node;
#[cfg(feature = "remote")]
mod pool;
#[cfg(feature = "remote")]
mod tls;
#[cfg(feature = "remote")]
mod token;

#[cfg(feature = "remote")]
pub use pool::ServerPool;

use crate::config::RemoteConfig;
use serveflow_model::LoadOptions;
use serveflow_model::remote::ConnectError;
#[cfg(feature = "remote")]
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// What a server did for a model so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Name of the model.
    pub model: String,
    /// Address of the server.
    pub endpoint: String,
    /// Whether it gets requests.
    pub is_ready: bool,
    /// Requests that it has not answered yet.
    pub in_flight: u64,
    /// Requests that it was sent.
    pub requests: u64,
    /// Those of them that it did not answer, or not well.
    pub failures: u64,
    /// Those of them that another try had failed before.
    pub retries: u64,
    /// What went wrong with it last, in words; empty if nothing did.
    pub trouble: String,
}

/// The pools of all models that were opened with it.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    servers: RemoteConfig,
    #[cfg(feature = "remote")]
    pools: Arc<Mutex<Vec<Weak<ServerPool>>>>,
}

impl Remote {
    /// The pools of models that are asked on these servers.
    #[must_use]
    pub fn new(servers: RemoteConfig) -> Self {
        Self {
            servers,
            #[cfg(feature = "remote")]
            pools: Arc::default(),
        }
    }

    /// Options by which a bundle's remote models are asked on these servers, and refused where none
    /// are named for them.
    #[must_use]
    pub fn connecting(&self, options: LoadOptions) -> LoadOptions {
        let remote = self.clone();
        options.with_remote(move |spec| {
            let refused = |message| ConnectError { message };
            let servers = remote.servers.of(&spec.model);
            let servers = servers.ok_or_else(|| refused(unnamed(&spec.model)))?;
            #[cfg(feature = "remote")]
            {
                let pool = Arc::new(ServerPool::open(spec, servers).map_err(refused)?);
                let mut pools = remote.pools.lock().unwrap_or_else(PoisonError::into_inner);
                pools.push(Arc::downgrade(&pool));
                Ok(pool)
            }
            #[cfg(not(feature = "remote"))]
            Err(refused(format!("{}: no server of {servers:?} is available", unnamed(&spec.model))))
        })
    }

    /// What each server did for each model, in the order in which they were read.
    #[must_use]
    pub fn status(&self) -> Vec<NodeStatus> {
        #[cfg(feature = "remote")]
        {
            let pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
            pools.iter().filter_map(Weak::upgrade).flat_map(|pool| pool.status()).collect()
        }
        #[cfg(not(feature = "remote"))]
        Vec::new()
    }
}

/// Why a remote model without servers is refused.
fn unnamed(model: &str) -> String {
    let missing = if cfg!(feature = "remote") {
        ""
    } else {
        ", and build this program with the cargo feature `remote`"
    };
    format!(
        "model `{model}` is remote, and no servers are named for it: name them in serveflow.toml, \
         [remote] endpoints{missing}"
    )
}
