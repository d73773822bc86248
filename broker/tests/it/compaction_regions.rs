//! Compaction where a topic has copies in several regions: all copies are cleaned, none before every region
//! holds what is cleaned.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use serde_json::json;
use whimbrel_broker::{CleanerOptions, Options};
use whimbrel_mirror::replica::Region;
use whimbrel_runtime::{Shutdown, Tasks, random, unit::Span};
use whimbrel_wire::{BatchBuilder, ErrorCode, messages::describe_log_dirs};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, WEST, eventually},
};

const RECORDS: i32 = 60;

async fn start(fleet: &Fleet, id: i32, region: &str) -> Broker {
    patient(fleet, id, region, CleanerOptions::default().region_patience).await
}

async fn patient(fleet: &Fleet, id: i32, region: &str, region_patience: Span) -> Broker {
    let options = Options {
        cleaner: CleanerOptions {
            backoff: Span::millis(20),
            region_patience,
            ..CleanerOptions::default()
        },
        ..fleet.options(id, region)
    };
    fleet.try_broker(options).await.unwrap()
}

fn leader(fleet: &Fleet) -> i32 {
    let view = fleet.view();
    let topic = view.topics.get("t");
    topic
        .and_then(|t| t.partitions[0].leader)
        .map_or(-1, |n| n.0)
}

fn mirror(fleet: &Fleet) -> (Region, Tasks) {
    let tasks = Tasks::new(Shutdown::new());
    let region = Region::start(
        WEST.into(),
        random::uuid(),
        64 << 20,
        fleet.client.view(),
        &tasks,
        fleet.clock.clone(),
    );
    (region, tasks)
}

/// A topic of small segments.
async fn create(brokers: &BTreeMap<i32, Broker>, copies: i16) {
    let mut client = Client::connect(brokers[&1].handle.kafka).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    eventually("the topic", async || {
        let created = client.create_topic_of("t", 1, copies, &configs).await;
        (created == ErrorCode::NONE || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
}

/// Three keys are written again and again.
async fn write(fleet: &Fleet, brokers: &BTreeMap<i32, Broker>, numbers: Range<i32>) {
    for n in numbers {
        let value = format!("{n}-{}", "x".repeat(150));
        let key = ["a", "b", "c"][usize::try_from(n % 3).unwrap()];
        let mut builder = BatchBuilder::new(0).producer(7, 0, n);
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        builder.add(fleet.clock.wall_ms(), key, value, &[]).unwrap();
        let records = builder.finish().unwrap();
        eventually("an ack", async || {
            let mut client = Client::connect(brokers.get(&leader(fleet))?.handle.kafka).await;
            let answer = client.produce("t", 0, records.clone()).await;
            answer.error_code.is_none().then_some(())
        })
        .await;
    }
}

/// What the copy takes on that broker's disk.
async fn size(broker: &Broker) -> Option<i64> {
    let mut client = Client::connect(broker.handle.kafka).await;
    let request = describe_log_dirs::Request { topics: None };
    let answer = client.call(4, request).await;
    let mut topics = answer.results.iter().flat_map(|r| &r.topics);
    let topic = topics.find(|t| t.name == "t")?;
    topic.partitions.first().map(|p| p.partition_size)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_copy_is_cleaned_and_none_while_another_region_is_away() {
    let fleet = Fleet::start().await;
    let mut brokers = BTreeMap::new();
    for id in [1, 2, 3] {
        brokers.insert(id, start(&fleet, id, EAST).await);
    }
    brokers.insert(4, start(&fleet, 4, WEST).await);
    create(&brokers, 3).await;
    write(&fleet, &brokers, 0..RECORDS).await;
    // Nothing is carried into the other region: that is said wherever it keeps a log from being cleaned.
    let mut whole = BTreeMap::new();
    for (id, broker) in &brokers {
        if *id == 4 {
            continue;
        }
        let full = eventually("a whole copy that is held", async || {
            let end = broker.partition("t", 0).await?["high_watermark"].as_i64();
            let held = broker.status().await["cleaner"]["held_by"].clone();
            (end == Some(RECORDS.into()) && held == json!({"t-0": WEST})).then_some(())?;
            size(broker).await
        });
        whole.insert(*id, full.await);
    }
    let (_region, tasks) = mirror(&fleet);
    let before = whole[&leader(&fleet)];
    for (id, broker) in &brokers {
        eventually("a cleaned copy", async || {
            let cleaned = size(broker).await? < before / 2;
            let held = broker.status().await["cleaner"]["held_by"].clone();
            (cleaned && held == json!({})).then_some(())
        })
        .await;
        assert_eq!(
            broker.partition("t", 0).await.unwrap()["damaged"],
            json!(null),
            "{id}"
        );
    }
    tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_stays_away_too_long_is_passed_by_and_its_copy_is_stopped_with_the_range() {
    let fleet = Fleet::start().await;
    let mut brokers = BTreeMap::new();
    brokers.insert(1, patient(&fleet, 1, EAST, Span::millis(500)).await);
    brokers.insert(2, start(&fleet, 2, WEST).await);
    create(&brokers, 1).await;
    let (_region, tasks) = mirror(&fleet);
    // No more than the segment that is open: nothing is cleaned as yet.
    write(&fleet, &brokers, 0..3).await;
    let end = async |brokers: &BTreeMap<i32, Broker>| {
        brokers[&2].partition("t", 0).await?["durable_end"].as_i64()
    };
    eventually("the copy", async || {
        (end(&brokers).await? == 3).then_some(())
    })
    .await;
    tasks.stop(Duration::from_secs(5)).await;
    write(&fleet, &brokers, 3..RECORDS).await;
    eventually("a log that is cleaned without the region", async || {
        let cleaner = brokers[&1].status().await["cleaner"].clone();
        let cleaned = size(&brokers[&1]).await? < 5_000;
        (cleaned && cleaner["left_behind"] == json!({"t-0": WEST})).then_some(())
    })
    .await;
    // Who leads next knows of it.
    brokers.remove(&1).unwrap().stop().await;
    brokers.insert(1, start(&fleet, 1, EAST).await);
    eventually("a leader", async || {
        let leads = brokers[&1].partition("t", 0).await?["role"] == "leader";
        let left = brokers[&1].status().await["cleaner"]["left_behind"].clone();
        (leads && left == json!({"t-0": WEST})).then_some(())
    })
    .await;
    let (region, tasks) = mirror(&fleet);
    let anomaly = eventually("a stopped partition", async || {
        let status = region.status();
        let mut partitions = status.values().flatten();
        partitions.find(|p| p.topic == "t")?.anomaly
    })
    .await;
    assert_eq!((anomaly.code, anomaly.from), ("WB-206", 3));
    assert!((4..=i64::from(RECORDS)).contains(&anomaly.to), "{anomaly}");
    assert_eq!(end(&brokers).await, Some(3));
    tasks.stop(Duration::from_secs(5)).await;
}
