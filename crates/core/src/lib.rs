//! Packets and scored jobs go in, jobs and verdicts come out.
//!
//! This crate only computes: it knows no I/O, clock, thread or log, and has no unsafe code.
#![forbid(unsafe_code)]

pub mod packet;
pub mod rows;
pub mod verdict;
