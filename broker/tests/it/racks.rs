//! Consumers that name where they stand (KIP-392): who sends them to a copy there, and what the copy does.

use std::net::SocketAddr;

use whimbrel_runtime::unit::Span;
use whimbrel_wire::{ErrorCode, messages::fetch::PartitionData};

use crate::{
    client::{Client, batch, fetch_request},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    mirror::Mirror,
    moves::{mirror, until_end},
};

/// A node id that no other test has.
const ALONE: i32 = 72;

/// One fetch of a consumer in `rack`.
async fn read(at: SocketAddr, rack: &str, offset: i64) -> PartitionData {
    let mut request = fetch_request("t", 0, offset, 0);
    request.rack_id = rack.into();
    let mut response = Client::connect(at).await.call(12, request).await;
    response.responses.remove(0).partitions.remove(0)
}

fn len(data: &PartitionData) -> usize {
    data.records.as_ref().map_or(0, bytes::Bytes::len)
}

/// Served here: records, and nobody named who should be asked instead.
fn is_served(data: &PartitionData) -> bool {
    data.error_code.is_none() && data.preferred_read_replica == -1 && len(data) > 0
}

/// Sent to `node`, without a record: clients skip those of such an answer.
fn is_sent_to(data: &PartitionData, node: i32) -> bool {
    data.error_code.is_none() && data.preferred_read_replica == node && len(data) == 0
}

/// Ten records at home in east and in west, where broker `id` stands.
async fn two_regions(fleet: &Fleet, id: i32) -> (Broker, Broker, Mirror) {
    let east = fleet.broker(1, EAST).await;
    let mut options = fleet.options(id, WEST);
    options.replica_lag_time = Span::millis(300);
    let west = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(fleet, &east, &west).await;
    for n in 0..10 {
        client.produce_ok("t", 0, batch(&[&format!("v{n}")])).await;
    }
    until_end(&west, "t", 10).await;
    (east, west, carried)
}

/// What the broker in west sent to consumers. Brokers of other tests of this process count beside it.
async fn sent(west: &Broker) -> f64 {
    let told = west.get("/metrics").await;
    let node = format!("node=\"{ALONE}\"");
    let of_it = |l: &&str| l.starts_with("whimbrel_fetched_bytes_total") && l.contains(&node);
    let mut lines = told.lines().filter(of_it);
    let count = lines
        .next()
        .and_then(|l| l.rsplit(' ').next()?.parse().ok());
    assert_eq!(lines.next(), None, "one counter of one broker");
    count.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_sent_to_the_copy_of_its_region_and_served_there() {
    let fleet = Fleet::start().await;
    let (east, west, _carried) = two_regions(&fleet, ALONE).await;
    let (home, there) = (east.handle.kafka, west.handle.kafka);
    for offset in [0, 5, 10] {
        eventually("an answer that names west", async || {
            is_sent_to(&read(home, WEST, offset).await, ALONE).then_some(())
        })
        .await;
    }
    let metadata = Client::connect(home).await.metadata("t").await;
    let named = metadata
        .brokers
        .iter()
        .find(|b| b.node_id == ALONE)
        .unwrap();
    assert_eq!(named.rack.as_deref(), Some(WEST));
    let placed = &metadata.topics[0].partitions[0];
    assert!(placed.replica_nodes.contains(&ALONE) && placed.offline_replicas.is_empty());
    let copied = eventually("the high watermark in west", async || {
        Some(read(there, WEST, 0).await).filter(|d| d.high_watermark == 10)
    })
    .await;
    assert!(is_served(&copied));
    for rack in [EAST, "", "elsewhere"] {
        let own = read(home, rack, 0).await;
        assert!(is_served(&own), "{rack}");
        assert_eq!(own.records, copied.records);
    }
    let before = sent(&west).await;
    let again = read(there, WEST, 0).await;
    let counted = sent(&west).await - before;
    assert_eq!(counted, len(&again) as f64, "what it sends it counts");
    let unnamed = read(there, "", 0).await;
    assert_eq!(
        unnamed.error_code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        "who names no place only has old metadata"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_fed_gets_no_consumers_and_sends_away_those_it_has() {
    let fleet = Fleet::start().await;
    let (east, west, carried) = two_regions(&fleet, 2).await;
    let (home, there) = (east.handle.kafka, west.handle.kafka);
    eventually("an answer that names west", async || {
        is_sent_to(&read(home, WEST, 0).await, 2).then_some(())
    })
    .await;
    drop(carried);
    let mut client = Client::connect(home).await;
    client.produce_ok("t", 0, batch(&["late", "later"])).await;
    eventually("the home serving it itself", async || {
        is_served(&read(home, WEST, 0).await).then_some(())
    })
    .await;
    assert!(
        is_served(&read(there, WEST, 0).await),
        "what it has it serves"
    );
    let ahead = read(there, WEST, 11).await;
    assert_eq!(ahead.error_code, ErrorCode::OFFSET_NOT_AVAILABLE);
    let at_end = eventually("a refusal at its end", async || {
        Some(read(there, WEST, 10).await).filter(|d| d.error_code.is_error())
    })
    .await;
    assert_eq!(at_end.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(at_end.current_leader.leader_id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_no_writes_and_names_the_leader() {
    let fleet = Fleet::start().await;
    let (_east, west, _carried) = two_regions(&fleet, 2).await;
    let mut client = Client::connect(west.handle.kafka).await;
    let refused = client.produce("t", 0, batch(&["here"])).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(refused.current_leader.leader_id, 1);
    assert_eq!(
        client.delete_records("t", 0, 5).await,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
    let copy = west.partition("t", 0).await.unwrap();
    assert_eq!(
        (&copy["log_start"], &copy["durable_end"]),
        (&0.into(), &10.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_no_source_has_confirmed_serves_nobody() {
    let fleet = Fleet::start().await;
    let (east, west, carried) = two_regions(&fleet, 2).await;
    drop(carried);
    west.stop().await;
    let west = fleet.broker(2, WEST).await;
    eventually("the copy's role", async || {
        west.partition("t", 0)
            .await
            .filter(|p| p["role"] == "follower")
    })
    .await;
    let refused = read(west.handle.kafka, WEST, 0).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let _carried = mirror(&fleet, &east, &west).await;
    eventually("its source's word", async || {
        is_served(&read(west.handle.kafka, WEST, 0).await).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn racks_of_one_region_are_told_apart() {
    let fleet = Fleet::start().await;
    let mut brokers = Vec::new();
    for (id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
        let mut options = fleet.options(id, EAST);
        options.rack = Some(rack.into());
        brokers.push(fleet.try_broker(options).await.unwrap());
    }
    let mut client = Client::connect(brokers[0].handle.kafka).await;
    eventually("the topic", async || {
        let created = client.create_topic_of("t", 1, 3, &[]).await;
        (created.is_none() || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
    let leader = eventually("a full ack set", async || {
        let view = fleet.view();
        let placed = &view.topics.get("t")?.partitions[0];
        (placed.isr.len() == 3).then(|| placed.leader.unwrap().0)
    })
    .await;
    let home = &brokers[usize::try_from(leader - 1).unwrap()].handle;
    let mut client = Client::connect(home.kafka).await;
    client.produce_ok("t", 0, batch(&["v"])).await;
    for (id, rack) in [(1, "a"), (2, "b"), (3, "c")] {
        if id == leader {
            assert!(is_served(&read(home.kafka, rack, 0).await));
            continue;
        }
        eventually("an answer that names the follower", async || {
            is_sent_to(&read(home.kafka, rack, 0).await, id).then_some(())
        })
        .await;
        let there = brokers[usize::try_from(id - 1).unwrap()].handle.kafka;
        eventually("the follower's answer", async || {
            is_served(&read(there, rack, 0).await).then_some(())
        })
        .await;
    }
    assert!(
        is_served(&read(home.kafka, EAST, 0).await),
        "its region is as near as it gets"
    );
}

/// Both brokers show these as in sync.
async fn until_in_sync(brokers: [&Broker; 2], topic: &str, nodes: &[i32]) {
    eventually("the same copies in sync wherever it is asked", async || {
        for broker in brokers {
            let mut client = Client::connect(broker.handle.kafka).await;
            let shown = client.metadata(topic).await.topics.remove(0);
            if shown.partitions.first()?.isr_nodes != nodes {
                return None;
            }
        }
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_regions_head_is_shown_in_sync_while_it_keeps_up_and_counts_for_no_ack() {
    let fleet = Fleet::start().await;
    let mut options = fleet.options(1, EAST);
    options.replica_lag_time = Span::millis(300);
    let east = fleet.try_broker(options).await.unwrap();
    let west = fleet.broker(2, WEST).await;
    let brokers = [&east, &west];
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    client
        .create_topic("two", 1, &[("min.insync.replicas", "2")])
        .await;
    let produce = async |client: &mut Client| {
        eventually("an ack", async || {
            let answer = client.produce("t", 0, batch(&["v"])).await;
            answer.error_code.is_none().then_some(())
        })
        .await;
    };
    produce(&mut client).await;
    until_in_sync(brokers, "t", &[1]).await;
    let carried = mirror(&fleet, &east, &west).await;
    until_in_sync(brokers, "t", &[1, 2]).await;
    until_in_sync(brokers, "two", &[1, 2]).await;
    let refused = client.produce("two", 0, batch(&["v"])).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_ENOUGH_REPLICAS);
    drop(carried);
    produce(&mut client).await;
    until_in_sync(brokers, "t", &[1]).await;
    let _carried = mirror(&fleet, &east, &west).await;
    until_in_sync(brokers, "t", &[1, 2]).await;
}
