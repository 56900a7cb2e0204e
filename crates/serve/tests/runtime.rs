//! The workers around the engine: what they do when models are slow, hang, fail or panic, when a
//! worker panics, and when the system has no thread.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "runtime/failures.rs"]
mod failures;
#[path = "runtime/files_wait.rs"]
mod files_wait;
#[path = "runtime/kit.rs"]
mod kit;
#[path = "runtime/lanes_fit.rs"]
mod lanes_fit;
