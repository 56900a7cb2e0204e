//! The command line: serving, and what surrounds a service.

use super::args::heading;
use super::inputs::TableRuleArgs;
use super::values::{sink, some_share};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `serveflow run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow run capture.pcap --bundle bundle > verdicts.jsonl
  serveflow run captures/ more.pcapng.gz --bundle bundle --out verdicts.csv
  zcat big.pcap.gz | serveflow run - --bundle bundle | jq .label
  serveflow run --interface eth1 --filter 'not port 22' --bundle bundle --out verdicts.jsonl")]
pub(crate) struct RunArgs {
    /// Captures: files, directories, or - for standard input; packets are read in time order
    /// [default: the interfaces of --interface or of the configuration]
    #[arg(value_name = "CAPTURE", conflicts_with_all = ["interface", "filter"])]
    pub(crate) captures: Vec<PathBuf>,
    /// Interface to listen to until SIGINT or SIGTERM; repeatable
    #[arg(short, long, value_name = "NAME", help_heading = heading::INPUT)]
    pub(crate) interface: Vec<String>,
    /// Capture filter of the interfaces, in the syntax of tcpdump: pcap-filter(7)
    #[arg(long, value_name = "FILTER", help_heading = heading::INPUT)]
    pub(crate) filter: Option<String>,
    /// Treat a pipe as live: packets are not reordered, and timeouts fire while it is silent
    /// [default: live if its packets are stamped within 5 s of the wall time]
    #[arg(long, requires = "captures", help_heading = heading::INPUT)]
    pub(crate) live_pipe: bool,
    #[command(flatten)]
    pub(crate) tables: TableRuleArgs,
    /// Bundle to serve [default: service.bundle of the configuration]
    #[arg(long, value_name = "BUNDLE", help_heading = heading::BUNDLE)]
    pub(crate) bundle: Option<PathBuf>,
    /// File or named pipe of the verdicts, uncompressed [default: standard output]
    ///
    /// A service appends to an existing file. A run on captures refuses a file that is not empty,
    /// unless you give --append or --overwrite.
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) out: Option<PathBuf>,
    /// Format of the verdicts
    /// [default: by the extension of --out (.json, .jsonl, .ndjson, .csv), else json]
    #[arg(long, value_parser = sink(), help_heading = heading::OUTPUT)]
    pub(crate) format: Option<String>,
    /// Append to the file of --out
    #[arg(long, requires = "out", help_heading = heading::OUTPUT)]
    pub(crate) append: bool,
    /// Empty the file of --out first
    #[arg(long, requires = "out", conflicts_with = "append", help_heading = heading::OUTPUT)]
    pub(crate) overwrite: bool,
    /// Also write the label of each stage that escalates a flow, marked "final":false
    #[arg(long, help_heading = heading::OUTPUT)]
    pub(crate) provisional: bool,
    /// Worker threads, which share the packets by flow [default: one per core for interfaces and
    /// for captures of 16 MiB or more, else one]
    ///
    /// Verdicts do not depend on the number. With one worker, they come in the same order each
    /// time.
    #[arg(long, value_name = "N", help_heading = heading::THREADS)]
    pub(crate) workers: Option<usize>,
}

/// `serveflow check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow check --config /etc/serveflow/serveflow.toml
  serveflow check --config /etc/serveflow/serveflow.toml --running    # beside the service

`check` opens and closes everything that `run` opens on interfaces. It refuses what `run` refuses,
with the same error. Run it with the rights of the service.")]
pub(crate) struct CheckArgs {
    /// Bundle to check [default: service.bundle of the configuration]
    #[arg(long, value_name = "BUNDLE", help_heading = heading::BUNDLE)]
    pub(crate) bundle: Option<PathBuf>,
    /// Interface, as of `run`; repeatable
    #[arg(short, long, value_name = "NAME", help_heading = heading::INPUT)]
    pub(crate) interface: Vec<String>,
    /// Capture filter of the interfaces, as of `run`
    #[arg(long, value_name = "FILTER", help_heading = heading::INPUT)]
    pub(crate) filter: Option<String>,
    /// Worker threads, as of `run`
    #[arg(long, value_name = "N", help_heading = heading::THREADS)]
    pub(crate) workers: Option<usize>,
    /// File or named pipe of the verdicts, as of `run`; opened, and removed if it is new
    #[arg(long, value_name = "FILE", help_heading = heading::OUTPUT)]
    pub(crate) out: Option<PathBuf>,
    /// Skip the output, the addresses and the control socket, which the running service occupies
    #[arg(long, help_heading = heading::SERVICE)]
    pub(crate) running: bool,
}

/// `serveflow config`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a commented serveflow.toml to standard output: every key with its default
    #[command(after_help = "\
Examples:
  serveflow config example > serveflow.toml
  serveflow config example | grep -A3 'live'")]
    Example,
}

/// `serveflow control`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  serveflow control status --config /etc/serveflow/serveflow.toml
  serveflow control reload --socket /run/serveflow/control.sock --bundle /srv/bundles/new")]
pub(crate) struct ControlArgs {
    #[command(subcommand)]
    pub(crate) order: Order,
    /// Control socket of the service [default: service.control of the configuration]
    #[arg(long, global = true, value_name = "SOCKET", help_heading = heading::SERVICE)]
    pub(crate) socket: Option<PathBuf>,
}

/// An order to a running service.
#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Print packet and flow counters as JSON
    #[command(after_help = "\
Examples:
  serveflow control status --socket /run/serveflow/control.sock
  serveflow control status --config /etc/serveflow/serveflow.toml | jq .shadow")]
    Status,
    /// Print the metrics in Prometheus format
    #[command(after_help = "\
Examples:
  serveflow control metrics --socket /run/serveflow/control.sock
  serveflow control metrics --config /etc/serveflow/serveflow.toml | grep flows")]
    Metrics,
    /// Load another bundle, or the current one again; open flows keep theirs
    #[command(after_help = "\
Examples:
  serveflow control reload --socket /run/serveflow/control.sock
  serveflow control reload --config /etc/serveflow/serveflow.toml --bundle /srv/bundles/new")]
    Reload {
        /// Bundle to load [default: the current one]
        #[arg(long, value_name = "BUNDLE", help_heading = heading::BUNDLE)]
        bundle: Option<PathBuf>,
    },
    /// Serve the previous bundle again
    #[command(after_help = "\
Examples:
  serveflow control rollback --socket /run/serveflow/control.sock
  serveflow control rollback --config /etc/serveflow/serveflow.toml")]
    Rollback,
    /// Run a second bundle on a share of the flows without output; `status` shows the comparison
    #[command(after_help = "\
Examples:
  serveflow control shadow --socket /run/serveflow/control.sock --bundle /srv/new --share 0.2
  serveflow control shadow --socket /run/serveflow/control.sock --stop")]
    Shadow {
        /// Bundle to run as the shadow
        #[arg(long, value_name = "BUNDLE", help_heading = heading::BUNDLE)]
        #[arg(required_unless_present = "stop")]
        bundle: Option<PathBuf>,
        /// Share of the flows that the shadow classifies, above 0 and up to 1
        #[arg(long, default_value_t = 0.1, value_parser = some_share)]
        #[arg(help_heading = heading::BUNDLE)]
        share: f64,
        /// Stop the shadow
        #[arg(long, conflicts_with_all = ["bundle", "share"], help_heading = heading::BUNDLE)]
        stop: bool,
    },
    /// Serve the shadow's bundle from now on
    #[command(after_help = "\
Examples:
  serveflow control promote --socket /run/serveflow/control.sock
  serveflow control promote --config /etc/serveflow/serveflow.toml")]
    Promote,
    /// Write a verdict for every open flow, then stop the service
    #[command(after_help = "\
Examples:
  serveflow control stop --socket /run/serveflow/control.sock
  serveflow control stop --config /etc/serveflow/serveflow.toml")]
    Stop,
}
