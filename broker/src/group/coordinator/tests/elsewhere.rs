//! A lossy move of another failover group sets back what was committed here in what it moved.

use bytes::Bytes;

use super::{
    consumers::{beat, code, joining, send},
    *,
};
use crate::group::machine::Protocol;

/// A move of the group `orders`, which has the place. What is read of it after the move is of leader epoch 9.
fn moved(epoch: u32, promotion_offset: i64) -> Arc<Limits> {
    let limit = Limit {
        topic: TOPIC.into(),
        partition: 0,
        promotion_offset,
        leader_epoch: 4,
        opened: Some(9),
    };
    Arc::new(Limits::new(move_of("orders", epoch), [limit], []))
}

/// What the partition of the group had to set back.
async fn followed(fixture: &Fixture, group: &str, epoch: u32) -> Vec<i64> {
    let partition = fixture.coordinator.partition_of(group);
    let id = move_of("orders", epoch);
    let clamped = fixture.coordinator.followed(partition, &id).await.unwrap();
    clamped.iter().map(|clamped| clamped.from).collect()
}

async fn commit_in(fixture: &Fixture, group: &str, offset: i64, leader_epoch: i32) {
    let committer = Committer {
        group: group.into(),
        generation: -1,
        ..Committer::default()
    };
    let commit = Commit {
        leader_epoch,
        ..commit(0, offset)
    };
    let done = fixture.coordinator.commit(&committer, vec![commit], None);
    assert_eq!(done.await, Ok(()));
}

#[tokio::test]
async fn positions_above_are_set_back_for_good_and_only_those_of_before() {
    let fixture = Fixture::leading().await;
    for (group, offset, epoch) in [
        ("ahead", 100, 4),
        ("below", 10, 4),
        ("silent", 100, -1),
        ("after", 100, 9),
    ] {
        commit_in(&fixture, group, offset, epoch).await;
    }
    fixture.coordinator.follow(vec![moved(2, 90)]);
    assert_eq!(followed(&fixture, "ahead", 2).await, [100]);
    for (group, offset) in [("ahead", 90), ("below", 10), ("silent", 90), ("after", 100)] {
        followed(&fixture, group, 2).await;
        assert_eq!(fixture.position(group, 0), Ok(offset), "{group}");
    }
    // What is committed from here on stays, also if the client tells no epoch, and whoever leads.
    commit_in(&fixture, "silent", 120, -1).await;
    for epoch in 2..4 {
        let next = Fixture::on(Arc::clone(&fixture.log));
        next.coordinator.follow(vec![moved(2, 90)]);
        next.lead("silent", epoch).await;
        assert!(followed(&next, "silent", 2).await.is_empty());
        assert_eq!(next.position("silent", 0), Ok(120));
    }
    // Nor does anybody have to know of the move any more.
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.lead("ahead", 4).await;
    assert_eq!(next.position("ahead", 0), Ok(90));
}

#[tokio::test]
async fn a_leader_that_comes_later_follows_before_it_answers() {
    let old = Fixture::leading().await;
    old.commit("g", 0, 100).await;
    let new = Fixture::on(Arc::clone(&old.log));
    new.coordinator.follow(vec![moved(2, 90), moved(3, 70)]);
    new.lead("g", 2).await;
    assert_eq!(new.position("g", 0), Ok(70));
    assert_eq!(followed(&new, "g", 2).await, [100]);
    assert_eq!(followed(&new, "g", 3).await, [90]);
    // The next move is followed from there; those of before are not again.
    new.commit("g", 0, 85).await;
    new.coordinator
        .follow(vec![moved(2, 90), moved(3, 70), moved(4, 80)]);
    assert_eq!(followed(&new, "g", 4).await, [85]);
    assert_eq!(new.position("g", 0), Ok(80));
}

#[tokio::test]
async fn nothing_is_answered_until_it_is_written() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 100).await;
    fixture.log.hold();
    fixture.coordinator.follow(vec![moved(2, 90)]);
    let loading = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    for _ in 0..2 {
        assert_eq!(fixture.position("g", 0), Err(loading));
        assert_eq!(fixture.try_commit("g", 0, 110).await, Err(loading));
        settle().await;
    }
    fixture.log.release();
    assert_eq!(followed(&fixture, "g", 2).await, [100]);
    assert_eq!(fixture.position("g", 0), Ok(90));
}

#[tokio::test]
async fn a_commit_under_way_is_written_and_set_back_with_the_others() {
    let fixture = Fixture::leading().await;
    fixture.log.hold();
    let committing = fixture.try_commit("g", 0, 100);
    tokio::pin!(committing);
    let waits = tokio::time::timeout(Duration::from_millis(20), committing.as_mut());
    assert!(waits.await.is_err());
    fixture.coordinator.follow(vec![moved(2, 90)]);
    fixture.log.release();
    assert_eq!(committing.await, Ok(()));
    assert_eq!(followed(&fixture, "g", 2).await, [100]);
    assert_eq!(fixture.position("g", 0), Ok(90));
}

#[tokio::test]
async fn what_came_to_nothing_half_way_is_tried_again() {
    for fault in [
        Fault::Refused(ErrorCode::NOT_ENOUGH_REPLICAS),
        Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT),
    ] {
        let fixture = Fixture::following();
        fixture.lead("g", 1).await;
        fixture.commit("g", 0, 100).await;
        fixture.log.fail_next(fault);
        fixture.coordinator.follow(vec![moved(2, 90)]);
        let clock = fixture.clock.clone();
        until(|| {
            clock.advance(Duration::from_secs(1));
            fixture.position("g", 0).is_ok()
        })
        .await;
        assert_eq!(fixture.position("g", 0), Ok(90));
        // The same leader is not told of it twice.
        let batches = fixture.log.batches();
        fixture.coordinator.follow(vec![moved(2, 90)]);
        assert_eq!(fixture.position("g", 0), Ok(90));
        assert_eq!(fixture.log.batches(), batches);
    }
}

/// A member of a classic group that reads another topic.
async fn other_member(fixture: &Fixture, group: &str) -> (String, i32) {
    let request = JoinRequest {
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x05other\0\0\0\0"),
        }],
        ..JoinRequest::default()
    };
    let joined = fixture.coordinator.join(group, request).await;
    let sync = SyncRequest {
        member_id: joined.member_id.clone(),
        generation: joined.generation,
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"mine"))],
        ..SyncRequest::default()
    };
    let synced = fixture.coordinator.sync(group, sync).await;
    assert_eq!(synced.error, ErrorCode::NONE);
    (joined.member_id, joined.generation)
}

#[tokio::test]
async fn members_that_read_what_moved_are_let_go_and_nobody_else() {
    let fixture = Fixture::leading().await;
    let (reader, generation) = fixture.stable("reads").await;
    let (other, other_generation) = other_member(&fixture, "other").await;
    // It assigns itself what it does not subscribe to.
    let (holder, holder_generation) = other_member(&fixture, "holds").await;
    let held = fixture.commit_as("holds", &holder, holder_generation, 0, 100);
    assert_eq!(held.await, Ok(()));
    let epoch = send(&fixture, joining("a")).await.unwrap().epoch;
    fixture.coordinator.follow(vec![moved(2, 90)]);
    for group in ["reads", "other", "holds", "g"] {
        followed(&fixture, group, 2).await;
    }
    let beats = |group: &str, id: &str, generation| {
        fixture.coordinator.heartbeat(group, id, None, generation)
    };
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(beats("reads", &reader, generation), unknown);
    assert_eq!(beats("holds", &holder, holder_generation), unknown);
    assert_eq!(beats("other", &other, other_generation), ErrorCode::NONE);
    assert_eq!(code(&fixture, beat("a", epoch)).await, unknown);
    // A late commit counts for nothing.
    let late = fixture.commit_as("reads", &reader, generation, 0, 110);
    assert_eq!(late.await, Err(unknown));
    // They join again, and stay with whoever leads next.
    let (again, generation) = fixture.stable("reads").await;
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.coordinator.follow(vec![moved(2, 90)]);
    next.lead("reads", 2).await;
    let beats = next
        .coordinator
        .heartbeat("reads", &again, None, generation);
    assert_eq!(beats, ErrorCode::NONE);
}
