//! Consistent cuts, taken while producers commit and abort: what is below a cut holds each transaction whole or not at
//! all, with the group positions that were sent along.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::Consumer,
    error::{KafkaError, KafkaResult},
    producer::Producer,
};
use whimbrel_fleet::{
    TopicPartition,
    cut::{Cut, format},
    naming::{CONSUMER_OFFSETS, CUTS, TRANSACTION_STATE},
};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{
    Batch, Batches, ErrorCode, Record, codec,
    control::{self, ControlType},
    internal::{Key, OffsetCommitValue, TransactionLogKey, TransactionLogValue, Versioned},
    record,
};

use crate::{
    client::Client,
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    moves::mirror,
    transactions::{PATIENCE, blocking, consumer, producer, send},
};

type Region = BTreeMap<i32, Broker>;

/// Kafka's number of a transaction that is committed and waits for its markers.
const PREPARE_COMMIT: i8 = 2;

fn options(fleet: &Fleet, id: i32, region: &str) -> whimbrel_broker::Options {
    let mut options = fleet.options(id, region);
    options.cut_interval = Span::secs(2);
    // A busy machine may take long over a marker; that a cut is given up then is another test's.
    options.limits.cut_hold = Span::secs(1);
    options
}

async fn region(fleet: &Fleet, brokers: i32) -> Region {
    let mut region = Region::new();
    for id in 1..=brokers {
        let broker = fleet.try_broker(options(fleet, id, EAST)).await.unwrap();
        region.insert(id, broker);
    }
    for broker in region.values() {
        eventually("a lease", async || {
            let held = broker.status().await["leases"][0]["held"].as_bool();
            held.filter(|held| *held)
        })
        .await;
    }
    let mut client = Client::connect(region[&1].handle.kafka).await;
    for (topic, partitions) in [("t", 2), ("in", 1)] {
        eventually("a topic", async || {
            let created = client.create_topic(topic, partitions, &[]).await;
            matches!(created, ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
        })
        .await;
    }
    region
}

/// Tells the producers to end, also when the test fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Transactions one after another, each in both partitions of `t` and with a position; every fourth is aborted.
fn transfer(broker: &Broker, number: usize, rounds: std::ops::Range<i64>, stop: &AtomicBool) {
    let app = producer(broker, &format!("tx-{number}"), &[]);
    let group = consumer(broker, &format!("g-{number}"), "read_committed");
    let metadata = group.group_metadata().unwrap();
    app.init_transactions(PATIENCE).unwrap();
    for round in rounds {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        app.begin_transaction().unwrap();
        for partition in 0..2 {
            send(&app, "t", partition, &format!("{number}:{round}"));
        }
        let mut places = TopicPartitionList::new();
        places
            .add_partition_offset("in", 0, Offset::Offset(round))
            .unwrap();
        patiently(|| app.send_offsets_to_transaction(&places, &metadata, PATIENCE));
        if round % 4 == 0 {
            app.flush(PATIENCE).unwrap();
            patiently(|| app.abort_transaction(PATIENCE));
        } else {
            patiently(|| app.commit_transaction(PATIENCE));
        }
    }
}

/// As applications are to do: what may be tried again is. A home that was kept waiting for its lease coordinates nothing
/// for a moment.
fn patiently(mut call: impl FnMut() -> KafkaResult<()>) {
    const TRIES: usize = 20;
    for _ in 1..TRIES {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {}
            other => return other.unwrap(),
        }
    }
    call().unwrap();
}

/// The whole log as its leader has it.
async fn log(fleet: &Fleet, region: &Region, topic: &str, partition: usize) -> Vec<Batch> {
    let leader = fleet.view().topics[topic].partitions[partition].leader;
    let at = region[&leader.unwrap().0].handle.kafka;
    let mut client = Client::connect(at).await;
    let (partition, mut offset) = (i32::try_from(partition).unwrap(), 0);
    let mut batches = Vec::new();
    loop {
        // A new topic is known to the fleet before its leader leads.
        let data = eventually("the leader", async || {
            let data = client.try_fetch(topic, partition, offset).await;
            if data.is_none() {
                client = Client::connect(at).await;
            }
            data.filter(|data| data.error_code.is_none())
        })
        .await;
        if offset >= data.high_watermark {
            return batches;
        }
        for batch in Batches::new(data.records.unwrap()).map(Result::unwrap) {
            offset = batch.header.next_offset();
            batches.push(batch);
        }
    }
}

fn records(batch: &Batch) -> Vec<Record> {
    let all = record::records(batch, codec::Limits::default()).unwrap();
    all.map(Result::unwrap).collect()
}

async fn cuts(fleet: &Fleet, region: &Region) -> Vec<Cut> {
    if !fleet.view().topics.contains_key(CUTS) {
        return Vec::new();
    }
    let all = log(fleet, region, CUTS, 0).await;
    let all = all.iter().flat_map(records);
    all.map(|r| format::decode(&r.key.unwrap(), &r.value.unwrap()).unwrap())
        .collect()
}

/// All logs of the transactions, to be cut.
struct Logs(BTreeMap<(String, i32), (TopicPartition, Vec<Batch>)>);

impl Logs {
    async fn read(fleet: &Fleet, region: &Region) -> Self {
        let mut logs = BTreeMap::new();
        for name in ["t", CONSUMER_OFFSETS, TRANSACTION_STATE] {
            let topic = fleet.view().topics[name].clone();
            for (index, partition) in (0..topic.partitions.len()).zip(0..) {
                let at = TopicPartition::new(topic.id, partition);
                let batches = log(fleet, region, name, index).await;
                logs.insert((name.to_owned(), partition), (at, batches));
            }
        }
        Self(logs)
    }

    /// A topic's partitions, cut.
    fn below<'a>(
        &'a self,
        topic: &'a str,
        cut: &'a Cut,
    ) -> impl Iterator<Item = (i32, Vec<&'a Batch>)> {
        let partitions = self.0.iter().filter(move |((name, _), _)| name == topic);
        partitions.map(|((_, partition), (at, batches))| {
            let end = cut.ends.get(at).map_or(0, |end| end.offset);
            let below = batches.iter().filter(|b| b.header.base_offset < end);
            let below: Vec<_> = below.collect();
            assert!(below.iter().all(|b| b.header.next_offset() <= end));
            (*partition, below)
        })
    }

    /// What the coordinators would go on from.
    fn states(&self, cut: &Cut) -> HashMap<i64, TransactionLogValue> {
        let mut states = HashMap::new();
        for (_, batches) in self.below(TRANSACTION_STATE, cut) {
            for record in batches.into_iter().flat_map(records) {
                TransactionLogKey::from_record(record.key.unwrap()).unwrap();
                let value = TransactionLogValue::from_record(record.value.unwrap()).unwrap();
                states.insert(value.producer_id, value);
            }
        }
        states
    }

    /// What readers of committed records would find in a topic, once what is prepared has its markers, by partition.
    fn committed(
        &self,
        topic: &str,
        cut: &Cut,
        name: impl Fn(&Record) -> String,
    ) -> BTreeMap<i32, BTreeSet<String>> {
        let states = self.states(cut);
        let mut all = BTreeMap::new();
        for (partition, batches) in self.below(topic, cut) {
            let mut open: HashMap<i64, Vec<String>> = HashMap::new();
            let mut committed = BTreeSet::new();
            for batch in batches {
                let producer = batch.header.producer_id;
                if let Some(marker) = control::parse_batch(batch).unwrap() {
                    let ended = open.remove(&producer).unwrap_or_default();
                    if marker.control_type == ControlType::Commit {
                        committed.extend(ended);
                    }
                } else if batch.header.is_transactional() {
                    let names = records(batch).iter().map(&name).collect::<Vec<_>>();
                    open.entry(producer).or_default().extend(names);
                }
            }
            for (producer, names) in open {
                let prepared = states.get(&producer).is_some_and(|state| {
                    let places = state.transaction_partitions.iter().flatten();
                    state.transaction_status == PREPARE_COMMIT
                        && places
                            .filter(|p| p.topic == topic)
                            .any(|p| p.partition_ids.contains(&partition))
                });
                if prepared {
                    committed.extend(names);
                }
            }
            all.insert(partition, committed);
        }
        all
    }

    /// The transactions that a cut holds, each of them whole.
    fn whole(&self, cut: &Cut) -> BTreeSet<String> {
        let text = |r: &Record| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap();
        let records = self.committed("t", cut, text);
        let position = |r: &Record| match Key::from_record(r.key.clone().unwrap()).unwrap() {
            Key::OffsetCommit(key) => {
                let value = OffsetCommitValue::from_record(r.value.clone().unwrap()).unwrap();
                format!("{}:{}", key.group.trim_start_matches("g-"), value.offset)
            }
            other => format!("{other:?}"),
        };
        let positions = self.committed(CONSUMER_OFFSETS, cut, position);
        let positions: BTreeSet<_> = positions.into_values().flatten().collect();
        assert_eq!(records[&0], records[&1]);
        assert_eq!(records[&0], positions);
        positions
    }
}

async fn cut_under_transactions(brokers: i32) {
    let fleet = Fleet::start().await;
    let region = Arc::new(region(&fleet, brokers).await);
    let stop = Stop(Arc::default());
    let producers: Vec<_> = (0..3)
        .map(|number| {
            let (region, stop) = (Arc::clone(&region), Arc::clone(&stop.0));
            tokio::task::spawn_blocking(move || {
                transfer(&region[&1], number, 1..i64::MAX, &stop);
            })
        })
        .collect();
    for wanted in 1..=3 {
        eventually("a cut", async || {
            (cuts(&fleet, &region).await.len() >= wanted).then_some(())
        })
        .await;
    }
    drop(stop);
    for ended in producers {
        ended.await.unwrap();
    }
    let (cuts, logs) = (
        cuts(&fleet, &region).await,
        Logs::read(&fleet, &region).await,
    );
    let held: Vec<_> = cuts.iter().map(|cut| logs.whole(cut)).collect();
    assert!(held.windows(2).all(|w| w[0].is_subset(&w[1])));
    assert!(held.last().is_some_and(|held| !held.is_empty()));
    for broker in Arc::into_inner(region).unwrap().into_values() {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_holds_each_transaction_whole_or_not_at_all() {
    cut_under_transactions(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_a_region_take_a_cut_together() {
    cut_under_transactions(3).await;
}

/// Offset of the newest cut that the region of a broker holds.
async fn newest(broker: &Broker) -> Option<i64> {
    broker.status().await["cuts"]["default"]["offset"].as_i64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_names_the_newest_cut_that_is_wholly_there() {
    let fleet = Fleet::start().await;
    let region = Arc::new(region(&fleet, 1).await);
    let west = fleet.try_broker(options(&fleet, 2, WEST)).await.unwrap();
    let first = mirror(&fleet, &region[&1], &west).await;
    let transfers = async |rounds| {
        let region = Arc::clone(&region);
        blocking(move || transfer(&region[&1], 0, rounds, &AtomicBool::new(false))).await;
    };
    transfers(1..4).await;
    let topic = fleet.view().topics["t"].id;
    let before = eventually("a cut that both regions hold", async || {
        let cuts = cuts(&fleet, &region).await;
        let named = cuts.last()?.ends.keys().filter(|at| at.topic_id == topic);
        let last = i64::try_from(cuts.len()).unwrap() - 1;
        let known = (newest(&region[&1]).await, newest(&west).await);
        (named.count() == 2 && known == (Some(last), Some(last))).then_some(last)
    })
    .await;
    // The records go on at home alone.
    drop(first);
    transfers(4..6).await;
    eventually("a newer cut at home", async || {
        newest(&region[&1]).await.filter(|now| *now > before)
    })
    .await;
    assert_eq!(newest(&west).await, Some(before));
    let _second = mirror(&fleet, &region[&1], &west).await;
    eventually("the newest cut in both", async || {
        let (here, there) = (newest(&region[&1]).await, newest(&west).await);
        (here == there && here > Some(before)).then_some(())
    })
    .await;
    for broker in Arc::into_inner(region).unwrap().into_values() {
        broker.stop().await;
    }
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interval_shorter_than_two_holds_is_refused() {
    let fleet = Fleet::start().await;
    let mut options = options(&fleet, 1, EAST);
    options.cut_interval = Span::millis(1_999);
    let refused = fleet.try_broker(options).await.err().unwrap();
    assert_eq!(refused.code(), "WB-121");
}
