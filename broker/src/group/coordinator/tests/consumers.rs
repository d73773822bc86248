//! Groups of the consumer protocol in a shard: what is told is durable, and the log decides.

use super::*;
use crate::group::{
    consumer::{Assignment, Heartbeat, Refusal, Reply},
    store::Pace,
};

pub(super) fn joining(id: &str) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        rebalance_timeout_ms: Some(10_000),
        topics: Some(vec![TOPIC.to_owned()]),
        owned: Some(Assignment::default()),
        ..Heartbeat::default()
    }
}

pub(super) fn beat(id: &str, epoch: i32) -> Heartbeat {
    Heartbeat {
        member_id: id.to_owned(),
        epoch,
        ..Heartbeat::default()
    }
}

pub(super) async fn send(fixture: &Fixture, request: Heartbeat) -> Result<Reply, Refusal> {
    fixture.coordinator.consumer_heartbeat("g", request).await
}

pub(super) async fn code(fixture: &Fixture, request: Heartbeat) -> ErrorCode {
    send(fixture, request).await.unwrap_err().code
}

fn state(fixture: &Fixture) -> Option<&'static str> {
    let described = fixture.coordinator.describe_consumer("g");
    described.ok().flatten().map(|group| group.state.name())
}

#[tokio::test]
async fn a_heartbeat_is_answered_only_once_what_it_rests_on_is_durable() {
    let fixture = Fixture::leading().await;
    fixture.log.hold();
    let joined = send(&fixture, joining("a"));
    tokio::pin!(joined);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), joined.as_mut())
            .await
            .is_err()
    );
    // It changes nothing itself, but what it says is on its way to the log.
    let second = send(&fixture, beat("a", 1));
    tokio::pin!(second);
    assert!(
        tokio::time::timeout(Duration::from_millis(20), second.as_mut())
            .await
            .is_err()
    );
    fixture.log.release();
    assert_eq!(joined.await.unwrap().epoch, 1);
    assert_eq!(second.await.unwrap().epoch, 1);
}

#[tokio::test]
async fn what_could_not_be_written_did_not_happen() {
    let fixture = Fixture::leading().await;
    for error in [
        ErrorCode::MESSAGE_TOO_LARGE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ] {
        fixture.log.fail_next(Fault::Refused(error));
        assert_ne!(code(&fixture, joining("a")).await, ErrorCode::NONE);
        until(|| fixture.position("g", 0).is_ok()).await;
        assert_eq!(state(&fixture), None);
    }
    fixture
        .log
        .fail_next(Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT));
    assert_eq!(
        code(&fixture, joining("a")).await,
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    );
    until(|| fixture.position("g", 0).is_ok()).await;
    assert_eq!(
        state(&fixture),
        Some("Stable"),
        "it was in the log after all"
    );
    assert_eq!(send(&fixture, joining("a")).await.unwrap().epoch, 1);
}

#[tokio::test]
async fn silent_members_leave_and_the_empty_group_goes_with_its_positions() {
    let fixture = Fixture::leading().await;
    send(&fixture, joining("a")).await.unwrap();
    fixture.commit_as("g", "a", 1, 0, 5).await.unwrap();
    assert_eq!(
        fixture.coordinator.delete("g").await,
        Err(ErrorCode::NON_EMPTY_GROUP)
    );
    fixture.clock.advance(Duration::from_secs(46));
    until(|| state(&fixture) == Some("Empty")).await;
    assert_eq!(
        code(&fixture, beat("a", 1)).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(fixture.position("g", 0), Ok(5));
    fixture.clock.advance(Duration::from_secs(8 * 24 * 3600));
    until(|| state(&fixture).is_none()).await;
    let new = Fixture::on(Arc::clone(&fixture.log));
    new.lead_all(2).await;
    assert_eq!(new.coordinator.list().1, []);
}

#[tokio::test]
async fn a_deleted_group_does_not_come_back_with_its_epochs() {
    let fixture = Fixture::leading().await;
    send(&fixture, joining("a")).await.unwrap();
    send(&fixture, beat("a", -1)).await.unwrap();
    assert_eq!(fixture.coordinator.delete("g").await, Ok(()));
    assert_eq!(
        fixture.coordinator.delete("g").await,
        Err(ErrorCode::GROUP_ID_NOT_FOUND)
    );
    let new = Fixture::on(Arc::clone(&fixture.log));
    new.lead_all(2).await;
    assert_eq!(send(&new, joining("b")).await.unwrap().epoch, 1);
}

#[tokio::test]
async fn sessions_of_consumers_stand_still_while_the_lease_is_away() {
    let fixture = Fixture::leading().await;
    send(&fixture, joining("a")).await.unwrap();
    let partition = fixture.coordinator.partition_of("g");
    fixture.log.set_led(partition, None);
    assert_eq!(
        code(&fixture, beat("a", 1)).await,
        ErrorCode::NOT_COORDINATOR
    );
    fixture.clock.advance(Duration::from_secs(60));
    settle().await;
    fixture.log.set_led(partition, Some(1));
    fixture.clock.advance(Duration::from_millis(50));
    settle().await;
    assert_eq!(send(&fixture, beat("a", 1)).await.unwrap().epoch, 1);
}

#[tokio::test]
async fn a_groups_own_configs_count_from_the_next_heartbeat_on_and_after_a_load() {
    let fixture = Fixture::leading().await;
    let broker = send(&fixture, joining("a")).await.unwrap();
    assert_eq!(broker.heartbeat_interval_ms, 5_000);
    let pace = Pace {
        session_timeout_ms: Some(60_000),
        heartbeat_interval_ms: Some(15_000),
    };
    fixture.topics.paces.lock().insert("g".to_owned(), pace);
    let own = send(&fixture, beat("a", 1)).await.unwrap();
    assert_eq!(own.heartbeat_interval_ms, 15_000);

    // Longer than the broker's own 45 s, at this coordinator and at one that takes over.
    fixture.clock.advance(Duration::from_secs(50));
    settle().await;
    assert_eq!(state(&fixture), Some("Stable"));
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.topics.paces.lock().insert("g".to_owned(), pace);
    next.lead("g", 2).await;
    next.clock.advance(Duration::from_secs(50));
    settle().await;
    assert_eq!(state(&next), Some("Stable"));

    // Without them the broker's count again, from the heartbeat on.
    next.topics.paces.lock().clear();
    let broker = send(&next, beat("a", 1)).await.unwrap();
    assert_eq!(broker.heartbeat_interval_ms, 5_000);
    next.clock.advance(Duration::from_secs(50));
    // A group of nobody and nothing is swept away at once.
    until(|| state(&next) != Some("Stable")).await;
}
