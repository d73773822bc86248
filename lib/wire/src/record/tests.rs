use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::batch::BatchBuilder;
use crate::codec::Codec;

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn any_header() -> impl Strategy<Value = Header> {
    (bytes(), prop::option::of(bytes())).prop_map(|(key, value)| Header { key, value })
}

fn any_records() -> impl Strategy<Value = Vec<Record>> {
    let one = (
        1..5i64,
        0..1_000_000i64,
        prop::option::of(bytes()),
        prop::option::of(bytes()),
        { prop::collection::vec(any_header(), 0..4) },
    );
    prop::collection::vec(one, 1..30).prop_map(|parts| {
        let mut offset = 99;
        let mut records = Vec::new();
        for (gap, timestamp_ms, key, value, headers) in parts {
            offset += gap;
            records.push(Record {
                offset,
                timestamp_ms,
                key,
                value,
                headers,
                attributes: 0,
            });
        }
        records
    })
}

fn read(batch: &Batch) -> Result<Vec<Record>, RecordError> {
    records(batch, Limits::default())?.collect()
}

proptest! {
    #[test]
    fn records_come_back_from_every_codec(expected in any_records()) {
        for &codec in Codec::ALL {
            let mut builder = BatchBuilder::new(100).codec(codec);
            for r in &expected {
                builder.add_at(r.offset, r.timestamp_ms, r.key.as_deref(), r.value.as_deref(), &r.headers).unwrap();
            }
            let batch = Batch::take(&mut builder.finish().unwrap()).unwrap();
            batch.verify_crc().unwrap();
            prop_assert_eq!(batch.header.last_offset(), expected[expected.len() - 1].offset);
            prop_assert_eq!(read(&batch).unwrap(), expected.clone());
        }
    }

    #[test]
    fn damaged_records_never_panic(expected in any_records(), at: prop::sample::Index, byte: u8) {
        let mut builder = BatchBuilder::new(100);
        for r in &expected {
            builder.add_at(r.offset, r.timestamp_ms, r.key.as_deref(), r.value.as_deref(), &r.headers).unwrap();
        }
        let mut bytes = BytesMut::from(&builder.finish().unwrap()[..]);
        let body = crate::batch::HEADER_LEN;
        let at = body + at.index(bytes.len() - body);
        bytes[at] = byte;
        let batch = Batch::take(&mut bytes.freeze()).unwrap();
        let _ = read(&batch);
    }
}

/// A batch of one record whose bytes after the length are `body`.
fn with_record(body: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(0);
    builder.add(0, None, None, &[]).unwrap();
    let mut bytes = BytesMut::from(&builder.finish().unwrap()[..crate::batch::HEADER_LEN]);
    varint::put(&mut bytes, i32::try_from(body.len()).unwrap());
    bytes.extend_from_slice(body);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    Batch::take(&mut bytes.freeze()).unwrap()
}

#[test]
fn hostile_records_are_invalid() {
    let null = 1; // zig-zag -1
    // Attributes, timestamp delta, offset delta, key length, value length, header count.
    for body in [
        vec![],
        vec![0, 0, 0, null, null],       // no header count
        vec![0, 0, 0, null, null, 0, 0], // one byte too many
        vec![0, 0, 0, null, null, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F], // 2^31-1 headers
        vec![0, 0, 0, null, null, 3],    // -2 headers
        vec![0, 0, 0, 3, null, 0],       // key length -2
        vec![0, 0, 0, 0xFE, 0xFF, 0xFF, 0xFF, 0x0F, null, 0], // key past the end
        vec![0, 0, 0, null, 20, 0],      // value past the end
        vec![0, 0, 2, null, null, 0],    // offset past the last
        vec![0, 0, 1, null, null, 0],    // offset below the first
        vec![0, 0, 0, null, null, 2, null, null], // null header key
        vec![0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, null, null, 0], // varint overflow
    ] {
        let error = read(&with_record(&body)).unwrap_err();
        assert_eq!(error.error_code(), ErrorCode::INVALID_RECORD, "{body:?}");
    }
    assert_eq!(
        read(&with_record(&[0, 0, 0, null, null, 0])).unwrap().len(),
        1
    );
}

#[test]
fn an_overflowing_timestamp_is_named_as_such() {
    let mut body = vec![0];
    varint::put_long(&mut body, i64::MAX);
    body.extend_from_slice(&[0, 1, 1, 0]);
    let mut batch = with_record(&body);
    batch.header.base_timestamp = 1;
    let error = read(&batch).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn more_records_than_counted_are_an_error() {
    let mut builder = BatchBuilder::new(0);
    builder.add(0, None, None, &[]).unwrap();
    builder.add(0, None, None, &[]).unwrap();
    let mut batch = Batch::take(&mut builder.finish().unwrap()).unwrap();
    batch.header.records_count = 1;
    assert!(read(&batch).is_err());
    batch.header.records_count = 3;
    assert!(read(&batch).is_err());
}

#[test]
fn header_keys_are_bytes_and_may_repeat() {
    let headers = vec![
        Header {
            key: Bytes::from_static(b"\xFF\xFE"),
            value: None,
        },
        Header {
            key: Bytes::from_static(b"a"),
            value: Some(Bytes::from_static(b"1")),
        },
        Header {
            key: Bytes::from_static(b"a"),
            value: Some(Bytes::from_static(b"2")),
        },
    ];
    let mut builder = BatchBuilder::new(0);
    builder.add(0, None, None, &headers).unwrap();
    let batch = Batch::take(&mut builder.finish().unwrap()).unwrap();
    assert_eq!(read(&batch).unwrap()[0].headers, headers);
}

#[test]
fn log_append_time_is_the_time_of_all_records() {
    let mut builder = BatchBuilder::new(0).log_append_time(50);
    builder.add(3, None, None, &[]).unwrap();
    builder.add(9, None, None, &[]).unwrap();
    let batch = Batch::take(&mut builder.finish().unwrap()).unwrap();
    assert!(
        read(&batch)
            .unwrap()
            .iter()
            .all(|record| record.timestamp_ms == 50)
    );
}

#[test]
fn a_rewritten_batch_keeps_offsets_and_flags() {
    let mut builder = BatchBuilder::new(10)
        .producer(5, 1, 7)
        .transactional(true)
        .codec(Codec::Zstd);
    for n in 0..4 {
        builder.add(1_000 + n, Some(b"k"), None, &[]).unwrap();
    }
    let original = Batch::take(&mut builder.finish().unwrap()).unwrap();
    let kept = read(&original).unwrap().remove(2);
    let mut builder = BatchBuilder::rewriting(&original.header).unwrap();
    builder
        .add_at(
            kept.offset,
            kept.timestamp_ms,
            kept.key.as_deref(),
            None,
            &[],
        )
        .unwrap();
    let rewritten = Batch::take(&mut builder.finish().unwrap()).unwrap();
    rewritten.verify_crc().unwrap();
    assert_eq!(read(&rewritten).unwrap(), vec![kept]);
    assert_eq!(rewritten.header.last_offset(), 13);
    assert_eq!(
        rewritten.header.last_sequence(),
        original.header.last_sequence()
    );
    assert_eq!(rewritten.header.codec(), Ok(Codec::Zstd));
    assert!(rewritten.header.is_transactional());
}
