//! The `serveflow` command.
#![forbid(unsafe_code)]

mod commands;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = commands::args::Cli::parse();
    commands::execute(cli).unwrap_or_else(|error| {
        if commands::is_closed_output(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
