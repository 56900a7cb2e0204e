//! Tables of a library's probabilities, as CSV or Parquet: columns `p_LABEL`, and flow keys.

use anyhow::{Context, bail, ensure};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serveflow::table::{FLOW_KEYS, LABEL_KEYS};
use std::collections::BTreeMap;
use std::path::Path;

/// First bytes of a Parquet file.
const PARQUET: &[u8] = b"PAR1";
/// Before the label in the name of a column of probabilities.
pub(super) const PREFIX: &str = "p_";
const NS_PER_S: f64 = 1e9;

/// What a library says of flows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Probabilities {
    /// Rows of the table.
    pub(super) rows: usize,
    /// The columns that tell of the flow, as text, by name.
    pub(super) keys: BTreeMap<&'static str, Vec<String>>,
    /// Probabilities by label, in the order of the columns.
    pub(super) classes: Vec<(String, Vec<f64>)>,
}

/// What a column is for.
enum Use {
    Key(&'static str),
    Class(String),
}

fn use_of(name: &str) -> Option<Use> {
    let keys = FLOW_KEYS.iter().chain(&LABEL_KEYS).map(|key| key.name);
    let key = keys.into_iter().find(|key| *key == name).map(Use::Key);
    key.or_else(|| name.strip_prefix(PREFIX).map(|label| Use::Class(label.to_owned())))
}

impl Probabilities {
    /// Reads a table; ignores columns other than `p_LABEL` and the flow keys of `serveflow
    /// features`.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let place = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(place)?;
        let table = if bytes.starts_with(PARQUET) {
            Self::from_parquet(path)
        } else {
            Self::from_csv(&bytes)
        };
        let table = table.with_context(place)?;
        ensure!(
            !table.classes.is_empty(),
            "{}: expected columns `{PREFIX}LABEL` of probabilities, found none",
            place()
        );
        for (label, values) in &table.classes {
            let wrong = values.iter().position(|value| !value.is_finite());
            if let Some(at) = wrong {
                let found = values[at];
                bail!(
                    "{}: row {}: `{PREFIX}{label}`: expected a probability, found {found}",
                    place(),
                    at + 1
                );
            }
        }
        Ok(table)
    }

    fn add(&mut self, of: Use, cells: Vec<String>) -> anyhow::Result<()> {
        self.rows = cells.len();
        match of {
            Use::Key(key) => {
                ensure!(
                    self.keys.insert(key, cells).is_none(),
                    "`{key}`: expected once, found twice"
                );
            }
            Use::Class(label) => {
                let known = self.classes.iter().any(|(known, _)| *known == label);
                ensure!(!known, "`{PREFIX}{label}`: expected once, found twice");
                let parsed = cells.iter().enumerate().map(|(at, cell)| {
                    cell.trim().parse::<f64>().ok().with_context(|| {
                        let row = at + 1;
                        format!("row {row}: `{PREFIX}{label}`: expected a number, found `{cell}`")
                    })
                });
                let values = parsed.collect::<anyhow::Result<_>>()?;
                self.classes.push((label, values));
            }
        }
        Ok(())
    }

    fn from_csv(bytes: &[u8]) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_reader(bytes);
        let names = reader.headers()?.clone();
        let used: Vec<(usize, Use)> =
            names.iter().enumerate().filter_map(|(at, name)| Some((at, use_of(name)?))).collect();
        let mut cells: Vec<Vec<String>> = vec![Vec::new(); used.len()];
        for record in reader.records() {
            let record = record?;
            for ((at, _), cells) in used.iter().zip(&mut cells) {
                cells.push(record.get(*at).unwrap_or_default().to_owned());
            }
        }
        let mut table = Self::default();
        used.into_iter().zip(cells).try_for_each(|((_, of), cells)| table.add(of, cells))?;
        Ok(table)
    }

    fn from_parquet(path: &Path) -> anyhow::Result<Self> {
        let file = SerializedFileReader::new(std::fs::File::open(path)?)?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let mut table = Self::default();
        for (at, column) in schema.columns().iter().enumerate() {
            let Some(of) = use_of(column.name()) else { continue };
            let flat = column.max_rep_level() == 0 && column.max_def_level() <= 1;
            ensure!(flat, "`{}`: expected single values, found lists", column.name());
            let unit = match column.logical_type_ref() {
                Some(LogicalType::Timestamp(time)) => Some(time.unit),
                _ => None,
            };
            let mut cells = Vec::new();
            for group in 0..file.num_row_groups() {
                let group = file.get_row_group(group)?;
                let rows = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
                let found = texts(group.get_column_reader(at)?, rows, unit)
                    .with_context(|| format!("`{}`", column.name()))?;
                cells.extend(found);
            }
            table.add(of, cells)?;
        }
        Ok(table)
    }
}

/// The values of a column as text.
fn texts(reader: ColumnReader, rows: usize, unit: Option<TimeUnit>) -> anyhow::Result<Vec<String>> {
    let seconds = |value: &i64| {
        let per_s: i64 = match unit {
            Some(TimeUnit::MILLIS) => 1_000,
            Some(TimeUnit::MICROS) => 1_000_000,
            Some(TimeUnit::NANOS) => 1_000_000_000,
            None => return value.to_string(),
        };
        let rest = value.rem_euclid(per_s) * (1_000_000_000 / per_s);
        format!("{}.{rest:09}", value.div_euclid(per_s))
    };
    Ok(match reader {
        ColumnReader::Int32ColumnReader(of) => {
            all(of, rows)?.iter().map(ToString::to_string).collect()
        }
        ColumnReader::Int64ColumnReader(of) => all(of, rows)?.iter().map(seconds).collect(),
        ColumnReader::FloatColumnReader(of) => {
            all(of, rows)?.iter().map(ToString::to_string).collect()
        }
        ColumnReader::DoubleColumnReader(of) => {
            all(of, rows)?.iter().map(ToString::to_string).collect()
        }
        ColumnReader::ByteArrayColumnReader(of) => {
            let text = |bytes: &parquet::data_type::ByteArray| {
                let text = bytes.as_utf8().context("expected text in UTF-8")?;
                Ok(text.to_owned())
            };
            all(of, rows)?.iter().map(text).collect::<anyhow::Result<_>>()?
        }
        _ => bail!("expected numbers, times or text, found another type"),
    })
}

/// All values of a column of a row group, none of which is missing.
fn all<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize) -> anyhow::Result<Vec<T::T>> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let mut read = 0;
    while read < rows {
        let (records, _, _) =
            reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        ensure!(records > 0, "expected {rows} rows, found {read}");
        read += records;
    }
    if let Some(at) = levels.iter().position(|level| *level == 0).filter(|_| values.len() < rows) {
        bail!("row {}: expected a value, found none", at + 1);
    }
    ensure!(values.len() == rows, "expected {rows} values, found {}", values.len());
    Ok(values)
}

/// Nanoseconds since the epoch of seconds with decimals: exact with up to nine digits, else as near
/// as a data frame's number has it elsewhere.
pub(super) fn nanoseconds(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((whole, rest)) = text.split_once('.')
        && !whole.is_empty()
        && digits(whole)
        && digits(rest)
        && rest.len() <= 9
    {
        let rest: u64 = format!("{rest:0<9}").parse().ok()?;
        return whole.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(rest);
    }
    let seconds: f64 = text.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then_some((seconds * NS_PER_S).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        assert_eq!(nanoseconds("1700000000.000000123"), Some(1_700_000_000_000_000_123));
        assert_eq!(nanoseconds("1.5"), Some(1_500_000_000));
        assert_eq!(nanoseconds("7"), Some(7_000_000_000));
        assert_eq!(nanoseconds("1.7e9"), Some(1_700_000_000_000_000_000));
        assert_eq!(nanoseconds("2023-11-14 22:13:20"), None);
        assert_eq!(nanoseconds("-1"), None);
    }

    #[test]
    fn columns_are_told_apart_by_their_names() {
        let csv = "src,src_port,size,p_dns,p_tls\n10.0.0.1,5,99,0.25,0.75\n10.0.0.2,6,98,1,0\n";
        let table = Probabilities::from_csv(csv.as_bytes()).unwrap();
        assert_eq!(
            (table.rows, table.keys["src_port"].as_slice()),
            (2, &["5".into(), "6".into()][..])
        );
        let expected = [("dns".to_owned(), vec![0.25, 1.0]), ("tls".to_owned(), vec![0.75, 0.0])];
        assert_eq!(table.classes, expected);
        for (csv, word) in [
            ("p_dns\nmuch\n", "row 1: `p_dns`: expected a number, found `much`"),
            ("p_dns,p_dns\n1,1\n", "twice"),
            ("p_dns,p_tls\n1\n", "found record with 1 fields"),
        ] {
            let error = format!("{:#}", Probabilities::from_csv(csv.as_bytes()).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
    }
}
