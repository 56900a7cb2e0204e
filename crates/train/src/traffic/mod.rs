//! Traffic to measure with: flows that are cloned under fresh five-tuples, at any rate.
//!
//! ```text
//! template    flows to clone    <- captured, synthetic
//! generator   clones in time    -> a source (timed: what making packets takes is told apart)
//! ```

mod agenda;
pub mod captured;
mod frame;
pub mod fresh;
pub mod generator;
pub mod synthetic;
pub mod template;
pub mod timed;
