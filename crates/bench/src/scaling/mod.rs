//! What more cores would give: a simulation that is driven by measured costs.
//!
//! Workers share one input as `run` shares it: whoever has nothing to do reads the next block,
//! parts its frames by flow, and leaves each worker its part; every worker takes its parts in
//! order. Reading is one at a time, and so is every visit to the board on which parts are left.
//! [`sim`] plays this event by event, [`shards`] says how unevenly flows fall onto workers,
//! [`curve`] adds what memory can move and names the limit. [`measure`] measures the costs, and
//! [`validation`] runs one and two workers to compare the simulation with.

pub mod curve;
pub mod machine;
pub mod measure;
pub mod replay_source;
pub mod shards;
pub mod sim;
pub mod text;
pub mod validation;
