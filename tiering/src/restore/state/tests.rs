use bytes::Bytes;
use whimbrel_wire::{
    BatchBuilder, Batches,
    control::{Marker, MarkerBatch},
    internal::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, PartitionsSchema},
};

use super::*;

const END: i64 = i64::MAX;

fn batch(bytes: Bytes) -> Batch {
    Batches::new(bytes).next().unwrap().unwrap()
}

/// One position; of a transaction of that producer, if one is named.
fn position(base: i64, group: &str, offset: Option<i64>, producer: Option<i64>) -> Batch {
    let mut builder = BatchBuilder::new(base);
    if let Some(id) = producer {
        builder = builder.producer(id, 0, 0).transactional(true);
    }
    let key = OffsetCommitKey {
        group: group.into(),
        topic: "t".into(),
        partition: 0,
    };
    let value = offset.map(|offset| {
        let value = OffsetCommitValue {
            offset,
            ..OffsetCommitValue::default()
        };
        value.to_record()
    });
    builder
        .add(0, Some(&key.to_record()), value.as_deref(), &[])
        .unwrap();
    batch(builder.finish().unwrap())
}

fn marker(base_offset: i64, producer_id: i64, control_type: ControlType) -> Batch {
    let marker = MarkerBatch {
        base_offset,
        leader_epoch: 0,
        timestamp_ms: 0,
        producer_id,
        producer_epoch: 0,
        marker: Marker {
            control_type,
            coordinator_epoch: 0,
        },
    };
    batch(marker.build().unwrap())
}

fn state(base: i64, id: &str, producer_id: i64, status: i8) -> Batch {
    let key = TransactionLogKey {
        transactional_id: id.into(),
    };
    let value = TransactionLogValue {
        producer_id,
        transaction_status: status,
        transaction_partitions: Some(vec![PartitionsSchema {
            topic: "t".into(),
            partition_ids: vec![0, 1],
        }]),
        ..TransactionLogValue::default()
    };
    let mut builder = BatchBuilder::new(base);
    builder
        .add(0, Some(&key.to_record()), Some(&value.to_record()), &[])
        .unwrap();
    batch(builder.finish().unwrap())
}

fn found(positions: &Positions) -> Vec<(&str, i64)> {
    positions
        .all()
        .map(|(group, _, _, at)| (group, at))
        .collect()
}

#[test]
fn positions_of_a_transaction_count_when_it_is_committed() {
    let mut positions = Positions::default();
    for batch in [
        position(0, "plain", Some(1), None),
        position(1, "a", Some(2), Some(7)),
        position(2, "b", Some(3), Some(8)),
        marker(3, 7, ControlType::Commit),
        marker(4, 8, ControlType::Abort),
        position(5, "gone", Some(9), None),
        position(6, "gone", None, None),
    ] {
        positions.take(&batch, END).unwrap();
    }
    positions.finish(&Transactions::default());
    assert_eq!(found(&positions), [("a", 2), ("plain", 1)]);
    assert_eq!(positions.groups(), ["a", "plain"].into());
}

#[test]
fn what_is_open_at_the_cut_counts_if_it_was_decided_to_commit() {
    let mut transactions = Transactions::default();
    for (n, (id, producer, status)) in (0_i64..).zip([
        ("ongoing", 1, ONGOING),
        ("commits", 2, PREPARE_COMMIT),
        ("aborts", 3, PREPARE_ABORT),
        ("done", 4, ONGOING),
        ("done", 4, 4),
    ]) {
        let batch = state(n, id, producer, status);
        transactions.take(&batch, END).unwrap();
    }
    let open: Vec<_> = transactions.open().collect();
    let ids: Vec<_> = open
        .iter()
        .map(|o| (&*o.transactional_id, o.commits))
        .collect();
    assert_eq!(
        ids,
        [("aborts", false), ("commits", true), ("ongoing", false)]
    );
    assert_eq!((open[0].partitions, transactions.ids()), (2, 4));
    assert_eq!(transactions.highest_producer_id, Some(4));
    let mut positions = Positions::default();
    for producer in 1..4 {
        let sent = position(
            producer,
            &format!("g{producer}"),
            Some(producer),
            Some(producer),
        );
        positions.take(&sent, END).unwrap();
    }
    positions.finish(&transactions);
    assert_eq!(found(&positions), [("g2", 2)]);
}

#[test]
fn what_lies_above_the_cut_is_not_looked_at() {
    let mut positions = Positions::default();
    positions
        .take(&position(0, "a", Some(1), Some(7)), 2)
        .unwrap();
    positions.take(&position(1, "a", Some(2), None), 2).unwrap();
    positions.take(&position(2, "a", Some(3), None), 2).unwrap();
    positions
        .take(&marker(3, 7, ControlType::Commit), 2)
        .unwrap();
    positions.finish(&Transactions::default());
    assert_eq!(found(&positions), [("a", 2)]);
    let mut transactions = Transactions::default();
    transactions.take(&state(0, "x", 1, 4), 1).unwrap();
    transactions.take(&state(1, "x", 1, ONGOING), 1).unwrap();
    assert_eq!(transactions.open().count(), 0);
}

#[test]
fn a_group_without_a_position_is_a_group_and_strange_records_are_refused() {
    let mut builder = BatchBuilder::new(0);
    let key = GroupMetadataKey { group: "g".into() };
    let value = GroupMetadataValue::default().to_record();
    builder
        .add(0, Some(&key.to_record()), Some(&value), &[])
        .unwrap();
    builder.add(0, None, Some(b"no key"), &[]).unwrap();
    let mut positions = Positions::default();
    positions
        .take(&batch(builder.finish().unwrap()), END)
        .unwrap();
    assert_eq!(positions.groups(), ["g"].into());
    let mut builder = BatchBuilder::new(5);
    builder.add(0, Some(&[0, 1, 9]), Some(b""), &[]).unwrap();
    let strange = batch(builder.finish().unwrap());
    let refused = positions.take(&strange, END).unwrap_err();
    assert!(
        matches!(refused, StateError::Record { offset: 5, .. }),
        "{refused}"
    );
    assert!(Transactions::default().take(&strange, END).is_err());
}
