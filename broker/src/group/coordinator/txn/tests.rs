use std::sync::Arc;

use whimbrel_fleet::RegionEpoch;

use super::{
    super::{super::testing::Fixture, Committer, Limit, Limits, MoveId},
    *,
};
use crate::{
    group::testing::{Fault, TOPIC, commit, until},
    state_log::StateLog,
};

const WHO: Producer = Producer { id: 7, epoch: 0 };

fn committer() -> Committer {
    Committer {
        group: "g".into(),
        generation: -1,
        ..Committer::default()
    }
}

fn marker(commit: bool) -> Marker {
    Marker {
        producer: WHO,
        commit,
        coordinator_epoch: 1,
        strict: false,
    }
}

/// Commits a position of the only place.
async fn commit_as(
    fixture: &Fixture,
    committer: Committer,
    offset: i64,
    admission: Option<Admission>,
) -> Result<(), ErrorCode> {
    let commits = vec![commit(0, offset)];
    fixture
        .coordinator
        .commit_in_transaction(&committer, commits, WHO, admission)
        .await
}

async fn write(fixture: &Fixture, offset: i64) {
    let admission = fixture.coordinator.admit("g", WHO).unwrap();
    let written = commit_as(fixture, committer(), offset, admission).await;
    assert_eq!(written, Ok(()));
}

async fn end(fixture: &Fixture, commit: bool) -> Result<(), ErrorCode> {
    let partition = fixture.coordinator.partition_of("g");
    let ended = fixture
        .coordinator
        .end_transaction(partition, marker(commit));
    ended.await
}

fn place() -> TopicPartition {
    TopicPartition {
        topic: TOPIC.into(),
        partition: 0,
    }
}

#[tokio::test]
async fn positions_stand_or_fall_with_the_marker_and_until_then_are_undecided() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 1).await;
    for (offset, commit, then) in [(5, true, 5), (9, false, 5), (7, true, 7)] {
        let before = fixture.position("g", 0);
        write(&fixture, offset).await;
        assert_eq!(fixture.position("g", 0), before);
        assert!(
            fixture
                .coordinator
                .undecided("g")
                .unwrap()
                .contains(&place())
        );
        assert_eq!(end(&fixture, commit).await, Ok(()));
        assert_eq!(fixture.position("g", 0), Ok(then));
        assert!(fixture.coordinator.undecided("g").unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_waits_for_its_marker_waits_in_the_next_leadership_too() {
    let old = Fixture::leading().await;
    write(&old, 5).await;
    let new = Fixture::on(Arc::clone(&old.log));
    new.lead_all(2).await;
    assert_eq!(new.position("g", 0), Ok(-1));
    assert!(new.coordinator.undecided("g").unwrap().contains(&place()));
    assert_eq!(end(&new, true).await, Ok(()));
    assert_eq!(new.position("g", 0), Ok(5));
}

#[tokio::test]
async fn a_marker_with_an_unknown_outcome_is_found_in_the_log() {
    let fixture = Fixture::leading().await;
    write(&fixture, 5).await;
    fixture
        .log
        .fail_next(Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT));
    assert_eq!(
        end(&fixture, true).await,
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    );
    until(|| fixture.position("g", 0) == Ok(5)).await;
}

#[tokio::test]
async fn a_commit_that_was_on_its_way_when_the_marker_came_is_refused() {
    let fixture = Fixture::leading().await;
    let admission = fixture.coordinator.admit("g", WHO).unwrap();
    assert!(admission.is_some());
    assert_eq!(end(&fixture, false).await, Ok(()));
    let late = commit_as(&fixture, committer(), 5, admission).await;
    assert_eq!(late, Err(ErrorCode::INVALID_TXN_STATE));
    assert!(fixture.coordinator.undecided("g").unwrap().is_empty());
}

#[tokio::test]
async fn a_member_of_another_generation_commits_nothing() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("g").await;
    let as_member = |generation| Committer {
        member_id: member_id.clone(),
        generation,
        ..committer()
    };
    let admission = fixture.coordinator.admit("g", WHO).unwrap();
    let late = commit_as(&fixture, as_member(generation + 1), 5, admission).await;
    assert_eq!(late, Err(ErrorCode::ILLEGAL_GENERATION));
    let present = commit_as(&fixture, as_member(generation), 5, admission).await;
    assert_eq!(present, Ok(()));
}

/// With an epoch for every transaction the next one may begin before the marker of the last is written.
#[tokio::test]
async fn the_next_transaction_is_not_let_in_on_the_last_ones_positions() {
    let fixture = Fixture::leading().await;
    write(&fixture, 5).await;
    let admit = |epoch| fixture.coordinator.admit("g", Producer { epoch, ..WHO });
    assert_eq!(admit(WHO.epoch), Ok(None));
    assert!(admit(WHO.epoch + 1).unwrap().is_some());
}

fn move_of(group: &str, epoch: u32) -> MoveId {
    MoveId {
        group: group.into(),
        epoch: RegionEpoch(epoch),
    }
}

/// The next home after a lossy move that cut the log of positions here, and the place at 90.
async fn moved(old: &Fixture, epoch: i32, moved_at: Option<i64>) -> Fixture {
    let new = Fixture::on(Arc::clone(&old.log));
    let partition = new.coordinator.partition_of("g");
    let limit = Limit {
        topic: TOPIC.into(),
        partition: 0,
        promotion_offset: 90,
        leader_epoch: 1,
        opened: None,
    };
    let limits = moved_at.map(|at| {
        Arc::new(Limits::new(
            move_of("default", 2),
            [limit],
            [(partition, at)],
        ))
    });
    new.log.set_led(partition, Some(epoch));
    new.coordinator.lead(partition, epoch, limits);
    new.coordinator.clamped(partition).await.unwrap();
    new
}

#[tokio::test]
async fn positions_that_a_lossy_move_found_undecided_are_set_back_when_they_are_committed() {
    let old = Fixture::leading().await;
    old.commit("g", 0, 40).await;
    write(&old, 120).await;
    let moved_at = old.log.end(old.coordinator.partition_of("g"));
    let new = moved(&old, 2, Some(moved_at)).await;
    assert_eq!(new.position("g", 0), Ok(40));
    assert_eq!(end(&new, true).await, Ok(()));
    assert_eq!(new.position("g", 0), Ok(90));
    // For good: also where nobody knows of the move any more.
    let next = moved(&new, 3, None).await;
    assert_eq!(next.position("g", 0), Ok(90));
    // What the new epoch has read counts.
    write(&next, 110).await;
    assert_eq!(end(&next, true).await, Ok(()));
    assert_eq!(next.position("g", 0), Ok(110));
}

#[tokio::test]
async fn positions_that_are_aborted_or_of_the_new_epoch_are_not_set_back() {
    let old = Fixture::leading().await;
    old.commit("g", 0, 40).await;
    write(&old, 120).await;
    let moved_at = old.log.end(old.coordinator.partition_of("g"));
    let new = moved(&old, 2, Some(moved_at)).await;
    assert_eq!(end(&new, false).await, Ok(()));
    assert_eq!(new.position("g", 0), Ok(40));
    write(&new, 110).await;
    assert_eq!(end(&new, true).await, Ok(()));
    assert_eq!(new.position("g", 0), Ok(110));
}

/// Another failover group was moved: the log here is whole, and what was undecided then is of before.
#[tokio::test]
async fn positions_that_were_undecided_when_another_group_was_moved_are_set_back_too() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 40).await;
    write(&fixture, 120).await;
    let limit = Limit {
        topic: TOPIC.into(),
        partition: 0,
        promotion_offset: 90,
        leader_epoch: 1,
        opened: None,
    };
    let orders = move_of("orders", 2);
    let moved = Arc::new(Limits::new(orders.clone(), [limit], []));
    let partition = fixture.coordinator.partition_of("g");
    fixture.coordinator.follow(vec![Arc::clone(&moved)]);
    let followed = fixture.coordinator.followed(partition, &orders).await;
    assert_eq!(followed, Some(Vec::new()));
    // Whoever leads when the marker comes.
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.coordinator.follow(vec![moved]);
    next.lead("g", 2).await;
    assert_eq!(next.position("g", 0), Ok(40));
    assert_eq!(end(&next, true).await, Ok(()));
    assert_eq!(next.position("g", 0), Ok(90));
    // What was read after the move counts.
    write(&next, 110).await;
    assert_eq!(end(&next, true).await, Ok(()));
    assert_eq!(next.position("g", 0), Ok(110));
}
