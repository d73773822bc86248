//! Compaction where a topic has copies in several regions: all copies are cleaned, none before every region
//! holds what is cleaned.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use whimbrel_broker::{CleanerOptions, Options};
use whimbrel_runtime::{Shutdown, Tasks, random, unit::Span};
use whimbrel_wire::{BatchBuilder, ErrorCode, messages::describe_log_dirs};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, WEST, eventually},
};

const RECORDS: i32 = 60;

async fn start(fleet: &Fleet, id: i32, region: &str) -> Broker {
    let options = Options {
        cleaner: CleanerOptions {
            backoff: Span::millis(20),
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

/// A topic of small segments in which three keys are written again and again.
async fn fill(fleet: &Fleet, brokers: &BTreeMap<i32, Broker>) {
    let mut client = Client::connect(brokers[&1].handle.kafka).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0.1"),
    ];
    eventually("the topic", async || {
        let created = client.create_topic_of("t", 1, 3, &configs).await;
        (created == ErrorCode::NONE || created == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
    for n in 0..RECORDS {
        let value = format!("{n}-{}", "x".repeat(150));
        let key = ["a", "b", "c"][usize::try_from(n % 3).unwrap()];
        let mut builder = BatchBuilder::new(0).producer(7, 0, n);
        let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
        builder.add(1_000, key, value, &[]).unwrap();
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
    fill(&fleet, &brokers).await;
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
    let tasks = Tasks::new(Shutdown::new());
    whimbrel_mirror::replica::Region::start(
        WEST.into(),
        random::uuid(),
        64 << 20,
        fleet.client.view(),
        &tasks,
        fleet.clock.clone(),
    );
    let before = whole[&leader(&fleet)];
    for (id, broker) in &brokers {
        eventually("a cleaned copy", async || {
            let cleaned = size(broker).await? < before / 2;
            let held = broker.status().await["cleaner"]["held_by"].clone();
            (cleaned && held == json!({})).then_some(())
        })
        .await;
        assert_eq!(broker.partition("t", 0).await.unwrap()["damaged"], json!(null), "{id}");
    }
    tasks.stop(Duration::from_secs(5)).await;
}
