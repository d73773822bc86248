use proptest::prelude::*;
use whimbrel_fleet::EpochStart;

use super::*;
use crate::root::{Hold, Merged};

fn at() -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(7), 3)
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn entry(base: i64, records: u32) -> Entry {
    let end = base + i64::from(records);
    Entry {
        base,
        end,
        object_end: end,
        leader_epoch: 1,
        writer_epoch: 9,
        random: 5,
        object_bytes: 900,
        data_bytes: 800,
        records: u64::from(records),
        first_timestamp_ms: -1,
        max_timestamp_ms: 8,
        crc64: 77,
        created_ms: 3,
        aborted: true,
        merged: records.is_multiple_of(2).then_some(Merged {
            position: 10,
            object_data_bytes: 850,
        }),
    }
}

fn commit(base: i64, records: u32) -> Commit {
    Commit {
        at: at(),
        topic: "orders".to_owned(),
        group: "default".to_owned(),
        region_epoch: 4,
        log_start: 2,
        lineage: vec![EpochStart {
            epoch: 1,
            start_offset: base,
        }],
        entry: entry(base, records),
    }
}

fn edits() -> impl Strategy<Value = Edit> {
    let keys = || Just(vec![key("v1/east/data/a"), key("v1/east/data/b")]);
    prop_oneof![
        (0..1_000_000_i64, 1..9_000_u32)
            .prop_map(|(base, records)| Edit::Commit(Box::new(commit(base, records)))),
        (any::<i32>(), any::<i64>(), any::<i32>()).prop_map(|(epoch, offset, tail)| {
            Edit::Truncate {
                at: at(),
                epoch,
                offset,
                tail,
            }
        }),
        any::<(i64, u32, i32)>().prop_map(|(log_start, region_epoch, leader_epoch)| {
            Edit::RaiseLogStart {
                at: at(),
                said: Standing {
                    log_start,
                    region_epoch,
                    leader_epoch,
                },
            }
        }),
        (0..1_000_i64).prop_map(|base| Edit::Replace {
            at: at(),
            old: Box::new(entry(base, 5)),
            new: Box::new(entry(base, 7)),
        }),
        prop::collection::vec((0..1_000_i64, 1..9_u32), 0..5).prop_map(|all| Edit::Rewrite {
            at: at(),
            old: all
                .iter()
                .map(|(base, records)| entry(*base, *records))
                .collect(),
            new: vec![entry(3, 5)],
        }),
        prop::collection::vec((0..1_000_i64, 1..9_u32), 0..5).prop_map(|all| {
            let each = all.into_iter().map(|(base, records)| commit(base, records));
            Edit::CommitAll(each.collect())
        }),
        Just(Edit::Forget { at: at() }),
        keys().prop_map(Edit::Unlink),
        keys().prop_map(Edit::Strike),
        any::<(i64, u32)>().prop_map(|(since_ms, before)| Edit::Hold(Hold {
            region: "west".to_owned(),
            incarnation: Uuid::from_u128(1),
            nonce: Uuid::from_u128(2),
            since_ms,
            before,
        })),
        Just(Edit::Release(vec![Uuid::from_u128(2), Uuid::from_u128(3)])),
    ]
}

proptest! {
    #[test]
    fn an_edit_arrives_as_it_was_sent_and_whole_or_not_at_all(edit in edits(), cut in any::<prop::sample::Index>()) {
        let bytes = encode_edit(&edit);
        prop_assert_eq!(decode_edit(&bytes).unwrap(), edit);
        prop_assert!(decode_edit(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_edit(&bytes);
        let _ = decode_outcome(1, &bytes);
    }
}

#[test]
fn outcomes_arrive_as_they_were_sent() {
    let truncated = Outcome::Truncated(Truncation {
        orphaned: vec![Orphaned {
            key: key("v1/east/data/a"),
            at: at(),
            from: 5,
            end: 9,
        }],
        end: 5,
    });
    let refused = CommitError::Rejected(Reject::Gap {
        at: at(),
        base: 5,
        end: 3,
    });
    for outcome in [
        Ok(Outcome::Applied(Applied::Changed)),
        Ok(Outcome::Applied(Applied::Already)),
        Ok(truncated),
        Ok(Outcome::Committed(vec![Reject::ByOwner {
            at: Some(at()),
            reason: "a gap".to_owned(),
        }])),
        Err(refused),
        Err(CommitError::Full { shard: 2, bytes: 9 }),
        Err(CommitError::Elsewhere { shard: 2 }),
    ] {
        let told = decode_outcome(2, &encode_outcome(&outcome).unwrap()).unwrap();
        assert_eq!(
            format!("{:?}", told.as_ref().ok()),
            format!("{:?}", outcome.as_ref().ok())
        );
        let text = |o: &Result<Outcome, CommitError>| o.as_ref().err().map(ToString::to_string);
        assert_eq!(text(&told), text(&outcome));
    }
    let stopping = encode_outcome(&Err(CommitError::Stopping));
    assert!(stopping.is_err(), "no word about the root");
}
