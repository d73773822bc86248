//! Append, read, roll, time, replicas, producers.

use std::fs;

use bytes::Bytes;
use whimbrel_log::{AppendContext, AppendError, LogConfig, ReadError, TimestampType};
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};
use whimbrel_wire::{Batch, BatchBuilder, ErrorCode};

use crate::support::{Fixture, append, bases, batch, fill, produced, read_all};

#[test]
fn appended_batches_come_back_with_offsets_and_epoch() {
    let f = Fixture::new();
    f.log.begin_epoch(3).unwrap();
    let one = f.append(0, 3);
    let two = f.append(1, 2);
    assert_eq!(
        (one.base_offset, one.last_offset, one.duplicate),
        (0, 2, false)
    );
    assert_eq!(
        (two.base_offset, two.last_offset, two.append_time_ms),
        (3, 4, -1)
    );
    let mut bytes = Bytes::from(read_all(&f.log, 0));
    for (base, sent) in [(0, batch(0, 3)), (3, batch(1, 2))] {
        let read = Batch::take(&mut bytes).unwrap();
        read.verify_crc().unwrap();
        assert_eq!(
            (read.header.base_offset, read.header.partition_leader_epoch),
            (base, 3)
        );
        assert_eq!(read.bytes[16..], sent[16..]);
    }
    assert!(bytes.is_empty());
    assert_eq!(
        f.log.bytes_appended(),
        f.log.segments().iter().map(|s| s.bytes).sum::<u64>()
    );
}

#[test]
fn only_a_sync_moves_the_durable_end() {
    let f = Fixture::new();
    f.append(0, 3);
    assert_eq!(
        (f.log.offsets().durable_end, f.log.offsets().log_end),
        (0, 3)
    );
    assert!(f.disk.dirty());
    f.sync();
    assert!(!f.disk.dirty());
    assert_eq!(
        (f.log.offsets().durable_end, f.log.durable_bytes()),
        (3, f.log.bytes_appended())
    );
    // One file and no new names: the fdatasync path; then a roll in between.
    f.append(1, 3);
    assert_eq!(f.disk.sync().unwrap().files, 1);
    f.append(2, 3);
    f.log.roll().unwrap();
    f.append(3, 3);
    f.sync();
    assert_eq!(f.log.offsets().durable_end, 12);
}

#[test]
fn every_offset_is_found_in_every_segment_within_the_bounds_asked_for() {
    let f = Fixture::new();
    for n in 0..60 {
        f.append(n, 3);
    }
    assert!(f.log.segments().len() > 3);
    let size = batch(0, 3).len();
    for offset in 0..180 {
        let slice = f.log.read(offset, 1, true, 180).unwrap();
        assert_eq!(
            (slice.records.len(), slice.next_offset),
            (size, offset / 3 * 3 + 3)
        );
        let none = f.log.read(offset, size - 1, false, 180).unwrap();
        assert_eq!((none.records.len(), none.next_offset), (0, offset));
        let upto = f
            .log
            .read(offset, 1 << 20, true, offset / 3 * 3 + 3)
            .unwrap();
        assert_eq!(upto.next_offset, offset / 3 * 3 + 3);
        let straddling = f
            .log
            .read(offset, 1 << 20, true, offset / 3 * 3 + 2)
            .unwrap();
        assert!(straddling.records.is_empty());
    }
    assert_eq!(bases(&f.log, 0), (0..60).map(|n| n * 3).collect::<Vec<_>>());
    assert!(f.log.read(180, 100, true, 180).unwrap().records.is_empty());
    assert!(matches!(
        f.log.read(181, 100, true, 200),
        Err(ReadError::OutOfRange { .. })
    ));
    assert!(matches!(
        f.log.read(-1, 100, true, 200),
        Err(ReadError::OutOfRange { .. })
    ));
}

#[test]
fn segments_stay_within_their_size_and_age() {
    let f = Fixture::with(LogConfig {
        segment_ms: 10_000,
        ..crate::support::small_segments()
    });
    for n in 0..40 {
        f.append(n / 2, 3);
    }
    let segments = f.log.segments();
    assert!(segments.iter().all(|s| s.bytes <= 4096));
    assert!(segments.iter().filter(|s| s.closed).count() == segments.len() - 1);
    assert!(
        segments
            .windows(2)
            .all(|w| w[0].end_offset == w[1].base_offset)
    );
    // Ten seconds of record time fit in one segment, no more.
    assert!(
        segments
            .iter()
            .all(|s| s.max_timestamp_ms - 1000 * (s.base_offset / 6) <= 11_000)
    );
}

#[test]
fn refused_batches_change_nothing() {
    let f = Fixture::with(LogConfig {
        max_message_bytes: 300,
        ..LogConfig::default()
    });
    f.append(0, 1);
    let context = AppendContext::new(0, 5);
    let code = |bytes: Bytes, context| f.log.append(bytes, context).unwrap_err().error_code();
    assert_eq!(code(batch(0, 3), context), ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(code(Bytes::new(), context), ErrorCode::INVALID_RECORD);
    assert_eq!(
        code(batch(0, 1).slice(..80), context),
        ErrorCode::CORRUPT_MESSAGE
    );
    assert_eq!(
        code(batch(0, 1), AppendContext::new(-1, 5)),
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
    f.append(1, 1);
    assert_eq!(bases(&f.log, 0), [0, 1]);
}

#[test]
fn log_append_time_replaces_the_producers() {
    let config = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    let f = Fixture::with(config);
    let appended = f
        .log
        .append(batch(1, 2), AppendContext::new(0, 777))
        .unwrap();
    assert_eq!(appended.append_time_ms, 777);
    let read = Batch::take(&mut Bytes::from(read_all(&f.log, 0))).unwrap();
    read.verify_crc().unwrap();
    assert!(read.header.is_log_append_time());
    assert_eq!(read.header.max_timestamp, 777);
    assert_eq!(
        f.log
            .offset_for_timestamp(700)
            .unwrap()
            .unwrap()
            .timestamp_ms,
        777
    );
}

#[test]
fn records_are_found_by_time() {
    let f = Fixture::new();
    assert_eq!(f.log.max_timestamp().unwrap(), None);
    for n in 0..60 {
        f.append(n, 3);
    }
    for (asked, offset, at) in [
        (0, 0, 0),
        (1, 1, 1),
        (3, 3, 1000),
        (30_001, 91, 30_001),
        (59_002, 179, 59_002),
    ] {
        let found = f.log.offset_for_timestamp(asked).unwrap().unwrap();
        assert_eq!(
            (found.offset, found.timestamp_ms, found.leader_epoch),
            (offset, at, 0)
        );
    }
    assert_eq!(f.log.offset_for_timestamp(59_003).unwrap(), None);
    assert_eq!(f.log.max_timestamp().unwrap().unwrap().offset, 179);
    f.sync();
    f.log.set_log_start(2).unwrap();
    assert_eq!(f.log.offset_for_timestamp(0).unwrap().unwrap().offset, 2);
}

#[test]
fn append_times_are_never_later_than_the_truth() {
    let f = Fixture::new();
    for n in 0..50 {
        f.log
            .append(batch(n, 3), AppendContext::new(0, 10_000 + 40 * n))
            .unwrap();
    }
    let check = |log: &whimbrel_log::Log| {
        for offset in 0..150 {
            let truth = 10_000 + 40 * (offset / 3);
            let said = log.append_time_of(offset).unwrap();
            assert!(
                (truth - 2000..=truth).contains(&said),
                "{offset}: {said}, {truth}"
            );
        }
    };
    check(&f.log);
    f.sync();
    let (_disk, crashed) = f.crash().open();
    crashed.append_time_of(149);
    let f = f.reopen();
    check(&f.log);
    assert_eq!(f.log.append_time_of(150), None);
}

#[test]
fn a_replica_keeps_bytes_offsets_and_epochs_and_refuses_what_does_not_continue() {
    let leader = Fixture::new();
    for n in 0..10 {
        if n % 3 == 0 {
            leader.log.begin_epoch(n as i32).unwrap();
        }
        leader.append(n, 3);
    }
    let bytes = Bytes::from(read_all(&leader.log, 0));
    let follower = Fixture::new();
    follower.log.append_replica(bytes.clone(), 5).unwrap();
    assert_eq!(read_all(&follower.log, 0), bytes);
    assert_eq!(follower.log.lineage(), leader.log.lineage());
    assert!(follower.log.segments().iter().all(|s| s.bytes <= 4096));
    let again = follower.log.append_replica(bytes.clone(), 5).unwrap_err();
    assert!(matches!(
        again,
        AppendError::NotContinuing {
            log_end: 30,
            found: 0
        }
    ));
    let mut flipped = bytes.to_vec();
    flipped[100] ^= 1;
    let fresh = Fixture::new();
    let error = fresh
        .log
        .append_replica(Bytes::from(flipped), 5)
        .unwrap_err();
    assert_eq!(error.error_code(), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(fresh.log.offsets().log_end, 0);
    let old = fill(BatchBuilder::new(40).leader_epoch(2), 0, 1);
    let stale = follower.log.append_replica(old, 5).unwrap_err();
    assert!(matches!(
        stale,
        AppendError::StaleLeaderEpoch {
            current: 9,
            found: 2
        }
    ));
    let gap = fill(BatchBuilder::new(40).leader_epoch(9), 0, 1);
    follower.log.append_replica(gap, 5).unwrap();
    assert_eq!(
        follower.log.read(33, 10, true, 100).unwrap().next_offset,
        41
    );
}

#[test]
fn retries_are_duplicates_also_after_restart_and_crash() {
    let f = Fixture::new();
    let at: Vec<_> = (0..40)
        .map(|n| append(&f.log, produced(9, 0, n * 2, 2)).base_offset)
        .collect();
    let check = |log: &whimbrel_log::Log| {
        for n in 35..40 {
            let again = append(log, produced(9, 0, n * 2, 2));
            assert_eq!(
                (again.duplicate, again.base_offset, again.bytes),
                (true, at[n as usize], 0)
            );
        }
        assert_eq!(log.producer(9).unwrap().batches.len(), 5);
    };
    check(&f.log);
    f.log.roll().unwrap();
    f.sync();
    let crashed = f.crash();
    check(&crashed.open().1);
    fs::remove_file(crashed.file(80, "recent")).unwrap();
    fs::remove_file(crashed.file(80, "snapshot")).unwrap();
    check(&crashed.open().1);
    check(&f.reopen().log);
}

#[test]
fn aborted_transactions_are_listed_after_restart_and_crash() {
    let f = Fixture::new();
    let transactional = |sequence| {
        fill(
            BatchBuilder::new(0)
                .producer(5, 0, sequence)
                .transactional(true),
            1,
            1,
        )
    };
    let marker = |control_type| {
        let marker = Marker {
            control_type,
            coordinator_epoch: 0,
        };
        MarkerBatch {
            base_offset: 0,
            leader_epoch: 0,
            timestamp_ms: 1,
            producer_id: 5,
            producer_epoch: 0,
            marker,
        }
        .build()
        .unwrap()
    };
    append(&f.log, transactional(0));
    assert_eq!(f.log.first_unstable_offset(), Some(0));
    append(&f.log, marker(ControlType::Commit));
    append(&f.log, transactional(1));
    append(&f.log, marker(ControlType::Abort));
    append(&f.log, transactional(2));
    f.log.set_high_watermark(5);
    assert_eq!(f.log.first_unstable_offset(), Some(4));
    let check = |log: &whimbrel_log::Log| {
        let aborted = log.aborted(0, 5).unwrap();
        assert_eq!(aborted.len(), 1);
        assert_eq!((aborted[0].first_offset, aborted[0].last_offset), (2, 3));
        assert!(log.aborted(4, 5).unwrap().is_empty());
        assert_eq!(log.producer(5).unwrap().current_txn_first_offset, Some(4));
    };
    check(&f.log);
    f.sync();
    let crashed = f.crash();
    fs::remove_file(crashed.file(0, "txnindex")).unwrap();
    check(&crashed.open().1);
    check(&f.reopen().log);
}

#[test]
fn a_replica_takes_batches_that_lie_further_apart_than_an_index_can_say() {
    let f = Fixture::new();
    let at = [0, 5_000_000_000, 5_000_000_001, 12_000_000_000_i64];
    let mut bytes = Vec::new();
    for base in at {
        bytes.extend(fill(BatchBuilder::new(base).leader_epoch(1), 1, 1));
    }
    f.log.append_replica(Bytes::from(bytes), 1).unwrap();
    f.sync();
    let check = |log: &whimbrel_log::Log| {
        assert_eq!(bases(log, 0), at);
        for (asked, next) in [(1, at[1] + 1), (at[2], at[2] + 1), (at[2] + 1, at[3] + 1)] {
            assert_eq!(
                log.read(asked, 1, true, i64::MAX).unwrap().next_offset,
                next
            );
        }
    };
    check(&f.log);
    check(&f.crash().open().1);
    check(&f.reopen().log);
}

#[test]
fn a_jump_behind_a_lossy_move_is_refused_once_also_over_a_restart() {
    let f = Fixture::new();
    append(&f.log, produced(8, 0, 0, 5));
    let context = AppendContext {
        leader_epoch: 2,
        now_ms: 9,
        lossy_promotion: Some(5),
    };
    f.log.begin_epoch(2).unwrap();
    let send = |log: &whimbrel_log::Log, sequence| log.append(produced(8, 0, sequence, 5), context);
    let refused = send(&f.log, 50).unwrap_err();
    assert_eq!(
        (refused.error_code(), refused.is_retryable()),
        (ErrorCode::NOT_ENOUGH_REPLICAS, true)
    );
    assert!(send(&f.log, 55).is_err());
    let f = f.reopen();
    assert_eq!(
        send(&f.log, 50).unwrap_err().error_code(),
        ErrorCode::NOT_ENOUGH_REPLICAS
    );
    assert_eq!(send(&f.log, 50).unwrap().base_offset, 5);
    assert!(send(&f.log, 0).unwrap().duplicate);
    let f = f.reopen();
    assert_eq!(
        send(&f.log, 100).unwrap_err().error_code(),
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
    );
    assert_eq!(send(&f.log, 55).unwrap().base_offset, 10);
}
