//! The planner: which models, how many packets, which thresholds, on the user's own machine.

pub mod build;
pub mod confidence;
pub mod given;
pub mod grant;
pub mod heads;
pub mod limits;
pub mod meter;
pub mod plan;
pub mod pool;
pub mod report;
pub mod rules;
pub mod search;
pub mod walk;
