//! The `serveflow` command.
#![forbid(unsafe_code)]

mod commands;

use clap::Parser;
use serveflow_io::pages::LargePages;
use std::process::ExitCode;

/// Flow tables are large, and looked up at random.
#[global_allocator]
static ALLOCATOR: LargePages = LargePages;

fn main() -> ExitCode {
    let cli = commands::args::Cli::parse();
    commands::execute(cli).unwrap_or_else(|error| {
        if commands::is_closed_output(&error) {
            return ExitCode::SUCCESS;
        }
        commands::complain(&format!("error: {error:#}\n"));
        ExitCode::FAILURE
    })
}
