//! Laws of the traffic that benches make, and of the loads that they put on a cascade.
#![allow(clippy::unwrap_used)]

mod bench {
    pub(crate) mod kit;

    mod clones;
    mod pace;
    mod synthetic;
}
