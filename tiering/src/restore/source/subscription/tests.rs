use whimbrel_fleet::{EpochStart, RegionEpoch, TopicPartition};

use super::*;

/// Epoch 1 up to 10, epoch 3 from there; two objects, and the cut in the middle of the second.
fn stored() -> Arc<Stored> {
    let start = |epoch, start_offset| EpochStart {
        epoch,
        start_offset,
    };
    Arc::new(Stored {
        at: TopicPartition::new(uuid::Uuid::nil(), 0),
        topic: "t".into(),
        shard: 0,
        region_epoch: RegionEpoch(1_000),
        leader_epoch: 1_002,
        log_start: 4,
        lineage: Lineage {
            epochs: vec![start(1, 0), start(3, 10)],
            end_offset: 15,
        },
        slices: vec![Entry::sample(0, 10), Entry::sample(10, 20)],
        holes: Vec::new(),
        turn: 0,
    })
}

fn batch(base: i64, next: i64, epoch: i32) -> Batch {
    let mut builder = BatchBuilder::new(base).leader_epoch(epoch);
    for _ in base..next {
        builder.add(1, None, Some(b"v"), &[]).unwrap();
    }
    Batch::take(&mut builder.finish().unwrap()).unwrap()
}

fn theirs(epochs: &[(i32, i64)], end_offset: i64) -> Lineage {
    let start = |&(epoch, start_offset): &(i32, i64)| EpochStart {
        epoch,
        start_offset,
    };
    Lineage {
        epochs: epochs.iter().map(start).collect(),
        end_offset,
    }
}

fn sent(subscription: &mut Subscription) -> Vec<(i64, i64)> {
    let chunk = subscription.chunk(1 << 20);
    let all = whimbrel_wire::Batches::new(chunk).map(Result::unwrap);
    all.map(|b| (b.header.base_offset, b.header.next_offset()))
        .collect()
}

#[test]
fn what_compaction_left_is_sent_with_its_gaps_and_the_end_is_said_by_an_empty_batch() {
    let log = stored();
    let mut one = Subscription::begin(1, &log, &Lineage::default()).unwrap();
    assert!(matches!(one.wants(), Wants::Object(entry, 4) if entry.base == 0));
    // The first lies wholly below the start, the second on both sides of it.
    let read = vec![batch(0, 2, 1), batch(2, 5, 1), batch(7, 8, 1)];
    one.take(read).unwrap();
    assert!(matches!(one.wants(), Wants::Nothing));
    assert_eq!(sent(&mut one), [(2, 5), (7, 8)]);
    one.finished(10);
    assert!(matches!(one.wants(), Wants::Object(entry, 10) if entry.base == 10));
    one.take(vec![batch(11, 12, 3)]).unwrap();
    assert_eq!(sent(&mut one), [(11, 12)]);
    one.finished(15);
    assert!(matches!(one.wants(), Wants::Filler));
    one.fill().unwrap();
    assert_eq!(sent(&mut one), [(14, 15)]);
    assert!(matches!(one.wants(), Wants::Done));
}

#[test]
fn a_follower_goes_on_where_it_ends_and_only_as_a_part_of_the_bucket() {
    let log = stored();
    let begin = |theirs: &Lineage| Subscription::begin(1, &log, theirs);
    let mut one = begin(&theirs(&[(1, 2)], 8)).unwrap();
    one.take(vec![batch(2, 5, 1), batch(7, 8, 1), batch(8, 9, 1)])
        .unwrap();
    assert_eq!(sent(&mut one), [(8, 9)]);
    let mut whole = begin(&theirs(&[(1, 2), (3, 10)], 15)).unwrap();
    assert!(matches!(whole.wants(), Wants::Done));
    let mut next = begin(&theirs(&[(1, 2)], 10)).unwrap();
    assert!(matches!(next.wants(), Wants::Object(entry, 10) if entry.base == 10));
    for (foreign, offset) in [
        (theirs(&[(1, 2)], 11), 10),
        (theirs(&[(1, 2), (2, 8)], 9), 8),
        (theirs(&[(1, 2), (3, 10)], 16), 15),
        (theirs(&[], 16), 0),
    ] {
        let refused = begin(&foreign).map(|_| ()).unwrap_err();
        assert_eq!(refused, Refusal::Parted { offset }, "{foreign:?}");
    }
    let refused = begin(&theirs(&[(1, 0)], 3)).map(|_| ()).unwrap_err();
    assert_eq!(refused, Refusal::Trimmed);
}

#[test]
fn a_batch_that_cannot_be_what_the_root_means_is_refused() {
    let log = stored();
    for (bad, why) in [
        (batch(14, 17, 3), "both sides of the cut"),
        (batch(12, 13, 2), "epoch 2"),
        (batch(9, 12, 1), "begins below 10"),
    ] {
        let mut one = Subscription::begin(1, &log, &theirs(&[(1, 0)], 10)).unwrap();
        let refused = one.take(vec![bad]).unwrap_err();
        assert!(refused.contains(why), "{refused}");
        assert!(!one.is_ready());
    }
}

#[test]
fn what_no_object_holds_is_a_hole() {
    let mut log = stored();
    Arc::make_mut(&mut log).slices.remove(0);
    let mut one = Subscription::begin(1, &log, &Lineage::default()).unwrap();
    assert!(matches!(one.wants(), Wants::Hole(4)));
}

#[test]
fn a_hole_that_the_plan_names_is_passed_over_and_one_at_the_end_is_filled() {
    let mut log = stored();
    let own = Arc::make_mut(&mut log);
    own.slices.remove(0);
    own.holes.push(0..10);
    let mut one = Subscription::begin(1, &log, &Lineage::default()).unwrap();
    assert!(matches!(one.wants(), Wants::Object(entry, 10) if entry.base == 10));
    one.take(vec![batch(12, 13, 3)]).unwrap();
    assert_eq!(sent(&mut one), [(12, 13)]);
    // It is cut off, and goes on from there.
    let mut again = Subscription::begin(2, &log, &theirs(&[(3, 12)], 13)).unwrap();
    assert!(matches!(again.wants(), Wants::Object(entry, 13) if entry.base == 10));
    let own = Arc::make_mut(&mut log);
    own.slices.clear();
    own.holes[0] = 0..15;
    for (theirs, from) in [(Lineage::default(), 4), (theirs(&[(3, 12)], 13), 13)] {
        let mut end = Subscription::begin(3, &log, &theirs).unwrap();
        assert_eq!(end.read, from);
        assert!(matches!(end.wants(), Wants::Filler));
        end.fill().unwrap();
        assert_eq!(sent(&mut end), [(14, 15)]);
        assert!(matches!(end.wants(), Wants::Done));
    }
}
