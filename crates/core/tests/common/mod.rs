//! What the tests of this crate share: packet builders, random traffic, fake models and lanes, a
//! driver, and the twin of the engine.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod captures;
pub mod drive;
pub mod entry;
pub mod frames;
pub mod models;
pub mod traffic;
pub mod tunnels;
pub mod twin;
pub mod words;
