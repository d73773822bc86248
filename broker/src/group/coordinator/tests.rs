mod consumers;
mod elsewhere;
mod let_go;
mod mixed;
mod timers;

use std::time::Duration;

use whimbrel_fleet::RegionEpoch;

use super::{
    super::testing::{Fault, Fixture, TOPIC, commit, until},
    *,
};

fn limits(promotion_offset: i64, offsets_end: Option<(i32, i64)>) -> Arc<Limits> {
    let limit = Limit {
        topic: TOPIC.into(),
        partition: 0,
        promotion_offset,
        leader_epoch: 4,
        opened: None,
    };
    Arc::new(Limits::new(move_of("default", 2), [limit], offsets_end))
}

fn move_of(group: &str, epoch: u32) -> MoveId {
    MoveId {
        group: group.into(),
        epoch: RegionEpoch(epoch),
    }
}

/// Lets every task that can go on do so; nothing here waits for anything but the clock, which stands still.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn groups_and_positions_come_back_in_the_next_leadership() {
    let old = Fixture::leading().await;
    let (member_id, generation) = old.stable("app").await;
    old.commit("tool", 1, 70).await;
    old.commit("tool", 1, 71).await;
    let new = Fixture::on(Arc::clone(&old.log));
    new.lead_all(2).await;
    assert_eq!(new.position("tool", 1), Ok(71));
    assert_eq!(
        new.coordinator
            .heartbeat("app", &member_id, None, generation),
        ErrorCode::NONE
    );
    let reply = new
        .coordinator
        .sync(
            "app",
            SyncRequest {
                member_id,
                generation,
                ..SyncRequest::default()
            },
        )
        .await;
    assert_eq!(&reply.assignment[..], b"mine");
    assert_eq!(
        old.position("tool", 1),
        Err(ErrorCode::NOT_COORDINATOR),
        "the old one no longer leads this epoch"
    );
}

#[tokio::test]
async fn while_loading_there_is_an_error_and_never_no_offset() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 5).await;
    let partition = fixture.coordinator.partition_of("g");
    fixture.log.hold();
    fixture.log.set_led(partition, Some(2));
    fixture.coordinator.lead(partition, 2, None);
    assert_eq!(
        fixture.position("g", 0),
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    );
    assert_eq!(
        fixture.try_commit("g", 0, 6).await,
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    );
    assert_eq!(
        fixture.coordinator.list().0,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
    );
    assert_eq!(
        fixture.coordinator.heartbeat("g", "m", None, 1),
        ErrorCode::NONE
    );
    fixture.log.release();
    assert_eq!(
        fixture.coordinator.clamped(partition).await,
        Some(Vec::new())
    );
    assert_eq!(fixture.position("g", 0), Ok(5));
}

#[tokio::test]
async fn a_log_that_is_not_led_is_never_taken_for_an_empty_one() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 5).await;
    let new = Fixture::on(Arc::clone(&fixture.log));
    let partition = new.coordinator.partition_of("g");
    new.log.set_led(partition, None);
    new.coordinator.lead(partition, 2, None);
    settle().await;
    new.log.set_led(partition, Some(2));
    assert_eq!(
        new.position("g", 0),
        Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    );
    let clock = new.clock.clone();
    until(|| {
        clock.advance(Duration::from_secs(1));
        new.position("g", 0).is_ok()
    })
    .await;
    assert_eq!(new.position("g", 0), Ok(5));
}

#[tokio::test]
async fn a_commit_is_answered_and_seen_only_once_it_is_durable() {
    let fixture = Fixture::leading().await;
    fixture.log.hold();
    let committer = Committer {
        group: "g".into(),
        generation: -1,
        ..Committer::default()
    };
    let pending = fixture
        .coordinator
        .commit(&committer, vec![commit(0, 5)], None);
    tokio::pin!(pending);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), pending.as_mut())
            .await
            .is_err()
    );
    assert_eq!(fixture.position("g", 0), Ok(-1));
    fixture.log.release();
    assert_eq!(pending.await, Ok(()));
    assert_eq!(fixture.position("g", 0), Ok(5));
}

#[tokio::test]
async fn commits_that_come_during_a_write_go_out_together() {
    let fixture = Fixture::leading().await;
    fixture.log.hold();
    let all = futures::future::join_all((0..100).map(|offset| fixture.try_commit("g", 0, offset)));
    let released = async {
        tokio::task::yield_now().await;
        fixture.log.release();
    };
    let (outcomes, ()) = tokio::join!(all, released);
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(
        fixture.log.batches() <= 3,
        "{} batches",
        fixture.log.batches()
    );
    assert_eq!(fixture.position("g", 0), Ok(99));
}

#[tokio::test]
async fn after_an_unknown_outcome_the_log_decides() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 5).await;
    fixture
        .log
        .fail_next(Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT));
    assert_eq!(
        fixture.try_commit("g", 0, 9).await,
        Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
    );
    until(|| fixture.position("g", 0).is_ok()).await;
    assert_eq!(
        fixture.position("g", 0),
        Ok(9),
        "it was in the log after all"
    );
    fixture
        .log
        .fail_next(Fault::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert_eq!(
        fixture.try_commit("g", 0, 11).await,
        Err(ErrorCode::NOT_COORDINATOR)
    );
    until(|| fixture.position("g", 0).is_ok()).await;
    assert_eq!(fixture.position("g", 0), Ok(9), "and this one was not");
}

#[tokio::test]
async fn a_record_too_large_fails_alone() {
    let fixture = Fixture::leading().await;
    fixture
        .log
        .fail_next(Fault::Refused(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!(
        fixture.try_commit("g", 0, 9).await,
        Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
    );
    assert_eq!(
        fixture.position("g", 0),
        Ok(-1),
        "no reload, and no position"
    );
}

#[tokio::test]
async fn resigning_answers_everybody_parked() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("g").await;
    // A second member waits for the first one to come again.
    let second = fixture.coordinator.join(
        "g",
        JoinRequest {
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![super::super::machine::Protocol {
                name: "range".into(),
                metadata: bytes::Bytes::new(),
            }],
            ..JoinRequest::default()
        },
    );
    let resign = async {
        until(|| {
            fixture
                .coordinator
                .heartbeat("g", &member_id, None, generation)
                == ErrorCode::REBALANCE_IN_PROGRESS
        })
        .await;
        fixture
            .coordinator
            .resign(fixture.coordinator.partition_of("g"));
    };
    let (reply, ()) = tokio::join!(second, resign);
    assert_eq!(reply.error, ErrorCode::NOT_COORDINATOR);
    assert_eq!(
        fixture
            .coordinator
            .heartbeat("g", &member_id, None, generation),
        ErrorCode::NOT_COORDINATOR
    );
}

#[tokio::test]
async fn promotion_sets_back_what_lies_above_and_only_that() {
    let old = Fixture::leading().await;
    old.commit("ahead", 0, 100).await;
    old.commit("ahead", 1, 100).await;
    let new = Fixture::on(Arc::clone(&old.log));
    let partition = new.coordinator.partition_of("ahead");
    let moved_at = new.log.end(partition);
    new.log.set_led(partition, Some(2));
    new.coordinator
        .lead(partition, 2, Some(limits(90, Some((partition, moved_at)))));
    let report = new.coordinator.clamped(partition).await.unwrap();
    let expected = Clamped {
        group: "ahead".into(),
        topic: TOPIC.into(),
        partition: 0,
        from: 100,
        to: 90,
        leader_epoch: 4,
    };
    assert_eq!(report, [expected]);
    assert_eq!(
        (new.position("ahead", 0), new.position("ahead", 1)),
        (Ok(90), Ok(100))
    );

    // A member whose group was cut off is not told that there is none, which its client takes for the end.
    let lost = "gone";
    let cut_off = new.coordinator.partition_of(lost);
    new.log.set_led(cut_off, Some(2));
    new.coordinator.lead(cut_off, 2, Some(limits(90, None)));
    new.coordinator.clamped(cut_off).await.unwrap();
    assert_eq!(
        new.commit_as(lost, "m", 3, 0, 5).await,
        Err(ErrorCode::UNKNOWN_MEMBER_ID)
    );

    // What the group reads and commits in the new epoch stays, also if the broker starts once more.
    new.commit("ahead", 0, 120).await;
    let again = Fixture::on(Arc::clone(&new.log));
    again.log.set_led(partition, Some(3));
    again
        .coordinator
        .lead(partition, 3, Some(limits(90, Some((partition, moved_at)))));
    assert_eq!(again.coordinator.clamped(partition).await, Some(Vec::new()));
    assert_eq!(again.position("ahead", 0), Ok(120));
}

#[tokio::test]
async fn an_interrupted_promotion_sets_back_when_it_is_tried_again() {
    let old = Fixture::leading().await;
    old.commit("ahead", 0, 100).await;
    let new = Fixture::on(Arc::clone(&old.log));
    let partition = new.coordinator.partition_of("ahead");
    let moved_at = new.log.end(partition);
    new.log.set_led(partition, Some(2));
    new.log
        .fail_next(Fault::Refused(ErrorCode::NOT_ENOUGH_REPLICAS));
    new.coordinator
        .lead(partition, 2, Some(limits(90, Some((partition, moved_at)))));
    let clock = new.clock.clone();
    until(|| {
        clock.advance(Duration::from_secs(1));
        new.position("ahead", 0).is_ok()
    })
    .await;
    assert_eq!(new.position("ahead", 0), Ok(90));
    assert_eq!(new.coordinator.clamped(partition).await.unwrap().len(), 1);
}

#[tokio::test]
async fn silent_members_leave_and_lapsed_positions_go() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("app").await;
    fixture.commit("tool", 0, 5).await;
    let state = || {
        fixture
            .coordinator
            .describe("app")
            .unwrap()
            .map(|d| d.state.name())
    };
    assert_eq!(state(), Some("Stable"));
    fixture.clock.advance(Duration::from_secs(11));
    // Empty, and soon swept away, for it has no positions.
    until(|| state() != Some("Stable")).await;
    assert_eq!(
        fixture
            .coordinator
            .heartbeat("app", &member_id, None, generation),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    fixture.clock.advance(Duration::from_secs(8 * 24 * 3600));
    until(|| fixture.position("tool", 0) == Ok(-1) && state().is_none()).await;
    let new = Fixture::on(Arc::clone(&fixture.log));
    new.lead_all(2).await;
    assert_eq!(new.coordinator.list().1, []);
}

#[tokio::test]
async fn sessions_stand_still_while_the_lease_is_away() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("app").await;
    let partition = fixture.coordinator.partition_of("app");
    fixture.log.set_led(partition, None);
    assert_eq!(
        fixture
            .coordinator
            .heartbeat("app", &member_id, None, generation),
        ErrorCode::NOT_COORDINATOR
    );
    fixture.clock.advance(Duration::from_secs(11));
    settle().await;
    fixture.log.set_led(partition, Some(1));
    fixture.clock.advance(Duration::from_millis(50));
    settle().await;
    assert_eq!(
        fixture
            .coordinator
            .heartbeat("app", &member_id, None, generation),
        ErrorCode::NONE
    );
}

#[tokio::test]
async fn positions_of_a_deleted_topic_go() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 0, 5).await;
    fixture.coordinator.topics_deleted(&[TOPIC.to_owned()]);
    until(|| fixture.position("g", 0) == Ok(-1)).await;
}

#[tokio::test]
async fn a_group_deleted_and_joined_again_begins_anew() {
    let fixture = Fixture::leading().await;
    let (member_id, _) = fixture.stable("g").await;
    fixture
        .coordinator
        .leave(
            "g",
            &[Leaver {
                member_id,
                instance_id: None,
            }],
        )
        .unwrap();
    assert_eq!(fixture.coordinator.delete("g").await, Ok(()));
    assert_eq!(
        fixture.coordinator.delete("g").await,
        Err(ErrorCode::GROUP_ID_NOT_FOUND)
    );
    assert_eq!(fixture.member("g").await.1, 1);
}
