//! `serveflow bench`: costs on this machine, and the cascade under load.

pub(crate) mod args;
mod models;
pub(crate) mod packets;
mod paper;
mod setting;
mod traffic;

pub(crate) use models::models;
pub(crate) use packets::packets;
pub(crate) use paper::paper;
pub(crate) use traffic::traffic;
