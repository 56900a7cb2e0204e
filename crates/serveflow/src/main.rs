//! The `serveflow` command.
#![forbid(unsafe_code)]

mod commands;

use serveflow_io::os::huge_pages::LargePages;
use std::process::ExitCode;

/// Flow tables are large, and looked up at random.
#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

fn main() -> ExitCode {
    let _log = LogEnd;
    let cli = commands::args::parse().unwrap_or_else(|error| commands::mistyped(error));
    commands::execute(cli).unwrap_or_else(|error| {
        if commands::is_closed_output(&error) {
            return ExitCode::SUCCESS;
        }
        commands::complain(&format!("error: {error:#}\n"));
        ExitCode::FAILURE
    })
}

/// Writes what is left of the log, however the program ends.
struct LogEnd;

impl Drop for LogEnd {
    fn drop(&mut self) {
        serveflow_serve::service::log::finish();
    }
}
