use bytes::BytesMut;

use super::*;
use crate::codec::Codec;
use crate::error_code::ErrorCode;

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(0).leader_epoch(5);
    for n in 0..3u8 {
        builder
            .add(
                1_700_000_000_000 + i64::from(n),
                Some(&[n]),
                Some(b"value"),
                &[],
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Changes the batch and makes its CRC right again.
fn changed(change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = BytesMut::from(&batch()[..]);
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[header::CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.freeze()
}

fn refusal(bytes: &[u8]) -> ErrorCode {
    validate_produce(bytes, &ProduceRules::default())
        .unwrap_err()
        .error_code()
}

#[test]
fn a_good_batch_passes() {
    let bytes = batch();
    let header = validate_produce(&bytes, &ProduceRules::default()).unwrap();
    assert_eq!(header.size(), bytes.len());
    assert_eq!(
        (
            header.base_offset,
            header.last_offset(),
            header.records_count
        ),
        (0, 2, 3)
    );
    assert_eq!(
        (header.base_timestamp, header.max_timestamp),
        (1_700_000_000_000, 1_700_000_000_002)
    );
    assert_eq!(header.partition_leader_epoch, 5);
    assert_eq!(header.codec(), Ok(Codec::None));
    assert_eq!(&header.to_bytes()[..], &bytes[..HEADER_LEN]);
}

#[test]
fn every_flipped_bit_under_the_crc_is_found() {
    let bytes = batch();
    for at in 21..bytes.len() {
        let mut bad = bytes.to_vec();
        bad[at] ^= 0x10;
        let header = BatchHeader::parse(&bad);
        assert!(
            header.is_err() || header.unwrap().verify_crc(&bad).is_err(),
            "byte {at}"
        );
    }
}

#[test]
fn truncation_at_every_byte_is_corrupt() {
    let bytes = batch();
    for len in 1..bytes.len() {
        assert_eq!(
            refusal(&bytes[..len]),
            ErrorCode::CORRUPT_MESSAGE,
            "{len} bytes"
        );
    }
    assert_eq!(refusal(&[]), ErrorCode::INVALID_RECORD);
}

#[test]
fn hostile_lengths_are_corrupt() {
    for length in [-1, 0, 48, i32::MAX, i32::MIN] {
        let bytes = changed(|b| b[8..12].copy_from_slice(&i32::to_be_bytes(length)));
        assert_eq!(refusal(&bytes), ErrorCode::CORRUPT_MESSAGE, "{length}");
    }
}

#[test]
fn two_batches_in_one_partition_are_refused() {
    let twice = [batch(), batch()].concat();
    assert_eq!(refusal(&twice), ErrorCode::INVALID_RECORD);
    assert_eq!(
        Batches::new(Bytes::from(twice))
            .filter_map(Result::ok)
            .count(),
        2
    );
}

#[test]
fn a_wrong_crc_is_corrupt() {
    let mut bytes = batch().to_vec();
    bytes[17] ^= 1;
    assert_eq!(refusal(&bytes), ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn other_formats_are_refused() {
    for magic in [0, 1, 3, 255] {
        assert_eq!(
            refusal(&changed(|b| b[16] = magic)),
            ErrorCode::INVALID_RECORD
        );
    }
}

#[test]
fn counts_must_match_offsets() {
    for (count, delta) in [
        (0, 0),
        (-1, 2),
        (3, 3),
        (4, 2),
        (i32::MAX, i32::MAX),
        (3, -1),
        (i32::MIN, i32::MIN),
    ] {
        let bytes = changed(|b| {
            b[23..27].copy_from_slice(&i32::to_be_bytes(delta));
            b[57..61].copy_from_slice(&i32::to_be_bytes(count));
        });
        assert_eq!(
            refusal(&bytes),
            ErrorCode::INVALID_RECORD,
            "{count} {delta}"
        );
    }
}

#[test]
fn a_client_may_not_set_a_brokers_attributes() {
    for (bits, code) in [
        (0x20, ErrorCode::INVALID_RECORD),
        (0x40, ErrorCode::INVALID_RECORD),
        (0x08, ErrorCode::INVALID_TIMESTAMP),
        (5, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (7, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
    ] {
        assert_eq!(refusal(&changed(|b| b[22] |= bits)), code, "{bits:#x}");
    }
}

#[test]
fn zstd_needs_produce_seven() {
    let bytes = changed(|b| b[22] |= 4);
    let rules = ProduceRules {
        zstd_allowed: false,
        ..ProduceRules::default()
    };
    let error = validate_produce(&bytes, &rules).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert!(validate_produce(&bytes, &ProduceRules::default()).is_ok());
}

#[test]
fn producer_fields_go_together() {
    let with = |id: i64, epoch: i16, sequence: i32, transactional: bool| {
        changed(|b| {
            b[43..51].copy_from_slice(&id.to_be_bytes());
            b[51..53].copy_from_slice(&epoch.to_be_bytes());
            b[53..57].copy_from_slice(&sequence.to_be_bytes());
            b[22] |= if transactional { 0x10 } else { 0 };
        })
    };
    for bytes in [
        with(7, 0, -1, false),
        with(7, -1, 0, false),
        with(-2, 0, 0, false),
        with(-1, -1, -1, true),
    ] {
        assert_eq!(refusal(&bytes), ErrorCode::INVALID_RECORD);
    }
    // The last is what KafkaJS sends without idempotence.
    for bytes in [
        with(7, 0, 0, true),
        with(7, 3, i32::MAX, false),
        with(-1, 0, 0, false),
    ] {
        assert!(validate_produce(&bytes, &ProduceRules::default()).is_ok());
    }
    let header = BatchHeader::parse(&with(7, 3, i32::MAX, false)).unwrap();
    assert_eq!(header.last_sequence(), 1);
}

#[test]
fn extreme_timestamps_are_refused() {
    for at in [27, 35] {
        for timestamp in [i64::MIN, i64::MAX, -2] {
            let bytes = changed(|b| b[at..at + 8].copy_from_slice(&timestamp.to_be_bytes()));
            assert_eq!(refusal(&bytes), ErrorCode::INVALID_TIMESTAMP);
        }
    }
    let none = changed(|b| b[27..43].copy_from_slice(&[0xFF; 16]));
    assert!(validate_produce(&none, &ProduceRules::default()).is_ok());
}

#[test]
fn offsets_at_the_end_of_the_range_are_refused() {
    let bytes = changed(|b| b[..8].copy_from_slice(&(i64::MAX - 2).to_be_bytes()));
    assert_eq!(refusal(&bytes), ErrorCode::INVALID_RECORD);
    let bytes = changed(|b| b[..8].copy_from_slice(&(-1i64).to_be_bytes()));
    assert_eq!(refusal(&bytes), ErrorCode::INVALID_RECORD);
}

#[test]
fn too_large_a_batch_is_refused() {
    let rules = ProduceRules {
        max_message_bytes: batch().len() - 1,
        ..ProduceRules::default()
    };
    let error = validate_produce(&batch(), &rules).unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn offset_and_epoch_lie_outside_the_crc() {
    let mut bytes = batch().to_vec();
    patch_base_offset_and_epoch(&mut bytes, 1_000, 42).unwrap();
    let patched = Batch::take(&mut Bytes::from(bytes)).unwrap();
    patched.verify_crc().unwrap();
    assert_eq!(
        (
            patched.header.base_offset,
            patched.header.partition_leader_epoch
        ),
        (1_000, 42)
    );
    assert!(patch_base_offset_and_epoch(&mut [0; 15], 1, 1).is_err());
}

#[test]
fn log_append_time_keeps_the_crc_right() {
    let mut bytes = batch().to_vec();
    set_log_append_time(&mut bytes, 77).unwrap();
    let patched = Batch::take(&mut Bytes::from(bytes)).unwrap();
    patched.verify_crc().unwrap();
    assert!(patched.header.is_log_append_time());
    assert_eq!(patched.header.max_timestamp, 77);
    let cut = batch().len() - 1;
    assert!(set_log_append_time(&mut batch().to_vec()[..cut], 77).is_err());
}

#[test]
fn a_cut_off_last_batch_ends_the_iteration() {
    let mut bytes = batch().to_vec();
    bytes.extend_from_slice(&batch()[..70]);
    let mut batches = Batches::new(Bytes::from(bytes));
    assert!(batches.next().unwrap().is_ok());
    assert!(matches!(
        batches.next(),
        Some(Err(BatchError::Truncated { .. }))
    ));
    assert!(batches.next().is_none());
}
