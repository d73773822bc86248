//! The bucket as a source: a model of a broker is filled from it over real streams that are cut at any moment.

use std::collections::BTreeSet;

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, Lineage, TopicPartition};
use whimbrel_rpc::replica::{FromSource, Hello, Purpose, StopReason, connect_source};
use whimbrel_runtime::Clock;
use whimbrel_tiering::{
    format::{Key, Keys, shard_of},
    restore::Found,
    store::Store,
};
use whimbrel_wire::Batch;

use super::{
    Draw, contents,
    follower::{Copies, Follower, PATIENCE, Serving, empty, fill, find, wanted},
    home::{Home, OFFSETS, RECORDED, SHARDS, STATES, T0, T1},
    replace,
};

/// Some of it in objects of their own, some in shared ones, cut anywhere.
async fn scattered(draw: &mut Draw) -> Home {
    let mut home = Home::new().await;
    for round in 0..90 {
        home.step(round % 3);
        home.cut();
        let at = [T0, T1, OFFSETS, STATES, RECORDED][draw.below(5)];
        home.upload(at, 1 + draw.below(9), draw.below(2) == 0).await;
    }
    home.settle();
    home.cut();
    home.upload_all().await;
    home
}

#[tokio::test]
async fn whatever_is_cut_or_killed_the_copies_become_what_the_home_had_below_the_cut() {
    for seed in [3, 77, 4_242] {
        let mut draw = Draw(seed);
        let home = scattered(&mut draw).await;
        let before = contents(&home.store).await;
        let cut = &home.cuts[home.cuts.len() / 2 + draw.below(home.cuts.len() / 2)];
        let to_ms = Some(cut.taken_ms);
        let found = find(&home.store, to_ms).await;
        let mut serving = Serving::begin(&home.store, &found).await;
        let mut copies = empty();
        let mut cuts = 0;
        'all: loop {
            let mut follower = Follower::begin(&serving, &copies).await;
            for _ in 0..1 + draw.below(6) {
                if follower
                    .follow(&mut copies, &found, &mut draw)
                    .await
                    .is_none()
                {
                    break 'all;
                }
            }
            cuts += 1;
            if draw.below(3) == 0 {
                // The process is killed; another one plans the same.
                let again = find(&home.store, to_ms).await;
                assert_eq!(again.plan.hash, found.plan.hash);
                serving = Serving::begin(&home.store, &again).await;
            }
        }
        assert!(cuts > 5, "{cuts}");
        assert!(copies == wanted(&home, &found), "seed {seed}");
        assert_eq!(serving.source.troubles(), []);
        assert_eq!(contents(&home.store).await, before);
    }
}

#[tokio::test]
async fn a_log_of_many_pieces_goes_on_from_the_middle_of_an_object() {
    let mut home = Home::busy().await;
    let value = vec![7; 700_000];
    for n in 0..30_u8 {
        home.record(T1, &[n], &value);
    }
    home.cut();
    home.upload_all().await;
    let found = find(&home.store, None).await;
    let wanted = wanted(&home, &found);
    assert!(wanted[&T1].bytes.len() > 20 << 20);
    let serving = Serving::begin(&home.store, &found).await;
    let mut copies = empty();
    let mut draw = Draw(5);
    for _ in 0..2 {
        let mut follower = Follower::begin(&serving, &copies).await;
        follower.grant(6 << 20).await;
        while follower.credit > 0 {
            follower
                .follow(&mut copies, &found, &mut draw)
                .await
                .unwrap();
        }
    }
    let bytes = |copies: &Copies| copies.values().map(|copy| copy.bytes.len()).sum::<usize>();
    let left = bytes(&wanted) - bytes(&copies);
    assert!(left > 5 << 20, "{left}");
    let before = home.store.bytes_read();
    fill(&serving, &mut copies, &found).await;
    assert!(copies == wanted);
    // The rest, the tails of the objects, and blocks that are not wanted as a whole.
    let read = usize::try_from(home.store.bytes_read() - before).unwrap();
    assert!(read < left + (2 << 20), "{read} of {left}");
}

/// Batches whose transaction is open at the cut and not decided: how many came, and how many of those with an end.
fn open_ones(home: &Home, found: &Found, copies: &Copies) -> (usize, usize) {
    let state = found.plan.state.as_ref().unwrap();
    let (mut came, mut ended) = (0, 0);
    for open in state.open.iter().filter(|open| !open.commits) {
        let of_producer = |b: &Batch| b.header.producer_id == open.producer_id;
        let cut = found.plan.groups[0].cut.as_ref().unwrap();
        let cut = home
            .cuts
            .iter()
            .find(|c| c.taken_ms == cut.taken_ms)
            .unwrap();
        for (at, copy) in copies {
            let end = cut.ends.get(at).map_or(0, |end| end.offset);
            let all = home.logs[at].batches.iter();
            let below = all.filter(|b| b.next <= end);
            let below: Vec<_> = below
                .map(|b| Batch::take(&mut b.bytes.clone()).unwrap())
                .collect();
            let Some(newest) = below.iter().rev().find(|b| of_producer(b)) else {
                continue;
            };
            if newest.header.is_control() {
                continue;
            }
            let there: Vec<_> = copy.batches().into_iter().filter(of_producer).collect();
            let place = there.iter().position(|b| b.bytes == newest.bytes).unwrap();
            came += 1;
            let behind = there[place + 1..].iter();
            ended += usize::from(behind.filter(|b| b.header.is_control()).count() > 0);
        }
    }
    (came, ended)
}

/// An object's list of aborted transactions tells how they ended later, and the object may hold the markers. Whoever
/// takes either over has half a transaction committed.
#[tokio::test]
async fn a_transaction_that_was_open_at_the_cut_comes_without_an_end() {
    let home = Home::busy().await;
    let (mut came, mut planted) = (0, 0);
    for cut in &home.cuts {
        let found = find(&home.store, Some(cut.taken_ms)).await;
        let serving = Serving::begin(&home.store, &found).await;
        let mut copies = empty();
        fill(&serving, &mut copies, &found).await;
        assert!(copies == wanted(&home, &found));
        let (of_cut, ended) = open_ones(&home, &found, &copies);
        assert_eq!(ended, 0);
        came += of_cut;
        // As if the objects were taken as they are.
        let mistaken = find(&home.store, None).await;
        let serving = Serving::begin(&home.store, &mistaken).await;
        let mut copies = empty();
        fill(&serving, &mut copies, &mistaken).await;
        planted += open_ones(&home, &found, &copies).1;
    }
    assert!(came > 5 && planted > 5, "{came} came, {planted} would end");
}

#[tokio::test]
async fn a_log_that_holds_something_else_is_neither_filled_nor_cut_and_the_others_are() {
    let home = Home::busy().await;
    let found = find(&home.store, None).await;
    let serving = Serving::begin(&home.store, &found).await;
    let other = |epoch, end_offset| Lineage {
        epochs: vec![EpochStart {
            epoch,
            start_offset: 0,
        }],
        end_offset,
    };
    let own = found.logs[&T0].lineage.epochs[0].epoch;
    // Another's records, the same leader's beyond the cut, and a copy that is as it should be.
    for (lineage, is_foreign) in [
        (other(own + 1, 1), true),
        (other(own, found.logs[&T0].end() + 1), true),
        (other(own, 1), false),
    ] {
        let mut copies = empty();
        copies.get_mut(&T0).unwrap().lineage = lineage;
        let mut follower = Follower::begin(&serving, &copies).await;
        follower.grant(1 << 20).await;
        if !is_foreign {
            let mut draw = Draw(1);
            while follower
                .follow(&mut copies, &found, &mut draw)
                .await
                .is_some()
            {}
            assert_eq!(serving.source.troubles(), []);
            continue;
        }
        let before = copies.remove(&T0).unwrap();
        let mut stopped = BTreeSet::new();
        let ends = |copies: &Copies| {
            let mut all = copies.iter();
            all.all(|(at, copy)| copy.lineage.end_offset == found.logs[at].end())
        };
        while stopped.is_empty() || !ends(&copies) {
            match follower.recv().await {
                FromSource::Stopped { at, reason } => {
                    assert_eq!((at, reason), (T0, StopReason::Unreadable));
                    stopped.insert(at);
                }
                FromSource::Batches(frame) => {
                    assert!(frame.at != T0, "{before:?}");
                    follower.accept(&mut copies, &found, frame);
                }
                diverged => panic!("{diverged:?}"),
            }
        }
        let troubles = serving.source.troubles();
        let [trouble] = &troubles[..] else {
            panic!("{troubles:?}")
        };
        assert_eq!((trouble.code, trouble.topic.as_str()), ("WB-335", "t"));
    }
}

/// The key of the first object of `at`.
fn object(home: &Home, at: TopicPartition) -> Key {
    let shard = shard_of(at, SHARDS);
    let entry = home.roots[usize::from(shard)].partitions[&at].entries[0];
    entry.key(&Keys::new("east"), shard, at)
}

#[tokio::test]
async fn an_object_that_is_bent_or_lost_stops_its_log_by_name_until_it_is_sound_again() {
    let home = Home::busy().await;
    let found = find(&home.store, None).await;
    let key = object(&home, T1);
    let sound = contents(&home.store).await.remove(&key).unwrap();
    let mut flipped = sound.to_vec();
    flipped[100] ^= 1;
    for bent in [None, Some(Bytes::from(flipped)), Some(sound.slice(..200))] {
        let store = home.store.branch();
        store.delete(&key).await.unwrap();
        if let Some(bytes) = bent {
            store.put_if_absent(&key, bytes).await.unwrap();
        }
        let serving = Serving::begin(&store, &found).await;
        let mut copies = empty();
        let mut follower = Follower::begin(&serving, &copies).await;
        follower.grant(1 << 20).await;
        let mut stopped = false;
        let others = |copies: &Copies| {
            let mut all = copies.iter().filter(|(at, _)| **at != T1);
            all.all(|(at, copy)| copy.lineage.end_offset == found.logs[at].end())
        };
        while !stopped || !others(&copies) {
            match follower.recv().await {
                FromSource::Stopped { at, reason } => {
                    assert_eq!((at, reason), (T1, StopReason::Unreadable));
                    stopped = true;
                }
                FromSource::Batches(frame) => drop(follower.accept(&mut copies, &found, frame)),
                diverged => panic!("{diverged:?}"),
            }
        }
        let trouble = serving.source.troubles().remove(0);
        assert_eq!((trouble.code, trouble.partition), ("WB-316", 1));
        assert!(trouble.what.contains(&key.to_string()), "{}", trouble.what);
        if store.head(&key).await.is_ok() {
            replace(&store, &key, sound.clone()).await;
        } else {
            store.put_if_absent(&key, sound.clone()).await.unwrap();
        }
        fill(&serving, &mut copies, &found).await;
        assert!(copies == wanted(&home, &found));
        assert_eq!(serving.source.troubles(), []);
    }
}

/// What the plan names as missing is left out, and everything else comes as it was.
#[tokio::test]
async fn a_hole_that_is_named_is_left_out_and_all_around_it_comes() {
    for seed in [5, 61, 800] {
        let mut draw = Draw(seed);
        let home = scattered(&mut draw).await;
        let mut lost = Vec::new();
        for at in [T0, T1, OFFSETS, STATES] {
            let shard = shard_of(at, SHARDS);
            let entries = &home.roots[usize::from(shard)].partitions[&at].entries;
            let entry = entries[draw.below(entries.len() - 1)];
            let key = entry.key(&Keys::new("east"), shard, at);
            if draw.below(2) == 0 {
                home.store.delete(&key).await.unwrap();
            } else {
                let sound = home.store.get(&key, u64::MAX).await.unwrap().bytes;
                let mut flipped = sound.to_vec();
                flipped[70] ^= 1;
                replace(&home.store, &key, flipped.into()).await;
                let case = Keys::new("east").quarantined(&key);
                home.store.put_if_absent(&case, Bytes::new()).await.unwrap();
            }
            lost.push((at, entry.base..entry.end));
        }
        let found = find(&home.store, None).await;
        assert!(!found.plan.whole);
        for (at, gone) in &lost {
            assert_eq!(
                found.logs[at].holes,
                std::slice::from_ref(gone),
                "seed {seed}"
            );
        }
        assert_eq!(
            found.plan.missing_offsets,
            lost.iter()
                .map(|(_, gone)| gone.end - gone.start)
                .sum::<i64>()
        );
        let mut serving = Serving::begin(&home.store, &found).await;
        let mut copies = empty();
        // The process is killed in between.
        let mut follower = Follower::begin(&serving, &copies).await;
        for _ in 0..3 {
            follower.follow(&mut copies, &found, &mut draw).await;
        }
        serving = Serving::begin(&home.store, &find(&home.store, None).await).await;
        fill(&serving, &mut copies, &found).await;
        assert!(copies == wanted(&home, &found), "seed {seed}");
        assert_eq!(serving.source.troubles(), []);
    }
}

#[tokio::test]
async fn internal_logs_are_the_first_to_be_read() {
    let home = Home::busy().await;
    let found = find(&home.store, None).await;
    let mut by_turn: Vec<_> = found.logs.values().map(|log| (log.turn, log.at)).collect();
    by_turn.sort_unstable();
    let order: Vec<_> = by_turn.into_iter().map(|(_, at)| at).collect();
    assert_eq!(order, [OFFSETS, STATES, T0, T1]);
}

#[tokio::test]
async fn a_log_of_which_nothing_is_left_ends_where_it_ended() {
    let home = Home::busy().await;
    let mut found = find(&home.store, None).await;
    let log = found.logs.get_mut(&T1).unwrap();
    (log.log_start, log.slices) = (log.end(), Vec::new());
    let (end, epoch) = (log.end(), log.lineage.last_epoch());
    let serving = Serving::begin(&home.store, &found).await;
    let mut copies = empty();
    fill(&serving, &mut copies, &found).await;
    let batches = copies[&T1].batches();
    let [empty] = &batches[..] else {
        panic!("{batches:?}")
    };
    let header = empty.header;
    assert_eq!((header.base_offset, header.records_count), (end - 1, 0));
    assert_eq!(header.partition_leader_epoch, epoch);
    assert_eq!(
        found.logs[&T1].lineage.common(&copies[&T1].lineage).offset,
        end
    );
}

#[tokio::test]
async fn whoever_would_push_or_is_of_another_fleet_is_sent_away() {
    let home = Home::busy().await;
    let found = find(&home.store, None).await;
    let serving = Serving::begin(&home.store, &found).await;
    for (purpose, fleet_id) in [(Purpose::Push, "fleet-2"), (Purpose::Pull, "fleet-1")] {
        let hello = Hello {
            purpose,
            fleet_id: fleet_id.into(),
            region: "west".into(),
            incarnation: Uuid::nil(),
        };
        let mut stream = connect_source(&serving.at, &hello).await.unwrap();
        let clock = Clock::system();
        let ended = clock.within(PATIENCE, stream.rx.recv()).await;
        assert!(!matches!(ended.unwrap(), Ok(Some(_))));
    }
    assert_eq!(serving.source.sent_bytes(), 0);
}
