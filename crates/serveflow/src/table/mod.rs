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
pub struct TableHead {
    /// Leading columns.
    pub keys: Vec<KeyColumn>,
    /// Feature columns.
    pub columns: Vec<Column>,
}

impl TableHead {
    /// Names of all columns, in order.
    fn names(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().map(|key| key.name);
        keys.chain(self.columns.iter().map(|column| column.name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::{CsvTable, FLOW_KEYS, ParquetTable, Table, TableHead, flow_keys};
    use ::parquet::column::reader::ColumnReader;
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    use serveflow_core::rows::{RowShape, Rows};
    use serveflow_core::verdict::{FiveTuple, Reason, Verdict};
    use serveflow_io::Sink;
    use serveflow_output::{Csv, JsonLines};
    use std::io;
    use std::sync::{Arc, Mutex};

    /// Bytes that are kept while something writes them.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Times over the whole range, at its edges and between.
    fn times() -> Vec<u64> {
        let mut state = 7_u64;
        let mut times: Vec<u64> = (0..200)
            .map(|round| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state >> (round % 64)
            })
            .collect();
        let last = i64::MAX as u64;
        times.extend([0, 1, last - 1, last, last + 1, u64::MAX]);
        times
    }

    /// Field `index` of each line behind the heading.
    fn cells(text: &str, index: usize) -> Vec<String> {
        text.lines().skip(1).map(|line| line.split(',').nth(index).unwrap().to_owned()).collect()
    }

    #[test]
    fn every_output_writes_the_same_time_over_the_whole_range() {
        let address = [10, 0, 0, 1].into();
        let flow = FiveTuple {
            src: address,
            dst: address,
            src_port: 1,
            dst_port: 2,
            proto: 6,
            vlan: None,
        };
        let shape = RowShape { words: 0, numbers: 0 };
        let head = || TableHead { keys: FLOW_KEYS.to_vec(), columns: Vec::new() };
        let [csv, verdicts, lines] = [(); 3].map(|()| Kept::default());
        let mut table = CsvTable::new(csv.clone(), head());
        let path = std::env::temp_dir().join(format!("times-{}.parquet", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let mut columns = ParquetTable::new(file, head(), shape).unwrap();
        let mut sinks: [Box<dyn Sink>; 2] = [
            Box::new(Csv::new(verdicts.clone(), &[], &[])),
            Box::new(JsonLines::new(lines.clone(), &[], &[])),
        ];
        let mut rows = Rows::with_capacity(shape, 1);
        rows.push();
        for &ns in &times() {
            let keys = flow_keys(&flow, ns, 1);
            table.push(&keys, &rows, 0).unwrap();
            columns.push(&keys, &rows, 0).unwrap();
            let verdict = Verdict {
                plan: 0,
                id: 0,
                flow,
                answer: None,
                reason: Reason::Shed,
                is_final: true,
                first_ns: ns,
                deciding_ns: ns,
                collection_ns: 0,
                compute_ns: 0,
            };
            sinks.iter_mut().for_each(|sink| sink.write(&[verdict]).unwrap());
        }
        table.finish().unwrap();
        columns.finish().unwrap();
        sinks.iter_mut().for_each(|sink| sink.flush().unwrap());
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (mut stated, group) = (Vec::new(), reader.get_row_group(0).unwrap());
        let Ok(ColumnReader::Int64ColumnReader(mut column)) = group.get_column_reader(5) else {
            panic!("a column of times");
        };
        column.read_records(times().len(), None, None, &mut stated).unwrap();
        let second = 1_000_000_000;
        let stated: Vec<String> =
            stated.iter().map(|ns| format!("{}.{:09}", ns / second, ns % second)).collect();
        assert_eq!(stated.len(), times().len());
        assert_eq!(cells(&csv.text(), 5), stated);
        assert_eq!(
            [13, 14].map(|index| cells(&verdicts.text(), index)),
            [stated.clone(), stated.clone()]
        );
        for key in ["\"first_ts\":", "\"deciding_ts\":"] {
            let text = lines.text();
            let of =
                |line: &str| line.split(key).nth(1).unwrap().split(',').next().unwrap().to_owned();
            assert_eq!(text.lines().map(of).collect::<Vec<_>>(), stated);
        }
    }
}
