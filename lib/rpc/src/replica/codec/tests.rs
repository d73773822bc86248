use proptest::prelude::*;

use uuid::Uuid;
use whimbrel_fleet::{EpochStart, Lineage, TopicPartition};

use super::{super::Batches, *};

fn at() -> impl Strategy<Value = TopicPartition> {
    (any::<u128>(), any::<i32>())
        .prop_map(|(id, partition)| TopicPartition::new(Uuid::from_u128(id), partition))
}

fn lineage() -> impl Strategy<Value = Lineage> {
    (
        prop::collection::vec((any::<i32>(), any::<i64>()), 0..5),
        any::<i64>(),
    )
        .prop_map(|(epochs, end_offset)| Lineage {
            epochs: epochs
                .into_iter()
                .map(|(epoch, start_offset)| EpochStart {
                    epoch,
                    start_offset,
                })
                .collect(),
            end_offset,
        })
}

fn batches() -> impl Strategy<Value = Batches> {
    (
        at(),
        any::<u32>(),
        any::<i32>(),
        any::<[i64; 7]>(),
        any::<u64>(),
        prop::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(
            |(at, region_epoch, leader_epoch, n, log_bytes, records)| Batches {
                at,
                region_epoch: RegionEpoch(region_epoch),
                leader_epoch,
                log_start: n[0],
                log_end: n[1],
                log_bytes,
                high_watermark: n[2],
                last_stable_offset: n[3],
                source_clock_ms: n[4],
                next_append_time_ms: n[5],
                held_end: n[6],
                records: records.into(),
            },
        )
}

fn round_trip<F: Frame + PartialEq + std::fmt::Debug>(frame: &F) {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    if let Some(payload) = frame.payload() {
        out.extend_from_slice(payload);
    }
    let bytes = out.freeze();
    assert_eq!(&F::decode(bytes.clone()).unwrap(), frame);
    if frame.payload().is_none() {
        for cut in 0..bytes.len() {
            assert!(
                F::decode(bytes.slice(..cut)).is_err(),
                "cut at {cut} was accepted"
            );
        }
    }
}

proptest! {
    #[test]
    fn every_frame_round_trips_and_no_prefix_of_it_does(
        at in at(), lineage in lineage(), batches in batches(), n in any::<i64>(), u in any::<u64>(), reason in 0..REFUSALS.len(),
    ) {
        round_trip(&ToSource::Subscribe { at, lineage: lineage.clone() });
        round_trip(&ToSource::Unsubscribe { at });
        round_trip(&ToSource::Credit { bytes: u });
        round_trip(&ToSource::Durable { at, end_offset: n });
        round_trip(&FromSource::Batches(batches.clone()));
        round_trip(&FromSource::Diverged { at, epoch: 7, offset: n });
        round_trip(&FromSource::Stopped { at, reason: StopReason::Trimmed { log_start: n } });
        round_trip(&FromSource::Stopped { at, reason: StopReason::Cleaned { upto: n } });
        round_trip(&ToSink::Batches(batches));
        round_trip(&ToSink::Truncate { at, region_epoch: RegionEpoch(3), epoch: 1, offset: n });
        round_trip(&FromSink::Positions(vec![SinkPosition { at, lineage: lineage.clone(), log_bytes: u }]));
        round_trip(&FromSink::Gone(vec![at, at]));
        round_trip(&FromSink::Truncated { at, lineage, orphan_records: u });
        round_trip(&FromSink::Refused { at, reason: REFUSALS[reason] });
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = Hello::decode(bytes.clone());
        let _ = ToSource::decode(bytes.clone());
        let _ = FromSource::decode(bytes.clone());
        let _ = ToSink::decode(bytes.clone());
        let _ = FromSink::decode(bytes);
    }
}

#[test]
fn a_count_larger_than_the_frame_is_refused_before_it_is_believed() {
    let mut out = BytesMut::new();
    out.put_u8(1);
    out.put_u32(u32::MAX);
    assert!(matches!(
        FromSink::decode(out.freeze()),
        Err(FrameError::Short {
            what: "positions",
            ..
        })
    ));
}

#[test]
fn a_hello_of_another_protocol_is_refused() {
    assert!(Hello::decode(Bytes::from_static(b"\0GET / HTTP/1.1\r\n")).is_err());
}
