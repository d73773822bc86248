//! Read back with the library's own reader; what pyarrow and DuckDB read is asked in `peers/tests/test_export.py`.

use bytes::Bytes;
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use proptest::{collection::vec, option, prelude::*};
use whimbrel_wire::record::Header;

use super::*;

fn written<'a>(records: impl IntoIterator<Item = &'a (i32, Record)>) -> Bytes {
    let mut writer = Writer::new(Vec::new(), "topic").unwrap();
    for (partition, record) in records {
        writer.push(*partition, record).unwrap();
    }
    writer.finish().unwrap().into()
}

fn bytes(field: &Field) -> Option<Bytes> {
    match field {
        Field::Bytes(bytes) => Some(Bytes::copy_from_slice(bytes.data())),
        Field::Null => None,
        other => panic!("{other}"),
    }
}

fn header(field: &Field) -> Header {
    let Field::Group(group) = field else {
        panic!("{field}")
    };
    let fields: Vec<_> = group.get_column_iter().map(|(_, field)| field).collect();
    Header {
        key: bytes(fields[0]).unwrap(),
        value: bytes(fields[1]),
    }
}

pub fn read(file: Bytes) -> Vec<(i32, Record)> {
    let reader = SerializedFileReader::new(file).unwrap();
    let record = |row: parquet::record::Row| {
        let fields: Vec<_> = row.get_column_iter().map(|(_, field)| field).collect();
        let (Field::Int(partition), Field::Long(offset), Field::ListInternal(headers)) =
            (fields[0], fields[1], fields[5])
        else {
            panic!("{row}")
        };
        let timestamp_ms = match fields[2] {
            Field::TimestampMillis(ms) => *ms,
            Field::Null => -1,
            other => panic!("{other}"),
        };
        let record = Record {
            offset: *offset,
            timestamp_ms,
            key: bytes(fields[3]),
            value: bytes(fields[4]),
            headers: headers.elements().iter().map(header).collect(),
            attributes: 0,
        };
        (*partition, record)
    };
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| record(row.unwrap())).collect()
}

prop_compose! {
    fn any_bytes()(bytes in vec(any::<u8>(), 0..40)) -> Bytes {
        bytes.into()
    }
}

prop_compose! {
    fn any_header()(key in any_bytes(), value in option::of(any_bytes())) -> Header {
        Header { key, value }
    }
}

prop_compose! {
    fn any_record()(
        offset in 0..i64::MAX,
        timestamp_ms in -1..i64::MAX,
        key in option::of(any_bytes()),
        value in option::of(any_bytes()),
        headers in vec(any_header(), 0..4),
    ) -> Record {
        Record { offset, timestamp_ms, key, value, headers, attributes: 0 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(records in vec((0..5, any_record()), 0..200)) {
        prop_assert_eq!(read(written(&records)), records);
    }
}

#[test]
fn a_file_of_nothing_says_of_what() {
    let reader = SerializedFileReader::new(written([])).unwrap();
    let about = reader.metadata().file_metadata();
    let pairs = about.key_value_metadata().unwrap();
    let topic = pairs.iter().find(|pair| pair.key == TOPIC).unwrap();
    assert_eq!(topic.value.as_deref(), Some("topic"));
    assert_eq!((about.num_rows(), reader.num_row_groups()), (0, 0));
}

#[test]
fn a_row_group_is_what_memory_holds_and_says_its_offsets() {
    let large = Bytes::from(vec![7; 1 << 20]);
    let mut writer = Writer::new(Vec::new(), "topic").unwrap();
    for offset in 0..130 {
        let record = Record {
            offset,
            value: Some(large.clone()),
            ..Record::default()
        };
        writer.push(0, &record).unwrap();
        assert!(writer.rows.held() < GROUP_BYTES);
    }
    let file = Bytes::from(writer.finish().unwrap());
    // What repeats is small.
    assert!(file.len() < 1 << 20);
    let reader = SerializedFileReader::new(file).unwrap();
    let groups = reader.metadata().row_groups();
    let rows: Vec<_> = groups.iter().map(|group| group.num_rows()).collect();
    assert_eq!(rows, [64, 64, 2]);
    let last = groups[1].column(1).statistics().unwrap();
    let bound = |bytes: Option<&[u8]>| i64::from_le_bytes(bytes.unwrap().try_into().unwrap());
    let (low, high) = (bound(last.min_bytes_opt()), bound(last.max_bytes_opt()));
    assert_eq!((low, high), (64, 127));
}
