//! Remote models against servers that fail in every way: on loopback, over HTTP, gRPC and TLS.
#![cfg(feature = "remote")]
#![allow(clippy::unwrap_used)]

mod remote {
    pub(crate) mod grpc_kit;
    pub(crate) mod kit;

    mod answers;
    mod grpc;
    mod pools;
    mod served;
    mod tokens;
}
