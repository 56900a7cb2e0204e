//! Feature tables: a row per flow or per packet, as CSV or Parquet.
//!
//! A table's leading columns, its keys, say what a row belongs to. Behind them stand the feature
//! columns, one by one and by name, as other tools can read them: header bits are -1 (absent), 0
//! or 1, all else are numbers.

mod csv;
mod keys;
mod packets;
mod parquet;

pub use csv::CsvTable;
pub use keys::{FLOW_KEYS, Key, KeyColumn, KeyKind, LABEL_KEYS, PACKET_KEYS, flow_keys};
pub use packets::{PacketTableError, PacketTally, packet_features, write_packets};
pub use parquet::ParquetTable;

use serveflow_core::rows::{Column, Rows};
use std::io;

/// Takes rows, one by one.
pub trait Table {
    /// Adds row `row` of `rows` behind its keys, which are as many and of the kinds that the table
    /// was made with.
    ///
    /// # Errors
    /// When what lies behind the table fails.
    fn push(&mut self, keys: &[Key<'_>], rows: &Rows, row: usize) -> io::Result<()>;

    /// Writes what is left, and whatever the format wants at its end.
    ///
    /// # Errors
    /// When what lies behind the table fails.
    fn finish(&mut self) -> io::Result<()>;
}

/// What every table is made of.
#[derive(Clone, Debug)]
pub struct Head {
    /// Leading columns.
    pub keys: Vec<KeyColumn>,
    /// Feature columns.
    pub columns: Vec<Column>,
}

impl Head {
    /// Names of all columns, in order.
    fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|key| key.name);
        keys.chain(self.columns.iter().map(|column| column.name.as_str()))
    }
}
