//! Apache Parquet, column by column.
//!
//! Rows wait as the engine packs them, a bit as a bit, until there are enough for a row group.
//! Then one column after another is unpacked and written, so that memory is bounded by a row group
//! of packed rows and a single column, however many columns there are.

use super::{Key, KeyKind, Table, TableHead};
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serveflow_core::packet::LAST_NS;
use serveflow_core::rows::{Column, Place, RowShape, Rows};
use std::io::{self, Write};
use std::sync::Arc;

/// Packed bytes after which a row group is written.
const GROUP_BYTES: usize = 8 << 20;
/// Rows after which a row group is written, however small they are.
const GROUP_ROWS: usize = 1 << 16;

/// Writes a row group whenever enough rows are there.
pub struct ParquetTable<W: Write + Send> {
    file: SerializedFileWriter<W>,
    columns: Vec<Column>,
    keys: Vec<KeyCells>,
    rows: Rows,
    group_rows: usize,
}

/// The waiting cells of a leading column.
enum KeyCells {
    Text(Vec<ByteArray>),
    Integer(Vec<i32>),
    Time(Vec<i64>),
}

impl<W: Write + Send> ParquetTable<W> {
    /// A table of rows of one shape that writes to `writer`.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn new(writer: W, head: TableHead, shape: RowShape) -> io::Result<Self> {
        let schema = Arc::new(schema(&head).map_err(into_io)?);
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_created_by(concat!("serveflow ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let file = SerializedFileWriter::new(writer, schema, Arc::new(properties));
        let cells = |kind| match kind {
            KeyKind::Text => KeyCells::Text(Vec::new()),
            KeyKind::Integer => KeyCells::Integer(Vec::new()),
            KeyKind::Time => KeyCells::Time(Vec::new()),
        };
        let row_bytes = (shape.words + shape.numbers) * size_of::<u32>();
        Ok(Self {
            file: file.map_err(into_io)?,
            keys: head.keys.iter().map(|key| cells(key.kind)).collect(),
            columns: head.columns,
            rows: Rows::with_capacity(shape, 0),
            group_rows: (GROUP_BYTES / row_bytes.max(1)).clamp(1, GROUP_ROWS),
        })
    }

    fn write_group(&mut self) -> Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut group = self.file.next_row_group()?;
        for key in &mut self.keys {
            key.write(&mut group)?;
        }
        let (mut bits, mut numbers) = (Vec::new(), Vec::new());
        for column in &self.columns {
            let values = (0..self.rows.len()).map(|row| column.value(&self.rows, row));
            if matches!(column.place, Place::Bit { .. }) {
                bits.clear();
                bits.extend(values.map(|value| value as i32));
                write_column::<Int32Type>(&mut group, &bits)?;
            } else {
                numbers.clear();
                numbers.extend(values);
                write_column::<FloatType>(&mut group, &numbers)?;
            }
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }
}

impl<W: Write + Send> Table for ParquetTable<W> {
    fn push(&mut self, keys: &[Key<'_>], rows: &Rows, row: usize) -> io::Result<()> {
        assert!(keys.len() == self.keys.len(), "a cell for each leading column");
        self.keys.iter_mut().zip(keys).for_each(|(cells, key)| cells.push(key));
        self.rows.push_copy(rows, row);
        if self.rows.len() < self.group_rows {
            return Ok(());
        }
        self.write_group().map_err(into_io)
    }

    fn finish(&mut self) -> io::Result<()> {
        self.write_group().map_err(into_io)?;
        self.file.finish().map_err(into_io)?;
        self.file.inner_mut().flush()
    }
}

impl KeyCells {
    fn push(&mut self, key: &Key<'_>) {
        match (self, key) {
            (Self::Text(cells), Key::Text(words)) => cells.push(words.as_ref().into()),
            (Self::Integer(cells), Key::Integer(number)) => cells.push(i32::from(*number)),
            // As everywhere, no time is later than the format can state.
            (Self::Time(cells), Key::Time(ns)) => cells.push((*ns).min(LAST_NS).cast_signed()),
            _ => panic!("the cells of a column are of its kind"),
        }
    }

    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, impl Write + Send>) -> Result<()> {
        match self {
            Self::Text(cells) => {
                write_column::<ByteArrayType>(group, cells)?;
                cells.clear();
            }
            Self::Integer(cells) => {
                write_column::<Int32Type>(group, cells)?;
                cells.clear();
            }
            Self::Time(cells) => {
                write_column::<Int64Type>(group, cells)?;
                cells.clear();
            }
        }
        Ok(())
    }
}

/// Writes the group's next column.
fn write_column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, impl Write + Send>,
    values: &[T::T],
) -> Result<()> {
    let mut column = group.next_column()?.expect("the schema has a column for each of ours");
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

fn schema(head: &TableHead) -> Result<Type> {
    let key = |kind| match kind {
        KeyKind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        KeyKind::Integer => (Physical::INT32, Some(LogicalType::integer(16, false))),
        KeyKind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::NANOS))),
    };
    let feature = |place| match place {
        Place::Bit { .. } => (Physical::INT32, Some(LogicalType::integer(8, true))),
        Place::Number(_) => (Physical::FLOAT, None),
    };
    let keys = head.keys.iter().map(|column| key(column.kind));
    let kinds = keys.chain(head.columns.iter().map(|column| feature(column.place)));
    let fields = head.names().zip(kinds).map(|(name, (physical, logical))| {
        let field = Type::primitive_type_builder(name, physical);
        field.with_repetition(Repetition::REQUIRED).with_logical_type(logical).build().map(Arc::new)
    });
    let fields = fields.collect::<Result<Vec<_>>>()?;
    Type::group_type_builder("features").with_fields(fields).build()
}

/// The writer's own error when that is what lies behind.
fn into_io(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(own) => *own,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::FLOW_KEYS;
    use crate::table::flow_keys;
    use parquet::column::reader::ColumnReader;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use serveflow_core::verdict::FiveTuple;

    #[test]
    fn row_groups_are_bounded_and_hold_every_row_once() {
        let shape = RowShape { words: 0, numbers: 1 };
        let column = Column { name: "size".to_owned(), place: Place::Number(0) };
        let head = TableHead { keys: FLOW_KEYS.to_vec(), columns: vec![column] };
        let path = std::env::temp_dir().join(format!("groups-{}.parquet", std::process::id()));
        let mut table =
            ParquetTable::new(std::fs::File::create(&path).unwrap(), head, shape).unwrap();
        assert_eq!(table.group_rows, GROUP_ROWS);
        table.group_rows = 3;
        let address = [10, 0, 0, 1].into();
        let flow = FiveTuple {
            src: address,
            dst: address,
            src_port: 1,
            dst_port: 2,
            proto: 6,
            vlan: None,
        };
        let mut rows = Rows::with_capacity(shape, 8);
        for row in 0..8 {
            rows.push().1[0] = row as f32;
            table.push(&flow_keys(&flow, 7, 1), &rows, row).unwrap();
            assert!(table.rows.len() < 3);
        }
        table.finish().unwrap();
        let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut sizes = Vec::new();
        for (group, count) in [3, 3, 2].into_iter().enumerate() {
            let group = reader.get_row_group(group).unwrap();
            assert_eq!(group.metadata().num_rows(), count);
            let Ok(ColumnReader::FloatColumnReader(mut column)) =
                group.get_column_reader(FLOW_KEYS.len())
            else {
                panic!("a column of numbers");
            };
            column.read_records(count as usize, None, None, &mut sizes).unwrap();
        }
        assert_eq!(reader.num_row_groups(), 3);
        assert_eq!(sizes, (0..8).map(|row| row as f32).collect::<Vec<_>>());
    }
}
