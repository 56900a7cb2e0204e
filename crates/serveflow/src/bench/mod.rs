//! The workbench: traffic to measure with, what is measured of it, and how it is told.
//!
//! ```text
//! template   flows to clone         <- synthetic, captured
//! generator  clones in time         -> a source; paced: one whose packets are due by the clock
//! load       workers under load     -> meter: latencies and truth of each verdict
//! figures    what was measured      -> text, page
//! contender  who is measured        (the cascade, one of its stages, a queue in front of a model)
//! path       the packet path alone, stage by stage
//! ```

mod agenda;
pub mod answers;
pub mod captured;
pub mod contender;
pub mod figures;
mod frame;
pub mod fresh;
pub mod generator;
pub mod latency;
pub mod load;
pub mod meter;
pub mod paced;
pub mod page;
pub mod paper;
pub mod path;
pub mod queue;
pub mod synthetic;
pub mod template;
pub mod text;
pub mod usage;

/// Wall time, nanoseconds from any fixed start.
pub type Wall = fn() -> u64;
