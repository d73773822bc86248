//! A translated flow between two Kafka clusters: exact copies, exact positions, both ways.

mod hostile;

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer, StreamConsumer},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use whimbrel_client::{Client, NewTopic};
use whimbrel_mirror::{
    offset_map::{Chunk, Key},
    translated::{FlowOptions, start},
};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use crate::kafka::{Kafka, contents, libs};

const WAIT: Duration = Duration::from_secs(60);
const TOPICS: [&str; 2] = ["orders", "state"];

async fn until(clock: &Clock, what: &str, condition: impl AsyncFn() -> bool) {
    let met = clock.within(WAIT, async {
        while !condition().await {
            clock.sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(met.await.is_some(), "{what}");
}

fn numbered(prefix: &str, keys: usize, range: std::ops::Range<usize>) -> Vec<(String, String)> {
    range
        .map(|n| (format!("k{}", n % keys), format!("{prefix}-{n}")))
        .collect()
}

/// One transaction of ten records, ended one way or the other.
fn transaction(bootstrap: &str, prefix: &str, commit: bool) {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", "test");
    let producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext> =
        config.create().unwrap();
    producer.init_transactions(WAIT).unwrap();
    producer.begin_transaction().unwrap();
    for n in 0..10 {
        let value = format!("{prefix}-{n}");
        producer
            .send(
                BaseRecord::<str, str>::to("orders")
                    .partition(0)
                    .key("t")
                    .payload(&value),
            )
            .unwrap();
    }
    producer.flush(WAIT).unwrap();
    if commit {
        producer.commit_transaction(WAIT).unwrap();
    } else {
        producer.abort_transaction(WAIT).unwrap();
    }
}

/// Source topics: one with an aborted and committed transactions in it, one with compaction gaps.
async fn fill(kafka: &Kafka, client: &Client, clock: &Clock) {
    client
        .create_topic(&NewTopic::new("orders", 1))
        .await
        .unwrap();
    let state = NewTopic::new("state", 1)
        .config("cleanup.policy", "compact")
        .config("segment.ms", "300")
        .config("min.cleanable.dirty.ratio", "0.01");
    client.create_topic(&state).await.unwrap();
    kafka
        .produce(client, "orders", &numbered("order", 1_000, 0..100))
        .await;
    transaction(&kafka.bootstrap, "committed", true);
    transaction(&kafka.bootstrap, "aborted", false);
    kafka
        .produce(client, "orders", &numbered("order", 1_000, 100..150))
        .await;
    for n in 0..6 {
        kafka
            .produce(
                client,
                "state",
                &numbered("state", 40 + n, n * 100..n * 100 + 100),
            )
            .await;
        clock.sleep(Duration::from_millis(350)).await;
    }
    kafka
        .produce(client, "state", &numbered("last", 5, 0..5))
        .await;
    // Compacted and still: the same twice, with time for the cleaner in between.
    let before = std::cell::Cell::new(usize::MAX);
    until(clock, "the cleaner leaves gaps", async || {
        clock.sleep(Duration::from_millis(1_500)).await;
        let now = contents(client, "state").await.len();
        now < 300 && before.replace(now) == now
    })
    .await;
}

/// A group member that takes `count` records (or all there are), commits them once and leaves.
async fn consume(bootstrap: &str, clock: &Clock, count: usize) -> Vec<String> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "group")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&TOPICS).unwrap();
    let (mut taken, mut positions) = (Vec::new(), BTreeMap::new());
    let mut patience = Duration::from_secs(20);
    while taken.len() < count {
        let Some(message) = clock.within(patience, consumer.recv()).await else {
            break;
        };
        let message = message.unwrap();
        taken.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap());
        positions.insert(
            (message.topic().to_owned(), message.partition()),
            message.offset() + 1,
        );
        patience = Duration::from_secs(5);
    }
    let mut list = TopicPartitionList::new();
    for ((topic, partition), offset) in positions {
        list.add_partition_offset(&topic, partition, Offset::Offset(offset))
            .unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
    taken
}

const FIRST: usize = 120;
/// What the flow writes beside positions that it sets.
const MARK: &str = "whimbrel:test";

async fn positions(client: &Client) -> BTreeMap<String, (i64, Option<String>)> {
    let positions = client.group_positions("group").await.unwrap();
    positions
        .into_iter()
        .map(|p| (p.topic, (p.offset, p.metadata)))
        .collect()
}

/// The flow's own map, read as anybody could.
async fn map(client: &Client, topic: &str) -> Vec<(i64, i64)> {
    let mut chunks = BTreeMap::new();
    for (_, (key, value, _, _)) in contents(client, "__whimbrel_offset_map.test").await {
        let key = Key::decode(&key.unwrap()).unwrap();
        chunks.insert(key, Chunk::decode(&value.unwrap()).unwrap());
    }
    let of_topic = chunks.into_iter().filter(|(key, _)| key.topic == topic);
    let runs = of_topic.flat_map(|(_, chunk)| chunk.runs);
    runs.flat_map(|run| (0..run.length).map(move |n| (run.source + n, run.target + n)))
        .collect()
}

async fn copied(source: &Client, target: &Client) -> bool {
    for topic in TOPICS {
        let Ok(metadata) = target.metadata(Some(&[topic])).await else {
            return false;
        };
        if metadata.topics.is_empty()
            || contents(source, topic).await.len() > contents(target, topic).await.len()
        {
            return false;
        }
    }
    true
}

fn flow(source: &Kafka, target: &Kafka) -> FlowOptions {
    let mut options = FlowOptions::new("test", source.bootstrap.clone(), target.bootstrap.clone());
    options.group_interval = whimbrel_runtime::unit::Span::millis(200);
    options.topic_interval = whimbrel_runtime::unit::Span::millis(500);
    options
}

/// Both sides hold the same records and the map is exact. Returns all values.
async fn compare(source: &Client, target: &Client) -> Vec<String> {
    let mut expected = Vec::new();
    for topic in TOPICS {
        let (there, here) = (contents(source, topic).await, contents(target, topic).await);
        let strip = |all: &[(i64, crate::kafka::Content)]| {
            all.iter().map(|(_, c)| c.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            strip(&here),
            strip(&there),
            "{topic}: same records, keys, headers and times, none twice"
        );
        let pairs: Vec<_> = there
            .iter()
            .map(|(o, _)| *o)
            .zip(here.iter().map(|(o, _)| *o))
            .collect();
        assert_eq!(map(target, topic).await, pairs, "{topic}: the map is exact");
        let texts = there
            .iter()
            .map(|(_, c)| String::from_utf8(c.1.clone().unwrap().to_vec()).unwrap());
        expected.extend(texts);
    }
    expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moves_over_and_back_and_misses_and_repeats_nothing() {
    let Some(libs) = libs() else {
        let peers = std::env::var_os("WHIMBREL_PEERS").is_some_and(|v| v == "1");
        assert!(
            !peers,
            "there are to be peers, and WHIMBREL_KAFKA_LIBS does not name a folder"
        );
        println!("skipped: WHIMBREL_KAFKA_LIBS does not name a folder with Kafka's jars");
        return;
    };
    let (tasks, clock) = (Tasks::new(Shutdown::new()), Clock::system());
    let (east, west) = tokio::join!(
        Kafka::start(&libs, &tasks, &clock),
        Kafka::start(&libs, &tasks, &clock)
    );
    let (source, target) = (east.client(&tasks, &clock), west.client(&tasks, &clock));
    fill(&east, &source, &clock).await;

    let first = Tasks::new(Shutdown::new());
    let worker = start(flow(&east, &west), &first, &clock).unwrap();
    until(&clock, "everything is copied", async || {
        copied(&source, &target).await
    })
    .await;

    let mut seen = consume(&east.bootstrap, &clock, FIRST).await;
    let there = positions(&source).await;
    until(&clock, "positions arrive", async || {
        positions(&target).await.len() == there.len()
    })
    .await;
    let status = serde_json::to_value(worker.view(clock.boot_ms())).unwrap();
    assert_eq!(status["state"], "running", "{status}");

    // The mirror dies and comes back: it goes on from its committed map.
    assert!(first.stop(Duration::from_secs(10)).await.is_empty());
    let second = Tasks::new(Shutdown::new());
    start(flow(&east, &west), &second, &clock).unwrap();
    east.produce(&source, "orders", &numbered("later", 1_000, 0..60))
        .await;
    transaction(&east.bootstrap, "committed-later", true);
    until(&clock, "what came later is copied", async || {
        copied(&source, &target).await
    })
    .await;

    seen.extend(consume(&west.bootstrap, &clock, 80).await);
    until(&clock, "positions come back", async || {
        let (now, moved) = (positions(&source).await, positions(&target).await);
        let own = moved.iter().filter(|(_, at)| at.1.as_deref() != Some(MARK));
        let mut back = own.map(|(topic, _)| {
            now.get(topic)
                .is_some_and(|at| at.1.as_deref() == Some(MARK))
        });
        back.all(|is_back| is_back)
    })
    .await;
    seen.extend(consume(&east.bootstrap, &clock, usize::MAX).await);

    let mut expected = compare(&source, &target).await;
    assert!(expected.iter().any(|v| v.starts_with("committed-later")));
    assert!(!expected.iter().any(|v| v.starts_with("aborted")));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected, "the group missed or repeated something");
    second.stop(Duration::from_secs(10)).await;
    tasks.stop(Duration::from_secs(10)).await;
}
