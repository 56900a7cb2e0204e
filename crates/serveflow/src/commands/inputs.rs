//! How captures become a source, in all commands.

use super::Session;
use super::args::heading;
use clap::Args;
use serveflow_io::{InputSet, OrderRules, PipeTime, Tables};
use serveflow_serve::config::Config;
use std::path::PathBuf;

/// Which captures share a flow table.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = heading::INPUT)]
pub(crate) struct TableRuleArgs {
    /// Use a separate flow table for each capture, as `train` and `evaluate` do
    #[arg(long, requires = "captures", conflicts_with = "one_table")]
    pub(crate) per_capture: bool,
    /// Use one flow table for all captures, even if time steps back by more than the idle timeout
    /// [default: start a new table there]
    #[arg(long, requires = "captures")]
    pub(crate) one_table: bool,
}

impl TableRuleArgs {
    /// The order in which packets are read.
    pub(crate) fn rules(self, config: &Config, pipe: PipeTime) -> OrderRules {
        let tables = match (self.per_capture, self.one_table) {
            (true, _) => Tables::PerCapture,
            (_, true) => Tables::One,
            _ => Tables::ByTime,
        };
        OrderRules { tables, pipe, ..config.order_rules() }
    }
}

/// The captures that paths lead to, in the order of time; what is left out is named.
pub(crate) fn find(session: &Session, paths: &[PathBuf]) -> anyhow::Result<InputSet> {
    let set = InputSet::find(paths)?;
    session.say(&set.told());
    Ok(set)
}
