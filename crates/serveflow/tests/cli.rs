//! The command line from outside: what is typed, what comes out, and what the exit code says.
#![allow(clippy::unwrap_used)]

mod cli {
    pub(crate) mod kit;

    mod benches;
    mod bundles;
    mod configs;
    mod controls;
    mod drifts;
    mod evaluations;
    mod exits;
    mod helps;
    mod imports;
    mod inputs;
    mod mistakes;
    mod odd_captures;
    mod odd_labels;
    mod orders;
    mod out_files;
    mod outputs;
    mod plans;
    mod selections;
    mod stops;
    mod tunnels;
    mod unknowns;
}
