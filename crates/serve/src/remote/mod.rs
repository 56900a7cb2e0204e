//! Models that answer elsewhere: pools of servers, asked over the Open Inference Protocol.
//!
//! [`RemoteConfig`] says where the servers stand. A model that is read while [`Remote`] is in place
//! gets a pool of them. The pool chooses a server, asks it within a deadline, asks another one
//! where that fails, and looks in the background which servers are ready. All of it needs the cargo
//! feature `remote`; without it, such a model is refused with a sentence.

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
use serveflow_model::remote::connect_with;
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

/// The pools of all models that were read since it was put in place.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    #[cfg(feature = "remote")]
    pools: Arc<Mutex<Vec<Weak<ServerPool>>>>,
}

impl Remote {
    /// From now on, remote models that are read are asked on these servers, and refused where none
    /// are named for them. Only the first of a process counts.
    #[must_use]
    pub fn put_in_place(config: RemoteConfig) -> Self {
        let remote = Self::default();
        #[cfg(feature = "remote")]
        let pools = Arc::clone(&remote.pools);
        connect_with(Box::new(move |spec| {
            let Some(servers) = config.of(&spec.model) else { return Err(unnamed(&spec.model)) };
            #[cfg(feature = "remote")]
            {
                let pool = Arc::new(ServerPool::open(spec, servers)?);
                let mut pools = pools.lock().unwrap_or_else(PoisonError::into_inner);
                pools.push(Arc::downgrade(&pool));
                Ok(pool)
            }
            #[cfg(not(feature = "remote"))]
            Err(format!("{}: no server of {servers:?} is available", unnamed(&spec.model)))
        }));
        remote
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
