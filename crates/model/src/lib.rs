//! Model files, the bundle, and scoring.
