//! Rows as a Parquet file: <https://parquet.apache.org/docs/file-format/>.
//!
//! Indexes of pages are absent: they would be held for the whole file until its end. A range of offsets is found by
//! the row groups' statistics.

use std::{io::Write, sync::Arc};

use parquet::{
    basic::{Compression, Encoding, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type},
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::{EnabledStatistics, WriterProperties},
        writer::{SerializedColumnWriter, SerializedFileWriter},
    },
    schema::{parser::parse_message_type, types::ColumnPath},
};
use whimbrel_wire::Record;

use super::rows::Rows;

/// Names as Kafka's. Keys and values are bytes: what they mean is the reader's to know. So are keys of headers, since
/// a broker never asked whether they are UTF-8.
const SCHEMA: &str = "message record {
    required int32 partition;
    required int64 offset;
    optional int64 timestamp (TIMESTAMP(MILLIS, true));
    optional binary key;
    optional binary value;
    required group headers (LIST) {
        repeated group list {
            required group element {
                required binary key;
                optional binary value;
            }
        }
    }
}";

/// What the file says it is of.
const TOPIC: &str = "whimbrel.topic";

/// Bytes of records in a row group: what is held in memory, and what a reader can skip.
const GROUP_BYTES: usize = 64 << 20;

/// Writes records as rows, in the order in which they come: by partition and offset.
#[derive(Debug)]
pub(super) struct Writer<W: Write> {
    file: SerializedFileWriter<W>,
    rows: Rows,
}

impl<W: Write + Send> Writer<W> {
    pub fn new(out: W, topic: &str) -> Result<Self, ParquetError> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = Arc::new(properties(topic));
        Ok(Self {
            file: SerializedFileWriter::new(out, schema, properties)?,
            rows: Rows::default(),
        })
    }

    pub fn push(&mut self, partition: i32, record: &Record) -> Result<(), ParquetError> {
        self.rows.push(partition, record);
        if self.rows.held() >= GROUP_BYTES {
            self.end_group()?;
        }
        Ok(())
    }

    /// Makes it complete.
    pub fn finish(mut self) -> Result<W, ParquetError> {
        if !self.rows.is_empty() {
            self.end_group()?;
        }
        self.file.into_inner()
    }

    fn end_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.file.next_row_group()?;
        for cells in cells(&rows) {
            let Some(mut column) = group.next_column()? else {
                let text = "the schema has fewer columns than rows have";
                return Err(ParquetError::General(text.to_owned()));
            };
            cells.write(&mut column)?;
            column.close()?;
        }
        group.close()?;
        Ok(())
    }
}

/// What goes into one column, there as values, and everywhere as levels.
#[derive(Debug)]
enum Cells<'a> {
    Ints(&'a [i32]),
    Longs(&'a [i64], Option<&'a [i16]>),
    Bytes(&'a [ByteArray], &'a [i16], Option<&'a [i16]>),
}

/// In the order of the schema.
fn cells(rows: &Rows) -> [Cells<'_>; 7] {
    let repeats = Some(rows.header_repeats.as_slice());
    let timestamps = &rows.timestamps;
    let [keys, values, header_keys, header_values] = [
        (&rows.keys, None),
        (&rows.values, None),
        (&rows.header_keys, repeats),
        (&rows.header_values, repeats),
    ]
    .map(|(column, repeats)| Cells::Bytes(&column.values, &column.levels, repeats));
    [
        Cells::Ints(&rows.partitions),
        Cells::Longs(&rows.offsets, None),
        Cells::Longs(&timestamps.values, Some(&timestamps.levels)),
        keys,
        values,
        header_keys,
        header_values,
    ]
}

impl Cells<'_> {
    fn write(&self, column: &mut SerializedColumnWriter<'_>) -> Result<usize, ParquetError> {
        match self {
            Self::Ints(values) => column.typed::<Int32Type>().write_batch(values, None, None),
            Self::Longs(values, levels) => column
                .typed::<Int64Type>()
                .write_batch(values, *levels, None),
            Self::Bytes(values, levels, repeats) => {
                column
                    .typed::<ByteArrayType>()
                    .write_batch(values, Some(levels), *repeats)
            }
        }
    }
}

fn properties(topic: &str) -> WriterProperties {
    let rising = |column_idx| SortingColumn {
        column_idx,
        descending: false,
        nulls_first: false,
    };
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("whimbrel ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(vec![KeyValue::new(
            TOPIC.to_owned(),
            topic.to_owned(),
        )]))
        .set_sorting_columns(Some(vec![rising(0), rising(1)]))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true);
    // No two offsets are equal, and hardly two times: the difference to the one before is what is small.
    for rising in ["offset", "timestamp"] {
        let column = ColumnPath::from(rising);
        properties = properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
    }
    // Nobody looks for the lowest value of a topic.
    properties
        .set_column_statistics_enabled(ColumnPath::from("value"), EnabledStatistics::None)
        .build()
}

#[cfg(test)]
pub(super) mod tests;
