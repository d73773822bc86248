//! A lossy move lets go of all members of before, for good, and of nobody else.

use bytes::Bytes;

use super::{
    consumers::{beat, code, joining, send},
    *,
};
use crate::{group::machine::Protocol, txn::Producer};

/// The next home, in the epoch of a lossy move that cut the group's log where it ends now. With how to lead there again.
struct Moved {
    home: Fixture,
    partition: i32,
    limits: Arc<Limits>,
}

impl Moved {
    async fn from(old: &Fixture, group: &str) -> Self {
        let partition = old.coordinator.partition_of(group);
        let moved_at = old.log.end(partition);
        let limits = limits(90, Some((partition, moved_at)));
        let mut moved = Self {
            home: Fixture::on(Arc::clone(&old.log)),
            partition,
            limits,
        };
        moved.lead(2, true).await;
        moved
    }

    /// Another broker leads, in the same epoch of the region (`cut`) or after a switchover.
    async fn lead(&mut self, epoch: i32, cut: bool) {
        self.home = Fixture::on(Arc::clone(&self.home.log));
        self.home.log.set_led(self.partition, Some(epoch));
        let limits = cut.then(|| Arc::clone(&self.limits));
        let home = &self.home.coordinator;
        home.lead(self.partition, epoch, limits);
        home.clamped(self.partition).await.unwrap();
    }

    fn beat(&self, id: &str, generation: i32) -> ErrorCode {
        let home = &self.home.coordinator;
        home.heartbeat("app", id, None, generation)
    }
}

#[tokio::test]
async fn of_a_classic_group_all_join_again_and_begin_at_the_commit() {
    let old = Fixture::leading().await;
    let (id, generation) = old.stable("app").await;
    let committed = old.commit_as("app", &id, generation, 0, 40).await;
    assert_eq!(committed, Ok(()));
    let mut moved = Moved::from(&old, "app").await;
    assert_eq!(moved.beat(&id, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        moved.home.commit_as("app", &id, generation, 0, 80).await,
        Err(ErrorCode::UNKNOWN_MEMBER_ID),
        "what it went on at counts for nothing"
    );
    assert_eq!(moved.home.position("app", 0), Ok(40));
    // Nobody joined yet: they are gone for whoever leads next, too.
    for (epoch, cut) in [(3, true), (4, false)] {
        moved.lead(epoch, cut).await;
        assert_eq!(moved.beat(&id, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    let (id, generation) = moved.home.stable("app").await;
    for (epoch, cut) in [(5, true), (6, false)] {
        moved.lead(epoch, cut).await;
        assert_eq!(moved.beat(&id, generation), ErrorCode::NONE);
    }
}

#[tokio::test]
async fn of_a_consumer_group_all_join_again_and_only_they_are_members() {
    let old = Fixture::leading().await;
    send(&old, joining("b")).await.unwrap();
    let epoch = send(&old, joining("a")).await.unwrap().epoch;
    assert_eq!(old.commit_as("g", "a", epoch, 0, 40).await, Ok(()));
    let mut moved = Moved::from(&old, "g").await;
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID;
    assert_eq!(code(&moved.home, beat("a", epoch)).await, unknown);
    let refused = moved.home.commit_as("g", "a", epoch, 0, 80).await;
    assert_eq!(refused, Err(unknown));
    assert_eq!(moved.home.position("g", 0), Ok(40));
    let joined = send(&moved.home, joining("a")).await.unwrap();
    assert!(joined.epoch > epoch, "{joined:?}");
    for (epoch, cut) in [(3, true), (4, false)] {
        moved.lead(epoch, cut).await;
        let known = send(&moved.home, beat("a", joined.epoch)).await.unwrap();
        assert_eq!(known.epoch, joined.epoch);
        let group = moved.home.coordinator.describe_consumer("g").unwrap();
        assert_eq!(group.unwrap().members.len(), 1, "b did not join again");
    }
}

#[tokio::test]
async fn a_static_member_is_not_told_that_another_took_its_place() {
    let old = Fixture::leading().await;
    let request = JoinRequest {
        instance_id: Some("i".into()),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: Bytes::new(),
        }],
        ..JoinRequest::default()
    };
    let joined = old.coordinator.join("app", request.clone()).await;
    let sync = SyncRequest {
        member_id: joined.member_id.clone(),
        instance_id: Some("i".into()),
        generation: joined.generation,
        ..SyncRequest::default()
    };
    let synced = old.coordinator.sync("app", sync).await;
    assert_eq!(synced.error, ErrorCode::NONE);
    let moved = Moved::from(&old, "app").await;
    let home = &moved.home.coordinator;
    assert_eq!(
        home.heartbeat("app", &joined.member_id, Some("i"), joined.generation),
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    let again = home.join("app", request).await;
    assert_eq!(again.error, ErrorCode::NONE);
    assert!(again.generation > joined.generation);
}

#[tokio::test]
async fn positions_in_a_transaction_of_a_member_of_before_are_refused() {
    let old = Fixture::leading().await;
    let (id, generation) = old.stable("app").await;
    let moved = Moved::from(&old, "app").await;
    let committer = Committer {
        group: "app".into(),
        member_id: id,
        generation,
        ..Committer::default()
    };
    let who = Producer { id: 7, epoch: 0 };
    let admission = moved.home.coordinator.admit("app", who).unwrap();
    let commits = vec![commit(0, 80)];
    let home = &moved.home.coordinator;
    let refused = home.commit_in_transaction(&committer, commits, who, admission);
    assert_eq!(refused.await, Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test]
async fn positions_of_a_group_without_members_count_their_age_from_the_move_on() {
    let old = Fixture::leading().await;
    let (id, generation) = old.stable("app").await;
    let committed = old.commit_as("app", &id, generation, 0, 40).await;
    assert_eq!(committed, Ok(()));
    let moved_at = old.log.end(old.coordinator.partition_of("app"));
    let new = Fixture::on(Arc::clone(&old.log));
    // It was stable for longer than positions of an empty group are kept.
    new.clock.advance(Duration::from_secs(8 * 24 * 3600));
    let partition = new.coordinator.partition_of("app");
    new.log.set_led(partition, Some(2));
    let limits = limits(90, Some((partition, moved_at)));
    new.coordinator.lead(partition, 2, Some(limits));
    new.coordinator.clamped(partition).await.unwrap();
    for _ in 0..3 {
        new.clock.advance(Duration::from_secs(2));
        settle().await;
    }
    assert_eq!(new.position("app", 0), Ok(40));
}

#[tokio::test]
async fn what_was_written_half_way_is_finished_when_it_is_tried_again() {
    let old = Fixture::leading().await;
    let epoch = send(&old, joining("a")).await.unwrap().epoch;
    let partition = old.coordinator.partition_of("g");
    let moved_at = old.log.end(partition);
    let new = Fixture::on(Arc::clone(&old.log));
    new.log.set_led(partition, Some(2));
    new.log
        .fail_next(Fault::Unanswered(ErrorCode::REQUEST_TIMED_OUT));
    new.coordinator
        .lead(partition, 2, Some(limits(90, Some((partition, moved_at)))));
    let clock = new.clock.clone();
    until(|| {
        clock.advance(Duration::from_secs(1));
        new.position("g", 0).is_ok()
    })
    .await;
    assert_eq!(
        code(&new, beat("a", epoch)).await,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    // An empty group is not written again for it.
    let batches = new.log.batches();
    let again = Fixture::on(Arc::clone(&new.log));
    again.log.set_led(partition, Some(3));
    again
        .coordinator
        .lead(partition, 3, Some(limits(90, Some((partition, moved_at)))));
    again.coordinator.clamped(partition).await.unwrap();
    assert_eq!(again.log.batches(), batches);
}
