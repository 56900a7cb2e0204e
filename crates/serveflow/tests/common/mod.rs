//! The command under test, its captures, and the tables that it writes.
#![allow(dead_code, reason = "each test file uses its own part")]

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs a subcommand on captures.
pub(crate) fn run(command: &str, captures: &[impl AsRef<Path>], args: &[&str]) -> Output {
    let captures = captures.iter().map(AsRef::as_ref);
    let mut tool = Command::new(env!("CARGO_BIN_EXE_serveflow"));
    tool.arg(command).args(captures).args(args).output().unwrap()
}

/// What it wrote to standard output.
pub(crate) fn stdout(done: &Output) -> String {
    String::from_utf8(done.stdout.clone()).unwrap()
}

/// What it wrote to standard error.
pub(crate) fn stderr(done: &Output) -> String {
    String::from_utf8(done.stderr.clone()).unwrap()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A path of the sample data.
pub(crate) fn data(path: &str) -> PathBuf {
    root().join("data").join(path)
}

/// The captures of a folder of the sample data, in order.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    serveflow_io::InputSet::find(&[data(folder)]).unwrap().paths()
}

/// The captures that the reference nPrint tool printed, in order.
pub(crate) fn golden() -> Vec<PathBuf> {
    let found = serveflow_io::InputSet::find(&[root().join("crates/core/tests/golden/nprint")]);
    let mut files = found.unwrap().paths();
    files.sort();
    let ends = |path: &PathBuf, end| path.extension().is_some_and(|found| found == end);
    files.retain(|path| ["pcap", "cap", "pcapng"].into_iter().any(|end| ends(path, end)));
    files
}

/// A path to write to, which nothing else does.
pub(crate) fn scratch(test: &str, extension: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}.{extension}"));
    // What an earlier run of the test left is not written over without a word.
    let _ = std::fs::remove_file(&path);
    path
}

/// A table as text; no field of these tests holds a comma.
pub(crate) struct Csv {
    pub(crate) names: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Csv {
    pub(crate) fn new(text: &str) -> Self {
        let mut lines =
            text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
        let names = lines.next().unwrap();
        let rows: Vec<Vec<String>> = lines.collect();
        assert!(rows.iter().all(|row| row.len() == names.len()));
        Self { names, rows }
    }

    /// Index of a column.
    pub(crate) fn column(&self, name: &str) -> usize {
        self.names.iter().position(|found| found == name).unwrap()
    }
}

/// The columns of a Parquet file: name, and cells as the text table spells them.
pub(crate) fn parquet_cells(path: &Path) -> Vec<(String, Vec<String>)> {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let named = |column: usize| (schema.column(column).name().to_owned(), Vec::new());
    let mut columns: Vec<(String, Vec<String>)> = (0..schema.num_columns()).map(named).collect();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).unwrap();
        let rows = group.metadata().num_rows() as usize;
        for (index, (_, cells)) in columns.iter_mut().enumerate() {
            cells.extend(match group.get_column_reader(index).unwrap() {
                ColumnReader::Int32ColumnReader(column) => all(column, rows, i32::to_string),
                ColumnReader::FloatColumnReader(column) => all(column, rows, f32::to_string),
                ColumnReader::Int64ColumnReader(column) => all(column, rows, |ns| {
                    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
                }),
                ColumnReader::ByteArrayColumnReader(column) => {
                    all(column, rows, |bytes| bytes.as_utf8().unwrap().to_owned())
                }
                _ => panic!("no table has such a column"),
            });
        }
    }
    columns
}

fn all<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    rows: usize,
    spell: impl Fn(&T::T) -> String,
) -> Vec<String> {
    let mut values = Vec::new();
    column.read_records(rows, None, None, &mut values).unwrap();
    assert_eq!(values.len(), rows);
    values.iter().map(spell).collect()
}
