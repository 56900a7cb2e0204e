//! A service that is looked at and changed while it serves.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod service {
    pub(crate) mod kit;

    mod accounts;
    mod changes;
    mod crowds;
    mod loading;
    mod outputs;
    mod refusals;
    mod rough;
    mod sockets;
}
