//! The `serveflow` command.
fn main() {}
