//! Records as columns, until they are a row group.

use bytes::{Bytes, BytesMut};
use parquet::data_type::ByteArray;
use whimbrel_wire::Record;

/// What a row costs beside the bytes in it: its numbers, its levels, and where its key and value are.
const ROW_BYTES: usize = 128;
/// The same of a header.
const HEADER_BYTES: usize = 96;
/// Small values share memory of so many bytes.
const SHARED_BYTES: usize = 256 << 10;

/// One row group under way. A definition level says how much of the path to a value is there, a repetition level
/// whether it goes on in its record's list.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub partitions: Vec<i32>,
    pub offsets: Vec<i64>,
    pub timestamps: Column<i64>,
    pub keys: Column<ByteArray>,
    pub values: Column<ByteArray>,
    pub header_keys: Column<ByteArray>,
    pub header_values: Column<ByteArray>,
    /// Both columns of headers have these.
    pub header_repeats: Vec<i16>,
    shared: BytesMut,
    held: usize,
}

#[derive(Debug)]
pub(super) struct Column<T> {
    /// Those that are there.
    pub values: Vec<T>,
    /// One a cell, there or not.
    pub levels: Vec<i16>,
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            levels: Vec::new(),
        }
    }
}

impl<T> Column<T> {
    fn push(&mut self, value: Option<T>, level_there: i16) {
        let is_there = value.is_some();
        self.levels.push(level_there - i16::from(!is_there));
        self.values.extend(value);
    }
}

impl Rows {
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// About the bytes that are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Copies: a record's own bytes are a slice of an answer, all of which would stay for it.
    pub fn push(&mut self, partition: i32, record: &Record) {
        self.held += ROW_BYTES;
        self.partitions.push(partition);
        self.offsets.push(record.offset);
        let timestamp = Some(record.timestamp_ms).filter(|ms| *ms >= 0);
        self.timestamps.push(timestamp, 1);
        let key = self.keep(record.key.as_ref());
        self.keys.push(key, 1);
        let value = self.keep(record.value.as_ref());
        self.values.push(value, 1);
        if record.headers.is_empty() {
            self.header_repeats.push(0);
            self.header_keys.push(None, 1);
            self.header_values.push(None, 1);
        }
        for (n, header) in record.headers.iter().enumerate() {
            self.held += HEADER_BYTES;
            self.header_repeats.push(i16::from(n > 0));
            let key = self.keep(Some(&header.key));
            self.header_keys.push(key, 1);
            let value = self.keep(header.value.as_ref());
            self.header_values.push(value, 2);
        }
    }

    fn keep(&mut self, bytes: Option<&Bytes>) -> Option<ByteArray> {
        let bytes = bytes?;
        self.held += bytes.len();
        let kept = if bytes.len() > SHARED_BYTES / 8 {
            Bytes::copy_from_slice(bytes)
        } else {
            if self.shared.capacity() < bytes.len() {
                self.shared = BytesMut::with_capacity(SHARED_BYTES);
            }
            self.shared.extend_from_slice(bytes);
            self.shared.split().freeze()
        };
        Some(kept.into())
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::record::Header;

    use super::*;

    fn header(key: &'static [u8], value: Option<&'static [u8]>) -> Header {
        Header {
            key: Bytes::from_static(key),
            value: value.map(Bytes::from_static),
        }
    }

    #[test]
    fn what_is_missing_has_a_lower_level() {
        let mut rows = Rows::default();
        let with_headers = Record {
            offset: 7,
            timestamp_ms: -1,
            headers: vec![header(b"a", None), header(b"\xff", Some(b"x"))],
            ..Record::default()
        };
        rows.push(3, &with_headers);
        let with_key = Record {
            offset: 9,
            timestamp_ms: 5,
            key: Some(Bytes::new()),
            ..Record::default()
        };
        rows.push(3, &with_key);
        assert_eq!((rows.partitions, rows.offsets), (vec![3, 3], vec![7, 9]));
        assert_eq!(
            (rows.timestamps.levels, rows.timestamps.values),
            (vec![0, 1], vec![5])
        );
        assert_eq!(rows.keys.levels, [0, 1]);
        assert_eq!(rows.keys.values, [ByteArray::from(vec![])]);
        assert_eq!(rows.values.levels, [0, 0]);
        assert_eq!(rows.header_repeats, [0, 1, 0]);
        assert_eq!(rows.header_keys.levels, [1, 1, 0]);
        assert_eq!(rows.header_values.levels, [1, 2, 0]);
    }

    #[test]
    fn an_answer_is_not_held_for_a_record_of_it() {
        let answer = Bytes::from(vec![7; 8 << 20]);
        let mut rows = Rows::default();
        for length in [1_000, SHARED_BYTES / 8, SHARED_BYTES] {
            let record = Record {
                value: Some(answer.slice(..length)),
                ..Record::default()
            };
            rows.push(0, &record);
            assert_eq!(rows.values.values.last().unwrap().len(), length);
        }
        assert!(rows.held() < 1 << 20);
        assert!(answer.is_unique());
    }
}
