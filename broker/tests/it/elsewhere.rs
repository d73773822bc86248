//! Two failover groups: what a lossy move of one means to the consumers whose groups belong to the other.

use std::ops::Range;

use whimbrel_fleet::{
    AcceptLoss, Clamp, GroupName, MoveMode, TopicPartition,
    naming::CONSUMER_OFFSETS,
    restore::{Description, Topic},
};
use whimbrel_wire::{
    ErrorCode,
    messages::{consumer_group_heartbeat, offset_commit, offset_fetch},
};

use crate::{
    client::{Client, idempotent},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    lost::written_about_groups,
    mirror::{Ends, Mirror},
    moves::{apply, apply_to, until_end},
    patient::Patient,
    restored::{group, restore, topic},
};

/// The topic's; consumer groups belong to the default one.
const SHOP: &str = "shop";
const GROUP: &str = "g";
const MEMBER: &str = "m";
/// What both regions have of the topic, and what only the first has.
const BOTH: i64 = 6;
const ALL: i64 = 10;
/// The new home's end.
const END: i64 = 12;

/// Both groups at home in east, where all is.
async fn two_groups(fleet: &Fleet, east: &Broker, west: &Broker) {
    for broker in [east, west] {
        eventually("the fleet's own logs", async || {
            broker.partition(CONSUMER_OFFSETS, 49).await
        })
        .await;
    }
    let orders = Topic {
        group: SHOP.into(),
        ..topic("orders", 71, 1)
    };
    let description = Description {
        groups: vec![group(GroupName::default_group()), group(SHOP.into())],
        topics: vec![topic(CONSUMER_OFFSETS, 70, 50), orders],
        producer_ids: 1_000_000,
        ..Description::default()
    };
    let begun = fleet.client.begin_restore(&restore(), &description).await;
    begun.unwrap();
    eventually("copies of all logs", async || {
        let progress = fleet.client.restore_progress().await.unwrap();
        (progress.there == 51).then_some(())
    })
    .await;
    apply(fleet, EAST, MoveMode::Failover, AcceptLoss::Unknown).await;
    lose(fleet, SHOP, EAST).await;
    fleet.client.end_restore("job").await.unwrap();
}

async fn lose(fleet: &Fleet, group: &str, to: &str) {
    let unknown = AcceptLoss::Unknown;
    apply_to(fleet, group.into(), to, MoveMode::Failover, unknown).await;
}

/// Carries everything to west but what is lost of the topic.
async fn carry(fleet: &Fleet, east: &Broker, west: &Broker) -> Mirror {
    let view = fleet.view();
    let orders = TopicPartition::new(view.topics["orders"].id, 0);
    Mirror::start_until(
        east.handle.replica,
        west.handle.replica,
        &east.handle.fleet_id,
        west.handle.follower().region,
        view.groups[&GroupName::default_group()].epoch,
        Ends::from([(orders, BOTH)]),
    )
    .await
}

async fn heartbeat(client: &mut Patient, member_epoch: i32) -> (ErrorCode, i32) {
    let request = consumer_group_heartbeat::Request {
        group_id: GROUP.into(),
        member_id: MEMBER.into(),
        member_epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["orders".into()]),
        topic_partitions: Some(Vec::new()),
        ..consumer_group_heartbeat::Request::default()
    };
    let answer = client.settled(1, &request, |answer| answer.error_code);
    let answer = answer.await;
    (answer.error_code, answer.member_epoch)
}

async fn join(client: &mut Patient) -> i32 {
    let (code, epoch) = heartbeat(client, 0).await;
    assert_eq!(code, ErrorCode::NONE);
    epoch
}

async fn commit(client: &mut Patient, member_epoch: i32, offset: i64) -> ErrorCode {
    let partition = offset_commit::OffsetCommitRequestPartition {
        committed_offset: offset,
        ..offset_commit::OffsetCommitRequestPartition::default()
    };
    let topic = offset_commit::OffsetCommitRequestTopic {
        name: "orders".into(),
        partitions: vec![partition],
        ..offset_commit::OffsetCommitRequestTopic::default()
    };
    let request = offset_commit::Request {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: member_epoch,
        member_id: MEMBER.into(),
        topics: vec![topic],
        ..offset_commit::Request::default()
    };
    let code = |answer: &offset_commit::Response| answer.topics[0].partitions[0].error_code;
    code(&client.settled(9, &request, code).await)
}

async fn position(client: &mut Patient) -> i64 {
    let topic = offset_fetch::OffsetFetchRequestTopics {
        name: "orders".into(),
        partition_indexes: vec![0],
        ..offset_fetch::OffsetFetchRequestTopics::default()
    };
    let group = offset_fetch::OffsetFetchRequestGroup {
        group_id: GROUP.into(),
        topics: Some(vec![topic]),
        ..offset_fetch::OffsetFetchRequestGroup::default()
    };
    let request = offset_fetch::Request {
        groups: vec![group],
        ..offset_fetch::Request::default()
    };
    let answer = client.settled(8, &request, |answer| answer.groups[0].error_code);
    answer.await.groups[0].topics[0].partitions[0].committed_offset
}

/// Each as a batch of its own, of which the broker knows what it has when it is sent again.
async fn write(broker: &Broker, producer: i64, values: &[String]) {
    let mut client = Client::connect(broker.handle.kafka).await;
    for (sequence, value) in (0..).zip(values) {
        let records = idempotent(producer, sequence, &[value]);
        client.produce_ok("orders", 0, records).await;
    }
}

fn values(kind: &str, offsets: Range<i64>) -> Vec<String> {
    offsets.map(|offset| format!("{kind} {offset}")).collect()
}

async fn read(broker: &Broker, from: i64) -> Vec<String> {
    let mut reader = Client::connect(broker.handle.kafka).await;
    reader.consume("orders", 0, from).await
}

/// A member that committed all that its home had, of which the other region lacks the end.
async fn ahead(fleet: &Fleet, east: &Broker, west: &Broker) -> (Patient, i32, Mirror) {
    let carried = carry(fleet, east, west).await;
    let all = [values("kept", 0..BOTH), values("lost", BOTH..ALL)].concat();
    write(east, 7, &all).await;
    until_end(west, "orders", BOTH).await;
    let mut client = Patient::new(east.handle.kafka);
    let epoch = join(&mut client).await;
    assert_eq!(commit(&mut client, epoch, ALL).await, ErrorCode::NONE);
    (client, epoch, carried)
}

/// The records that take the lost ones' offsets, and further ones.
async fn write_on(west: &Broker) -> Vec<String> {
    let new = values("new", BOTH..END);
    write(west, 8, &new).await;
    new
}

/// That the move is reported to have set the group back.
async fn until_reported(fleet: &Fleet) {
    let expected = Clamp {
        consumer_group: GROUP.into(),
        topic: "orders".into(),
        partition: 0,
        from: ALL,
        to: BOTH,
    };
    eventually("the clamp in the report", async || {
        let report = fleet.client.move_status(&SHOP.into()).await.ok()??;
        report.clamps.contains(&expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stayed_sets_positions_back_and_lets_go_of_who_read_on() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    two_groups(&fleet, &east, &west).await;
    let (mut client, epoch, carried) = ahead(&fleet, &east, &west).await;
    lose(&fleet, SHOP, WEST).await;
    let new = write_on(&west).await;
    until_reported(&fleet).await;
    let home = &fleet.view().groups[&GroupName::default_group()].home;
    assert_eq!(home.as_str(), EAST, "the coordinator did not move");
    assert_eq!(
        heartbeat(&mut client, epoch).await.0,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    assert_eq!(
        commit(&mut client, epoch, ALL).await,
        ErrorCode::UNKNOWN_MEMBER_ID,
        "what it read before counts for nothing"
    );
    let epoch = join(&mut client).await;
    let from = position(&mut client).await;
    assert_eq!(from, BOTH);
    assert_eq!(read(&west, from).await, new);
    // What it commits now stays, also in the coordinator's next start.
    assert_eq!(commit(&mut client, epoch, END).await, ErrorCode::NONE);
    drop((client, carried));
    east.kill().await;
    let east = fleet.broker(1, EAST).await;
    let mut client = Patient::new(east.handle.kafka);
    assert_eq!(position(&mut client).await, END);
    assert_eq!(heartbeat(&mut client, epoch).await.0, ErrorCode::NONE);
    east.stop().await;
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_was_away_sets_positions_back_before_it_answers() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    two_groups(&fleet, &east, &west).await;
    let (client, epoch, carried) = ahead(&fleet, &east, &west).await;
    eventually("the positions in west", async || {
        let written = written_about_groups(&east).await;
        (!written.is_empty() && written == written_about_groups(&west).await).then_some(())
    })
    .await;
    drop((client, carried));
    east.kill().await;
    // Nobody coordinates; the topic's new home takes writes nevertheless.
    lose(&fleet, SHOP, WEST).await;
    let new = write_on(&west).await;
    lose(&fleet, "default", WEST).await;
    let mut client = Patient::new(west.handle.kafka);
    let from = position(&mut client).await;
    assert_eq!(from, BOTH);
    assert_eq!(read(&west, from).await, new);
    assert_eq!(
        heartbeat(&mut client, epoch).await.0,
        ErrorCode::UNKNOWN_MEMBER_ID
    );
    until_reported(&fleet).await;
    west.stop().await;
}
