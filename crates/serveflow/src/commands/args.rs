//! The command line: commands, global options, and what their help texts share.

use super::bench::args::BenchCommand;
use super::bundle::BundleCommand;
use super::data_args::{DemoArgs, EvaluateArgs, FeaturesArgs, InspectArgs};
use super::serve_args::{CheckArgs, ConfigCommand, ControlArgs, RunArgs};
use super::train_args::{self, ReplanArgs, TrainArgs};
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

/// Headings of options, the same in all commands.
pub(crate) mod heading {
    pub(crate) const INPUT: &str = "Input";
    pub(crate) const BUNDLE: &str = "Bundle";
    pub(crate) const OUTPUT: &str = "Output";
    pub(crate) const CASCADE: &str = "Cascade";
    pub(crate) const LIMITS: &str = "Limits";
    pub(crate) const GUARANTEE: &str = "Guarantee";
    pub(crate) const UNKNOWN: &str = "Unknown flows";
    pub(crate) const CANDIDATES: &str = "Candidates";
    pub(crate) const FEATURES: &str = "Features";
    pub(crate) const MODEL: &str = "Model";
    pub(crate) const CHECKS: &str = "Checks";
    pub(crate) const MODELS: &str = "Models";
    pub(crate) const LANES: &str = "Lanes";
    pub(crate) const THRESHOLDS: &str = "Thresholds";
    pub(crate) const REPORT: &str = "Report";
    pub(crate) const ROWS: &str = "Rows";
    pub(crate) const THREADS: &str = "Threads";
    pub(crate) const SERVICE: &str = "Service";
    pub(crate) const TRAFFIC: &str = "Traffic";
    pub(crate) const SYNTHETIC: &str = "Synthetic flows";
    pub(crate) const LOAD: &str = "Load";
    pub(crate) const QUEUE: &str = "Queue";
    pub(crate) const MEASUREMENT: &str = "Measurement";
    pub(crate) const SIMULATION: &str = "Simulation";
    pub(crate) const GLOBAL: &str = "Global options";
}

/// Classify network flows as early as their packets allow.
#[derive(Debug, Parser)]
#[command(name = "serveflow", version, after_help = AFTER_HELP)]
#[command(disable_help_flag = true, disable_version_flag = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
}

/// Options of all commands.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = heading::GLOBAL)]
pub(crate) struct GlobalArgs {
    /// Configuration file; `serveflow config example` writes one with every key
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Write no progress and no summary to standard error
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Print help (-h: summary)
    #[arg(short, long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    /// Print version
    #[arg(short = 'V', long, action = ArgAction::Version)]
    version: Option<bool>,
}

const AFTER_HELP: &str = "\
Examples:
  serveflow demo
  serveflow train --captures captures --out bundle
  serveflow run capture.pcap --bundle bundle > verdicts.jsonl

Exit codes:
  0  success
  1  error; standard error names what failed, where, what was expected and what was found
  2  wrong command line
  3  an input is damaged, or has packets of an unsupported link type; the rest was processed
  4  something was lost and is counted on standard error: records that the output did not take,
     scores that models did not return for flows of a capture, or a failed worker";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the shipped sample captures through their cascade
    Demo(DemoArgs),
    /// Train models on labelled captures and plan a cascade of them
    Train(Box<TrainArgs>),
    /// Re-optimise a cascade under another objective or other limits, without retraining
    Replan(ReplanArgs),
    /// Evaluate a cascade on labelled captures
    Evaluate(EvaluateArgs),
    /// Classify the flows of captures or of live interfaces
    Run(RunArgs),
    /// Check a configuration and print its limits and its memory
    Check(CheckArgs),
    /// Query or control a running service
    Control(ControlArgs),
    /// Write a configuration file
    #[command(after_help = "\
Examples:
  serveflow config example > serveflow.toml
  serveflow config example | grep capacity")]
    Config {
        /// What to write
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Show the contents of bundles and captures
    Inspect(InspectArgs),
    /// Export the features of captures as a table
    Features(FeaturesArgs),
    /// Add models of other libraries to a bundle; check and re-sign bundles
    #[command(after_help = "\
Examples:
  serveflow bundle add mine --stage lgb@10 --model model.txt --packets 10 --classes dns,http
  serveflow bundle check mine")]
    Bundle {
        /// What to do with the bundle
        #[command(subcommand)]
        what: BundleCommand,
    },
    /// Measure throughput, latency and cost on this machine
    #[command(after_help = "\
Examples:
  serveflow bench traffic
  serveflow bench packets capture.pcap")]
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: BenchCommand,
    },
    /// Write shell completions to standard output
    #[command(after_help = "\
Examples:
  serveflow completions bash > /etc/bash_completion.d/serveflow
  serveflow completions zsh > _serveflow")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages to standard output
    #[command(after_help = "\
Examples:
  serveflow man > serveflow.1
  serveflow man | man -l -")]
    Man,
}

/// The program with all its commands, as it is parsed and described.
pub(crate) fn program() -> clap::Command {
    Cli::command().mut_subcommand("train", train_args::with_short_help)
}

/// Reads the command line.
pub(crate) fn parse() -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&program().try_get_matches()?)
}
