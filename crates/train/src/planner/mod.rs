//! The planner: which models, how many packets, which thresholds, on the user's own machine.

pub mod candidates;
pub mod confidence;
pub mod external;
pub mod guarantee;
pub mod heads;
pub mod limits;
pub mod meter;
pub mod pool;
pub mod replay;
pub mod report;
pub mod rules;
pub mod search;
pub mod writer;
