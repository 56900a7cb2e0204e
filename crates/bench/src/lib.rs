//! Benchmarks of cascades under load: the measurements and their reports. The traffic is that of
//! `serveflow_train::traffic`.
//!
//! ```text
//! paced      traffic whose packets are due by the clock
//! load       workers under load     -> meter: latencies and truth of each verdict
//! figures    what was measured      -> text, page
//! contender  who is measured        (the cascade, one of its stages, a queue in front of a model)
//! path       the packet path alone, stage by stage
//! ```

pub mod answers;
pub mod contender;
pub mod figures;
pub mod latency;
pub mod load;
pub mod meter;
pub mod paced;
pub mod page;
pub mod paper;
pub mod path;
pub mod queue;
pub mod scaling;
pub mod text;
pub mod usage;

/// Wall time, nanoseconds from any fixed start.
pub type Wall = fn() -> u64;
