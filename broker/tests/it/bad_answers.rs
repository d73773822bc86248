//! What answers may cost that nobody takes, and fetches that wait: counted as in [`crate::bad_memory`], in processes of
//! their own, while a healthy client goes on.

use std::{net::SocketAddr, time::Duration};

use tokio::{io::AsyncWriteExt, net::TcpSocket};
use whimbrel_broker::Limits;
use whimbrel_runtime::{Clock, unit::Size};
use whimbrel_wire::{
    ErrorCode, Request,
    messages::{describe_groups, fetch, metadata, offset_commit, offset_fetch, produce},
};

use crate::{
    bad_memory::{IDLE, MIB, serves, started},
    client::{Client, batch, fetch_request, produce_request},
    fleet::Broker,
    memory::{is_apart, watch},
    patient::Patient,
    raw::encoded,
};

/// Hostile connections at a time.
const CROWD: usize = 200;
/// What a connection may hold whatever others do: its request, what that is decoded to, its answer.
const OWN: usize = (64 + 32 + 64) << 10;
/// Partitions of the topic `wide`.
const WIDE: i32 = 1_000;

fn limits() -> Limits {
    Limits {
        answer_memory: Size::mib(16),
        request_memory: Size::mib(8),
        ..Limits::default()
    }
}

/// Of all that clients can make the broker hold together.
fn bound(connections: usize) -> usize {
    // Those that read for an answer at the same time hold what they find before it is weighed.
    let at_once = std::thread::available_parallelism().unwrap().get() + 1;
    (16 + 8 + 2 * at_once) * MIB + connections * OWN + IDLE
}

/// One that takes as little off its socket as a socket can.
async fn deaf(to: SocketAddr) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    Client::over(socket.connect(to).await.unwrap())
}

async fn crowd<R: Request>(broker: &Broker, version: i16, request: &R) -> Vec<Client> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut client = deaf(broker.handle.kafka).await;
        client.send(version, request).await;
        crowd.push(client);
    }
    crowd
}

/// Batches that are longer than what every connection may always hold go to a healthy client, too.
async fn is_served(broker: &Broker) {
    let mut healthy = Patient::new(broker.handle.kafka);
    let text = "x".repeat(MIB / 4);
    for _ in 0..20 {
        let told = healthy.produce("healthy", batch(&[&text])).await;
        assert_eq!(told.error_code, ErrorCode::NONE);
        let read = healthy.fetch("healthy", told.base_offset).await;
        assert!(read.records.unwrap().len() >= text.len());
        serves(broker).await;
    }
}

/// Each partition is named thrice, which makes the request a long one: room for what it may become is taken beforehand.
fn stands_at_all(topic: &str) -> fetch::Request {
    let mut request = fetch_request(topic, 0, 0, 300_000);
    request.min_bytes = i32::MAX;
    let first = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..3 * WIDE)
        .map(|partition| fetch::FetchPartition {
            partition: partition % WIDE,
            ..first.clone()
        })
        .collect();
    request
}

/// Positions of the group `g` in all partitions of `wide`, each with as much beside it as there may be.
async fn commit_with_long_notes(broker: &Broker) {
    let mut patient = Patient::new(broker.handle.kafka);
    let note = "n".repeat(4_000);
    let partitions: Vec<_> = (0..WIDE)
        .map(
            |partition_index| offset_commit::OffsetCommitRequestPartition {
                partition_index,
                committed_metadata: Some(note.clone()),
                ..offset_commit::OffsetCommitRequestPartition::default()
            },
        )
        .collect();
    for some in partitions.chunks(100) {
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: "wide".into(),
            partitions: some.to_vec(),
            ..offset_commit::OffsetCommitRequestTopic::default()
        };
        let commit = offset_commit::Request {
            group_id: "g".into(),
            topics: vec![topic],
            ..offset_commit::Request::default()
        };
        let told = patient
            .settled(7, &commit, |told| told.topics[0].partitions[0].error_code)
            .await;
        assert_eq!(told.topics[0].partitions[0].error_code, ErrorCode::NONE);
    }
}

/// One after the other, since a thousand partitions take a while to make.
#[tokio::test(flavor = "multi_thread")]
async fn crowds_at_a_thousand_partitions_stay_within_their_room() {
    if !is_apart("bad_answers::crowds_at_a_thousand_partitions_stay_within_their_room") {
        return;
    }
    let (_fleet, broker) = started(limits()).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let created = client.create_topic("wide", WIDE, &[]).await;
    assert_eq!(created, ErrorCode::NONE);
    client.create_topic("healthy", 1, &[]).await;
    is_served(&broker).await;
    fetches_that_wait(&broker).await;
    commit_with_long_notes(&broker).await;
    positions_that_nobody_reads(&broker).await;
    what_is_named_often(&broker).await;
    broker.stop().await;
}

async fn fetches_that_wait(broker: &Broker) {
    let request = stands_at_all("wide");
    let held = watch();
    let mut waiting = crowd(broker, 11, &request).await;
    is_served(broker).await;
    held.assert_at_most(bound(CROWD), "fetches that wait");
    // Who was sent away for others' sake got an answer, and may ask again.
    let mut first = waiting.swap_remove(0);
    let (_, early) = first.receive::<fetch::Request>(11).await;
    assert_eq!(early.responses[0].partitions.len(), WIDE as usize);
}

async fn positions_that_nobody_reads(broker: &Broker) {
    let all = offset_fetch::Request {
        group_id: "g".into(),
        topics: None,
        ..offset_fetch::Request::default()
    };
    let held = watch();
    let _unread = crowd(broker, 5, &all).await;
    is_served(broker).await;
    // Four megabytes each, as they are found and as they are written, for those that are made at the same time.
    held.assert_at_most(2 * bound(CROWD), "positions that nobody reads");
}

/// However often a request names a thing, it is told once.
async fn what_is_named_often(broker: &Broker) {
    const OFTEN: usize = 50_000;
    let named = metadata::MetadataRequestTopic {
        name: Some("wide".into()),
        ..metadata::MetadataRequestTopic::default()
    };
    let topics = metadata::Request {
        topics: Some(vec![named; OFTEN]),
        ..metadata::Request::default()
    };
    let groups = describe_groups::Request {
        groups: vec!["g".into(); OFTEN],
        ..describe_groups::Request::default()
    };
    let one = offset_fetch::OffsetFetchRequestTopic {
        name: "wide".into(),
        partition_indexes: vec![7; OFTEN],
    };
    let positions = offset_fetch::Request {
        group_id: "g".into(),
        topics: Some(vec![one]),
        ..offset_fetch::Request::default()
    };
    let mut patient = Patient::new(broker.handle.kafka);
    let held = watch();
    let told = patient.ask(8, &topics).await.unwrap();
    assert_eq!(told.topics.len(), 1);
    assert_eq!(told.topics[0].partitions.len(), WIDE as usize);
    assert_eq!(patient.ask(5, &groups).await.unwrap().groups.len(), 1);
    let told = patient.ask(5, &positions).await.unwrap();
    assert_eq!(told.topics[0].partitions.len(), 1);
    held.assert_at_most(bound(1), "what is named often");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_fifty_megabytes_that_nobody_reads_stay_within_their_room() {
    if !is_apart("bad_answers::answers_of_fifty_megabytes_that_nobody_reads_stay_within_their_room")
    {
        return;
    }
    let (_fleet, broker) = started(limits()).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("large", 1, &[]).await;
    client.create_topic("healthy", 1, &[]).await;
    let text = "x".repeat(MIB * 9 / 10);
    for _ in 0..56 {
        client.produce_ok("large", 0, batch(&[&text])).await;
    }
    is_served(&broker).await;
    let mut request = fetch_request("large", 0, 0, 0);
    request.max_bytes = i32::MAX;
    request.topics[0].partitions[0].partition_max_bytes = i32::MAX;
    let held = watch();
    let unread = crowd(&broker, 11, &request).await;
    is_served(&broker).await;
    held.assert_at_most(bound(CROWD), "answers that nobody reads");
    drop(unread);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_the_thousand_that_nobody_reads_stay_within_their_room() {
    if !is_apart("bad_answers::refusals_by_the_thousand_that_nobody_reads_stay_within_their_room") {
        return;
    }
    const WRITERS: usize = 10;
    let (_fleet, broker) = started(limits()).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("healthy", 1, &[]).await;
    is_served(&broker).await;
    // Eight bytes a partition, none of which there is.
    let mut request = produce_request("nowhere", 0, batch(&["x"]), -1);
    let partition = produce::PartitionProduceData {
        index: 7,
        records: None,
    };
    request.topic_data[0].partition_data = vec![partition; 2_000];
    // So many that what sockets hold is full, and the pipeline behind them.
    let many = encoded(8, None, &request).repeat(400);
    let held = watch();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        writers.push(deaf(broker.handle.kafka).await);
    }
    let clock = Clock::system();
    for writer in &mut writers {
        let written = writer.stream.write_all(&many);
        clock.within(Duration::from_secs(1), written).await;
    }
    is_served(&broker).await;
    held.assert_at_most(bound(WRITERS), "refusals that nobody reads");
    drop(writers);
    broker.stop().await;
}
