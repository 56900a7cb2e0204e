//! The evaluation on data whose truth is known.
