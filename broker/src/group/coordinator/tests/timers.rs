//! When sessions end: for whoever asks, for members that wait, and where the lease comes and goes.

use super::*;
use crate::group::consumer::{Assignment, Heartbeat};

fn advance(fixture: &Fixture, ms: u64) {
    fixture.clock.advance(Duration::from_millis(ms));
}

/// The lease is away for this long, and somebody is turned away.
async fn lose_the_lease(fixture: &Fixture, ms: u64) {
    let group = &fixture.coordinator;
    lose_the_lease_while(fixture, ms, || {
        let refused = group.heartbeat("app", "another", None, 1);
        assert_eq!(refused, ErrorCode::NOT_COORDINATOR);
    })
    .await;
}

async fn lose_the_lease_while(fixture: &Fixture, ms: u64, meanwhile: impl FnOnce()) {
    let partition = fixture.coordinator.partition_of("app");
    fixture.log.set_led(partition, None);
    advance(fixture, ms);
    settle().await;
    meanwhile();
    fixture.log.set_led(partition, Some(1));
    advance(fixture, 50);
    settle().await;
}

fn state(fixture: &Fixture) -> &'static str {
    let found = fixture.coordinator.describe("app").unwrap();
    found.map_or("none", |found| found.state.name())
}

fn consumer_state(fixture: &Fixture) -> &'static str {
    let found = fixture.coordinator.describe_consumer("app").unwrap();
    found.map_or("none", |found| found.state.name())
}

async fn consumer(fixture: &Fixture) {
    let joining = Heartbeat {
        member_id: "a".into(),
        rebalance_timeout_ms: Some(10_000),
        topics: Some(vec![TOPIC.to_owned()]),
        owned: Some(Assignment::default()),
        ..Heartbeat::default()
    };
    let joined = fixture.coordinator.consumer_heartbeat("app", joining).await;
    assert_eq!(joined.unwrap().epoch, 1);
}

#[tokio::test]
async fn a_session_is_over_for_whoever_asks_at_its_end() {
    let fixture = Fixture::leading().await;
    fixture.stable("app").await;
    advance(&fixture, 9_999);
    assert_eq!(state(&fixture), "Stable");
    // The task that drives the timers has no turn before the question.
    advance(&fixture, 1);
    assert_eq!(state(&fixture), "Empty");
    assert_eq!(fixture.coordinator.delete("app").await, Ok(()));

    fixture.stable("app").await;
    advance(&fixture, 10_000);
    let (_, listed) = fixture.coordinator.list();
    assert_eq!(listed[0].state, "Empty");
    assert_eq!(fixture.coordinator.delete("app").await, Ok(()));

    consumer(&fixture).await;
    advance(&fixture, 44_999);
    assert_eq!(consumer_state(&fixture), "Stable");
    advance(&fixture, 1);
    assert_eq!(consumer_state(&fixture), "Empty");
    assert_eq!(fixture.coordinator.delete("app").await, Ok(()));
}

#[tokio::test]
async fn timers_are_looked_at_when_the_next_one_is_due() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("app").await;
    let heard = || {
        let group = &fixture.coordinator;
        group.heartbeat("app", &member_id, None, generation)
    };
    advance(&fixture, 9_980);
    settle().await;
    advance(&fixture, 20);
    settle().await;
    assert_eq!(heard(), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn time_without_the_lease_does_not_count_and_a_member_that_spoke_in_vain_can_speak_again() {
    let fixture = Fixture::leading().await;
    let (member_id, generation) = fixture.stable("app").await;
    advance(&fixture, 9_900);
    settle().await;
    lose_the_lease(&fixture, 60_000).await;
    advance(&fixture, 4_900);
    settle().await;
    let group = &fixture.coordinator;
    assert_eq!(
        group.heartbeat("app", &member_id, None, generation),
        ErrorCode::NONE
    );
    advance(&fixture, 10_000);
    assert_eq!(state(&fixture), "Empty");
}

#[tokio::test]
async fn a_lease_that_is_back_at_once_and_turned_nobody_away_prolongs_nothing() {
    let fixture = Fixture::leading().await;
    fixture.stable("app").await;
    lose_the_lease_while(&fixture, 100, || ()).await;
    advance(&fixture, 9_849);
    assert_eq!(state(&fixture), "Stable");
    advance(&fixture, 1);
    assert_eq!(state(&fixture), "Empty");

    let fixture = Fixture::leading().await;
    fixture.stable("app").await;
    let group = &fixture.coordinator;
    lose_the_lease_while(&fixture, 100, || group.could_not_hear("app")).await;
    advance(&fixture, 9_850);
    assert_eq!(state(&fixture), "Stable");

    let fixture = Fixture::leading().await;
    fixture.stable("app").await;
    // Whoever had something to say may have gone to ask elsewhere.
    lose_the_lease_while(&fixture, 2_000, || ()).await;
    advance(&fixture, 9_000);
    assert_eq!(state(&fixture), "Stable");
}

#[tokio::test]
async fn a_dead_member_goes_however_often_the_lease_is_lost() {
    let fixture = Fixture::leading().await;
    fixture.stable("app").await;
    for _ in 0..10 {
        advance(&fixture, 1_500);
        settle().await;
        lose_the_lease(&fixture, 100).await;
    }
    // Empty, and perhaps swept away, for it has no positions.
    assert_ne!(state(&fixture), "Stable");

    let fixture = Fixture::leading().await;
    consumer(&fixture).await;
    for _ in 0..10 {
        advance(&fixture, 7_000);
        settle().await;
        lose_the_lease(&fixture, 100).await;
    }
    assert_ne!(consumer_state(&fixture), "Stable");
}
