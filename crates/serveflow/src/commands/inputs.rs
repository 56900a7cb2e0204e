//! How captures become a source, alike in all commands.

use super::Session;
use clap::Args;
use serveflow_io::{InputSet, OrderRules, PipeTime, Tables};
use serveflow_serve::config::Config;
use std::path::PathBuf;

/// Which captures share a flow table.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct TableRuleArgs {
    /// Give each capture a flow table of its own, as train and evaluate do
    #[arg(long, requires = "captures", conflicts_with = "one_table")]
    pub(crate) per_capture: bool,
    /// Keep one flow table for all captures, also where one steps back in time by more than the idle
    /// timeout and a new table would begin
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
