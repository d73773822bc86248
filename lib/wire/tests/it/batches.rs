//! Batches against fixed bytes and against the oracle.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, Record as OracleRecord, RecordBatchDecoder, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use whimbrel_wire::codec::Limits;
use whimbrel_wire::record::records;
use whimbrel_wire::{Batch, BatchBuilder, Header, ProduceRules, validate_produce};

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(5)
        .leader_epoch(3)
        .producer(1_000, 2, 40)
        .transactional(true);
    let headers = [Header {
        key: Bytes::from_static(b"h"),
        value: None,
    }];
    builder
        .add(1_700_000_000_000, Some(b"k1"), Some(b"v1"), &[])
        .unwrap();
    builder
        .add(1_700_000_000_150, None, Some(b""), &headers)
        .unwrap();
    builder.finish().unwrap()
}

#[test]
fn a_batch_has_these_bytes() {
    let expected = [
        &[0, 0, 0, 0, 0, 0, 0, 5][..], // base offset
        &[0, 0, 0, 71],                // length
        &[0, 0, 0, 3],                 // leader epoch
        &[2],                          // magic
        &CRC,
        &[0, 0x10],                              // transactional
        &[0, 0, 0, 1],                           // last offset delta
        &[0, 0, 1, 0x8B, 0xCF, 0xE5, 0x68, 0],   // base timestamp
        &[0, 0, 1, 0x8B, 0xCF, 0xE5, 0x68, 150], // max timestamp
        &[0, 0, 0, 0, 0, 0, 3, 0xE8],            // producer id
        &[0, 2],                                 // producer epoch
        &[0, 0, 0, 40],                          // base sequence
        &[0, 0, 0, 2],                           // records
        &[20, 0, 0, 0, 4, b'k', b'1', 4, b'v', b'1', 0],
        &[20, 0, 0xAC, 2, 2, 1, 0, 2, 2, b'h', 1],
    ];
    let expected = expected.concat();
    let bytes = batch();
    assert_eq!(&bytes[..], &expected[..], "{:02X?}", &bytes[17..21]);
    assert!(validate_produce(&bytes, &ProduceRules::default()).is_ok());
}

const CRC: [u8; 4] = [0x3A, 0x79, 0x6E, 0xDA];

#[test]
fn the_oracle_reads_our_batch() {
    let set = RecordBatchDecoder::decode(&mut batch()).unwrap();
    let ours = Batch::take(&mut batch()).unwrap();
    let ours: Vec<_> = records(&ours, Limits::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(set.records.len(), ours.len());
    for (index, (theirs, ours)) in set.records.iter().zip(&ours).enumerate() {
        assert_eq!(
            (theirs.offset, theirs.timestamp),
            (ours.offset, ours.timestamp_ms)
        );
        assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
        assert_eq!((theirs.producer_id, theirs.producer_epoch), (1_000, 2));
        assert_eq!(theirs.sequence, 40 + i32::try_from(index).unwrap());
        assert!(theirs.transactional && !theirs.control);
        assert_eq!(theirs.headers.len(), ours.headers.len());
    }
}

#[test]
fn we_read_and_rebuild_the_oracles_batch() {
    let record = |n: i32| OracleRecord {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 4,
        producer_id: 77,
        producer_epoch: 1,
        timestamp_type: TimestampType::Creation,
        offset: 10 + i64::from(n),
        sequence: 100 + n,
        timestamp: 1_700_000_000_000 + i64::from(n) * 37,
        key: (n % 2 == 0).then(|| Bytes::from(format!("key {n}"))),
        value: (n % 3 != 0).then(|| Bytes::from(vec![b'v'; 50])),
        headers: IndexMap::from([(
            StrBytes::from_static_str("h"),
            Some(Bytes::from_static(b"1")),
        )]),
    };
    let theirs: Vec<OracleRecord> = (0..20).map(record).collect();
    let mut encoded = BytesMut::new();
    let options = RecordEncodeOptions {
        version: 2,
        compression: Compression::None,
    };
    RecordBatchEncoder::encode(&mut encoded, &theirs, &options).unwrap();
    let encoded = encoded.freeze();

    let header = validate_produce(&encoded, &ProduceRules::default()).unwrap();
    let batch = Batch::take(&mut encoded.clone()).unwrap();
    let mut builder = BatchBuilder::new(10)
        .leader_epoch(header.partition_leader_epoch)
        .producer(77, 1, 100);
    for (record, theirs) in records(&batch, Limits::default()).unwrap().zip(&theirs) {
        let record = record.unwrap();
        assert_eq!(
            (record.offset, record.timestamp_ms),
            (theirs.offset, theirs.timestamp)
        );
        assert_eq!((&record.key, &record.value), (&theirs.key, &theirs.value));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder
            .add(record.timestamp_ms, key, value, &record.headers)
            .unwrap();
    }
    assert_eq!(builder.finish().unwrap(), encoded);
}
