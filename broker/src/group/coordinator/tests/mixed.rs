//! A group of consumers rolls from one protocol to the other, member by member.

use bytes::Bytes;

use super::*;
use crate::group::{
    consumer::{Assignment, Heartbeat, Reply},
    embedded::Given,
    machine::{JoinReply, JoinRequest, Leaver, Protocol, SyncReply, SyncRequest},
    testing::TOPIC_ID,
};

/// What a cooperative member that holds `owned` says.
fn subscription(owned: &[i32]) -> Bytes {
    let mut said = b"\0\x01\0\0\0\x01\0\x06orders\xff\xff\xff\xff\0\0\0\x01\0\x06orders".to_vec();
    said.extend(u32::try_from(owned.len()).unwrap().to_be_bytes());
    owned.iter().for_each(|p| said.extend(p.to_be_bytes()));
    said.into()
}

async fn join(fixture: &Fixture, member_id: &str, owned: &[i32]) -> JoinReply {
    join_by(fixture, "cooperative-sticky", member_id, owned).await
}

async fn join_by(fixture: &Fixture, assignor: &str, member_id: &str, owned: &[i32]) -> JoinReply {
    let request = JoinRequest {
        member_id: member_id.into(),
        client_id: "c".into(),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: assignor.into(),
            metadata: subscription(owned),
        }],
        ..JoinRequest::default()
    };
    fixture.coordinator.join("g", request).await
}

async fn sync(fixture: &Fixture, joined: &JoinReply, gives: Vec<(String, Bytes)>) -> SyncReply {
    let request = SyncRequest {
        member_id: joined.member_id.clone(),
        generation: joined.generation,
        protocol: joined.protocol.clone(),
        assignments: gives,
        ..SyncRequest::default()
    };
    fixture.coordinator.sync("g", request).await
}

/// Partitions of an answer to SyncGroup.
fn given(reply: &SyncReply) -> Vec<i32> {
    assert_eq!(reply.error, ErrorCode::NONE);
    let given = Given::read(&reply.assignment).unwrap();
    given
        .places
        .iter()
        .map(|(_, partition)| *partition)
        .collect()
}

fn all(partitions: &[i32]) -> Bytes {
    let places = partitions.iter().map(|p| (TOPIC.to_owned(), *p));
    let given = Given {
        places: places.collect(),
        has_notes: false,
    };
    given.write(1)
}

fn held(reply: &Reply) -> Assignment {
    reply.assignment.clone().unwrap_or_default()
}

fn beats(fixture: &Fixture, member: &JoinReply) -> ErrorCode {
    let (id, generation) = (&member.member_id, member.generation);
    fixture.coordinator.heartbeat("g", id, None, generation)
}

/// The only member of a classic group, with all three partitions.
async fn classic(fixture: &Fixture) -> JoinReply {
    let joined = join(fixture, "", &[]).await;
    let gives = vec![(joined.member_id.clone(), all(&[0, 1, 2]))];
    assert_eq!(given(&sync(fixture, &joined, gives).await), [0, 1, 2]);
    joined
}

async fn consumer(fixture: &Fixture, epoch: i32, owned: Option<&Assignment>) -> Reply {
    let request = Heartbeat {
        member_id: "new".into(),
        epoch,
        rebalance_timeout_ms: Some(60_000),
        topics: Some(vec![TOPIC.into()]),
        owned: Some(owned.cloned().unwrap_or_default()),
        ..Heartbeat::default()
    };
    let sent = fixture.coordinator.consumer_heartbeat("g", request);
    sent.await.unwrap()
}

/// A group of one classic member with two partitions and one of the consumer protocol with the third.
async fn mixed(fixture: &Fixture) -> (JoinReply, Reply) {
    let old = classic(fixture).await;
    let joined = consumer(fixture, 0, None).await;
    assert!(held(&joined).is_empty(), "nothing is free yet");
    assert_eq!(beats(fixture, &old), ErrorCode::REBALANCE_IN_PROGRESS);
    // It hears what it may keep, gives up the rest and says so.
    let again = join(fixture, &old.member_id, &[0, 1, 2]).await;
    assert_eq!((again.error, again.leader.as_str()), (ErrorCode::NONE, ""));
    let kept = given(&sync(fixture, &again, Vec::new()).await);
    assert!(!kept.is_empty() && kept.len() < 3, "{kept:?}");
    assert_eq!(beats(fixture, &again), ErrorCode::REBALANCE_IN_PROGRESS);
    let settled = join(fixture, &old.member_id, &kept).await;
    assert_eq!(given(&sync(fixture, &settled, Vec::new()).await), kept);
    assert_eq!(beats(fixture, &settled), ErrorCode::NONE);
    let joined = consumer(fixture, joined.epoch, None).await;
    assert_eq!(held(&joined).len() + kept.len(), 3);
    assert!(kept.iter().all(|p| !held(&joined).contains(TOPIC_ID, *p)));
    (settled, joined)
}

#[tokio::test]
async fn partitions_pass_over_one_by_one_and_positions_stay() {
    let fixture = Fixture::leading().await;
    fixture.commit("g", 1, 5).await;
    let (old, _) = mixed(&fixture).await;
    assert_eq!(fixture.position("g", 1), Ok(5));
    let (id, generation) = (&old.member_id, old.generation);
    assert_eq!(fixture.commit_as("g", id, generation, 1, 6).await, Ok(()));
    assert_eq!(
        fixture.commit_as("g", id, generation - 1, 1, 7).await,
        Err(ErrorCode::ILLEGAL_GENERATION)
    );
    // The last one rolls over as well: it leaves, and comes back by the other protocol.
    let leaver = Leaver {
        member_id: id.clone(),
        instance_id: None,
    };
    assert_eq!(
        fixture.coordinator.leave("g", &[leaver]),
        Ok(vec![ErrorCode::NONE])
    );
    let group = fixture.coordinator.describe_consumer("g").unwrap().unwrap();
    assert_eq!(group.members.len(), 1);
    let alone = consumer(&fixture, group.members[0].0.epoch, None).await;
    assert_eq!(held(&alone).len(), 3);
}

#[tokio::test]
async fn a_group_passes_back_when_the_last_of_the_new_protocol_goes() {
    let fixture = Fixture::leading().await;
    let (old, new) = mixed(&fixture).await;
    let bye = Heartbeat {
        member_id: new.member_id,
        epoch: -1,
        ..Heartbeat::default()
    };
    fixture
        .coordinator
        .consumer_heartbeat("g", bye)
        .await
        .unwrap();
    assert!(
        fixture
            .coordinator
            .describe_consumer("g")
            .unwrap()
            .is_none()
    );
    let group = fixture.coordinator.describe("g").unwrap().unwrap();
    assert_eq!(group.members.len(), 1);
    assert_eq!(beats(&fixture, &old), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = join(&fixture, &old.member_id, &[]).await;
    assert_eq!(again.leader, old.member_id, "it leads again");
    assert!(again.generation > old.generation);
}

#[tokio::test]
async fn a_group_of_both_protocols_outlives_its_coordinator() {
    let fixture = Fixture::leading().await;
    let (old, new) = mixed(&fixture).await;
    let next = Fixture::on(Arc::clone(&fixture.log));
    next.lead_all(2).await;
    assert_eq!(beats(&next, &old), ErrorCode::NONE);
    assert_eq!(consumer(&next, new.epoch, None).await.epoch, new.epoch);
    // Each has the session that it asked for.
    next.clock.advance(Duration::from_secs(11));
    let members = || {
        let group = next.coordinator.describe_consumer("g").unwrap();
        group.map_or(0, |group| group.members.len())
    };
    until(|| members() == 1).await;
    assert_eq!(beats(&next, &old), ErrorCode::UNKNOWN_MEMBER_ID);
}

/// What a group's leader says to a member with a note.
const NOTED: &[u8] = b"\0\0\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\0\0\0\0\x02xy";

#[tokio::test]
async fn a_group_whose_members_say_more_than_the_new_protocol_keeps_does_not_pass() {
    let fixture = Fixture::leading().await;
    let joined = join_by(&fixture, "somebodys-own", "", &[]).await;
    let gives = vec![(joined.member_id.clone(), Bytes::from_static(NOTED))];
    assert_eq!(given(&sync(&fixture, &joined, gives).await), [0]);
    let refused = fixture
        .coordinator
        .consumer_heartbeat("g", newcomer())
        .await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(beats(&fixture, &joined), ErrorCode::NONE);
}

#[tokio::test]
async fn the_notes_of_kafkas_own_assignors_hold_nobody_back() {
    let fixture = Fixture::leading().await;
    let joined = join(&fixture, "", &[]).await;
    let gives = vec![(joined.member_id.clone(), Bytes::from_static(NOTED))];
    assert_eq!(given(&sync(&fixture, &joined, gives).await), [0]);
    let sent = fixture.coordinator.consumer_heartbeat("g", newcomer());
    assert!(!held(&sent.await.unwrap()).contains(TOPIC_ID, 0));
    assert_eq!(beats(&fixture, &joined), ErrorCode::REBALANCE_IN_PROGRESS);
}

fn newcomer() -> Heartbeat {
    Heartbeat {
        member_id: "new".into(),
        rebalance_timeout_ms: Some(1_000),
        topics: Some(vec![TOPIC.into()]),
        owned: Some(Assignment::default()),
        ..Heartbeat::default()
    }
}
