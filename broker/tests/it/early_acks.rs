//! Topics that are acknowledged before the sync, while the disk takes its time; kills, power cuts, and copies that join.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use serde_json::json;
use whimbrel_fleet::NodeId;
use whimbrel_log::calls::{Call, Watch, Watcher, watch};
use whimbrel_wire::{Batches, ErrorCode, codec::Limits, record::records};

use crate::{
    client::{Client, idempotent, produce_request},
    configs,
    fleet::{Broker, EAST, Fleet, eventually},
    patient::Patient,
};

/// Keeps every sync of a disk waiting while it is shut.
#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Watcher for Gate {
    fn before(&self, call: Call, _path: &Path) -> io::Result<()> {
        if call == Call::Sync {
            let shut = self.shut.lock().unwrap();
            drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
        }
        Ok(())
    }
}

/// Shut until it is dropped: a test that fails must come to its end.
struct Held {
    gate: Arc<Gate>,
    _watch: Watch,
}

impl Held {
    fn disk(data_dir: &Path) -> Self {
        let gate = Arc::new(Gate::default());
        *gate.shut.lock().unwrap() = true;
        Self {
            _watch: watch(data_dir, gate.clone()),
            gate,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        *self.gate.shut.lock().unwrap() = false;
        self.gate.opened.notify_all();
    }
}

/// The answer within so long; `None` when the connection ended instead.
async fn sent(
    client: &mut Patient,
    topic: &str,
    (records, acks): (Bytes, i16),
    timeout_ms: i32,
) -> Option<ErrorCode> {
    let mut request = produce_request(topic, 0, records, acks);
    request.timeout_ms = timeout_ms;
    let mut answer = client.ask(10, &request).await?;
    let mut topic = answer.responses.remove(0);
    let code = topic.partition_responses.remove(0).error_code;
    assert!(code.is_none() || code.is_retryable(), "{code}");
    Some(code)
}

/// Acknowledged, before the sync if the disk is held. A client tries again while the lease is away.
async fn acked(client: &mut Patient, topic: &str, records: Bytes, acks: i16) {
    eventually("an ack", async || {
        let code = sent(client, topic, (records.clone(), acks), 60_000).await?;
        code.is_none().then_some(())
    })
    .await;
}

/// No ack comes: the disk is held.
async fn not_acked(client: &mut Patient, topic: &str, records: Bytes, acks: i16) {
    eventually("the end of a request's time", async || {
        let code = sent(client, topic, (records.clone(), acks), 300).await?;
        assert_ne!(code, ErrorCode::NONE);
        (code == ErrorCode::REQUEST_TIMED_OUT).then_some(())
    })
    .await;
}

/// The values of all records that consumers are given.
async fn read(client: &mut Patient, topic: &str) -> Vec<String> {
    let data = client.fetch(topic, 0).await;
    let mut values = Vec::new();
    for batch in Batches::new(data.records.unwrap()).map(Result::unwrap) {
        for record in records(&batch, Limits::default()).unwrap() {
            let value = record.unwrap().value.unwrap();
            values.push(String::from_utf8(value.to_vec()).unwrap());
        }
    }
    values
}

async fn create(broker: &Broker, topic: &str, configs: &[(&str, &str)]) {
    let mut admin = Client::connect(broker.handle.kafka).await;
    let made = admin.create_topic(topic, 1, configs).await;
    assert_eq!(made, ErrorCode::NONE);
}

async fn synced(broker: &Broker, topic: &str) {
    eventually("a sync", async || {
        let p = broker.partition(topic, 0).await?;
        (p["durable_end"] == p["log_end"] && p["high_watermark"] == p["log_end"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_do_not_wait_for_the_sync_up_to_the_bound_and_nobody_sees_the_records_before_it() {
    let fleet = Fleet::start().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Patient::new(broker.handle.kafka);
    create(&broker, "early", &[("flush.messages", "4")]).await;
    create(&broker, "synced", &[]).await;
    for topic in ["early", "synced"] {
        acked(&mut client, topic, record(0), -1).await;
        synced(&broker, topic).await;
    }
    let held = Held::disk(&data_dir);
    for (n, acks) in [(1, -1), (2, 1), (3, -1)] {
        acked(&mut client, "early", record(n), acks).await;
    }
    for acks in [1, -1] {
        // As many as may be are not synced; for the other topic nobody asked for it.
        not_acked(&mut client, "early", record(4), acks).await;
        not_acked(&mut client, "synced", record(1), acks).await;
    }
    let p = broker.partition("early", 0).await.unwrap();
    for (name, value) in [
        ("log_end", 5),
        ("durable_end", 1),
        ("stream_end", 1),
        ("high_watermark", 1),
        ("unsynced_bound", 4),
    ] {
        assert_eq!(p[name], value, "{name}: {p}");
    }
    assert_eq!(read(&mut client, "early").await, ["v0"]);
    drop(held);
    synced(&broker, "early").await;
    assert_eq!(read(&mut client, "early").await, values(0..5));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_is_followed_while_everything_runs_and_acks_that_wait_are_given_or_wait_on() {
    let fleet = Fleet::start().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Patient::new(broker.handle.kafka);
    let mut admin = Client::connect(broker.handle.kafka).await;
    create(&broker, "t", &[]).await;
    acked(&mut client, "t", record(0), -1).await;
    let bound = async |client: &mut Client, value: &str, counts: i64| {
        let changes = [("flush.messages", 0, Some(value))];
        let topic = (configs::TOPIC, "t");
        let (code, why) = configs::alter(client, topic, &changes, false).await;
        assert_eq!(code, ErrorCode::NONE, "{why}");
        eventually("the bound", async || {
            let p = broker.partition("t", 0).await?;
            (p["unsynced_bound"] == counts).then_some(())
        })
        .await;
    };
    bound(&mut admin, "9223372036854775807", 1_000_000).await;
    synced(&broker, "t").await;
    let held = Held::disk(&data_dir);
    let two = idempotent(PRODUCER, 1, &["v1", "v2"]);
    acked(&mut client, "t", two, -1).await;
    // Lowered: what is not synced is more than that already.
    bound(&mut admin, "2", 2).await;
    let given = Cell::new(false);
    let waiting = async {
        acked(&mut client, "t", record(3), -1).await;
        given.set(true);
    };
    let raising = async {
        eventually("the append", async || {
            (broker.partition("t", 0).await?["log_end"] == 4).then_some(())
        })
        .await;
        assert!(!given.get());
        // Raised to what is noted on the disk already: the ack that waits is given.
        bound(&mut admin, "10", 10).await;
    };
    tokio::join!(waiting, raising);
    bound(&mut admin, "1", 1).await;
    not_acked(&mut client, "t", record(4), -1).await;
    drop(held);
    synced(&broker, "t").await;
    assert_eq!(read(&mut client, "t").await, values(0..5));
    // The fleet's own topics have nothing early.
    let topic = (configs::TOPIC, "__consumer_offsets");
    let changes = [("flush.messages", 0, Some("2"))];
    let (code, why) = configs::alter(&mut admin, topic, &changes, false).await;
    assert_eq!(code, ErrorCode::INVALID_CONFIG, "{why}");
    broker.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&from, &to);
        } else if let Err(error) = fs::copy(from, to) {
            // A file that was just put in another's place.
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
        }
    }
}

const PRODUCER: i64 = 7;
const WRITTEN: i32 = 8;

fn values(numbers: std::ops::Range<i32>) -> Vec<String> {
    numbers.map(|n| format!("v{n}")).collect()
}

fn record(n: i32) -> Bytes {
    idempotent(PRODUCER, n, &[&format!("v{n}")])
}

/// A producer's first record is synced, and the others are acknowledged only. The disk as it then is, and how many
/// bytes of the log were synced.
async fn written(fleet: &Fleet) -> (Broker, PathBuf, u64) {
    let data_dir = fleet.options(1, EAST).data_dir;
    let broker = fleet.broker(1, EAST).await;
    let mut client = Patient::new(broker.handle.kafka);
    create(&broker, "t", &[("flush.messages", "10")]).await;
    acked(&mut client, "t", record(0), -1).await;
    synced(&broker, "t").await;
    let log = data_dir.join("t-0/00000000000000000000.log");
    let bytes = fs::metadata(log).unwrap().len();
    let held = Held::disk(&data_dir);
    for n in 1..WRITTEN {
        acked(&mut client, "t", record(n), -1).await;
    }
    let disk = fleet.dir.path().join("as it was");
    copy(&data_dir, &disk);
    drop(held);
    (broker, disk, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_takes_nothing_that_was_acknowledged_and_nothing_is_reported() {
    let fleet = Fleet::start().await;
    let (broker, disk, _) = written(&fleet).await;
    broker.kill().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(disk, &data_dir).unwrap();
    let broker = fleet.broker(1, EAST).await;
    let mut client = Patient::new(broker.handle.kafka);
    acked(&mut client, "t", record(WRITTEN), -1).await;
    synced(&broker, "t").await;
    assert_eq!(read(&mut client, "t").await, values(0..WRITTEN + 1));
    assert_eq!(broker.status().await["early_acks_lost"], json!([]));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_what_was_not_synced_says_so_and_the_producer_goes_on() {
    let fleet = Fleet::start().await;
    let (broker, disk, bytes) = written(&fleet).await;
    broker.kill().await;
    let data_dir = fleet.options(1, EAST).data_dir;
    fs::remove_dir_all(&data_dir).unwrap();
    fs::rename(disk, &data_dir).unwrap();
    // One batch more than what was synced has come to the disk, and a part of the next.
    let log = data_dir.join("t-0/00000000000000000000.log");
    let log = fs::OpenOptions::new().write(true).open(log).unwrap();
    log.set_len(2 * bytes + bytes / 2).unwrap();
    let early = data_dir.join("early-acks");
    let text = fs::read_to_string(&early).unwrap();
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = text.replace(id.trim(), "another");
    let (body, _) = text.rsplit_once("crc32c ").unwrap();
    let check = crc32c::crc32c(body.as_bytes());
    fs::write(early, format!("{body}crc32c {check:08x}\n")).unwrap();

    let broker = fleet.broker(1, EAST).await;
    let lost = json!([{
        "topic": "t",
        "partition": 0,
        "recovered_end": 2,
        "records_at_most": 9,
        "set_aside": false,
    }]);
    assert_eq!(broker.status().await["early_acks_lost"], lost);
    let mut client = Patient::new(broker.handle.kafka);
    let mut refused = 0;
    eventually("an ack", async || {
        let code = sent(&mut client, "t", (record(WRITTEN), -1), 60_000).await?;
        refused += usize::from(code == ErrorCode::NOT_ENOUGH_REPLICAS);
        code.is_none().then_some(())
    })
    .await;
    assert_eq!(
        refused, 1,
        "so that clients send again what they still hold"
    );
    let again = client.produce("t", record(1)).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 1));
    acked(&mut client, "t", record(WRITTEN + 1), -1).await;
    synced(&broker, "t").await;
    let left = [values(0..2), values(WRITTEN..WRITTEN + 2)].concat();
    assert_eq!(read(&mut client, "t").await, left);
    broker.stop().await;
}

fn ack_set(fleet: &Fleet) -> Vec<NodeId> {
    fleet.view().topics["t"].partitions[0].isr.clone()
}

async fn knows(broker: &Broker, version: u64) -> bool {
    let status = broker.status().await;
    status["view_version"]
        .as_u64()
        .is_some_and(|known| known >= version)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_another_copy_nothing_is_early_and_a_copy_that_joins_has_what_was() {
    let fleet = Fleet::start().await;
    let start = async |id| fleet.try_broker(fleet.options(id, EAST)).await.unwrap();
    let mut brokers = vec![(1, start(1).await), (2, start(2).await)];
    let mut client = Client::connect(brokers[0].1.handle.kafka).await;
    eventually("the topic", async || {
        let configs = [("flush.messages", "100")];
        let made = client.create_topic_of("t", 1, 2, &configs).await;
        (made.is_none() || made == ErrorCode::TOPIC_ALREADY_EXISTS).then_some(())
    })
    .await;
    eventually("the ack set", async || {
        (ack_set(&fleet).len() == 2).then_some(())
    })
    .await;
    let leader = fleet.view().topics["t"].partitions[0].leader.unwrap().0;
    brokers.sort_by_key(|(id, _)| *id != leader);
    let (_, other) = brokers.pop().unwrap();
    let (_, first) = brokers.pop().unwrap();
    let data_dir = fleet.options(leader, EAST).data_dir;
    let mut client = Patient::new(first.handle.kafka);
    acked(&mut client, "t", record(0), -1).await;
    synced(&first, "t").await;
    let held = Held::disk(&data_dir);
    not_acked(&mut client, "t", record(1), 1).await;
    drop(held);
    synced(&first, "t").await;

    other.kill().await;
    eventually("the ack set", async || {
        (ack_set(&fleet) == [NodeId(leader)]).then_some(())
    })
    .await;
    // Whoever begins to lead has to sync, and whatever it is to know then waits for that.
    eventually("a leader alone", async || {
        let view = fleet.view();
        let mut all = view.topics.values().flat_map(|topic| &topic.partitions);
        let leads_all = all.all(|p| p.leader == Some(NodeId(leader)));
        let alone = first.partition("t", 0).await?["insync"] == 1;
        (leads_all && alone && knows(&first, view.version).await).then_some(())
    })
    .await;
    acked(&mut client, "t", record(2), -1).await;
    synced(&first, "t").await;
    let held = Held::disk(&data_dir);
    acked(&mut client, "t", record(3), -1).await;

    // It is back, and cannot have what is not synced: it does not join, and nothing more is early.
    let second = start(3 - leader).await;
    eventually("the other broker in the view", async || {
        let view = fleet.view();
        let live = view.is_live(NodeId(3 - leader));
        (live && knows(&first, view.version).await).then_some(())
    })
    .await;
    not_acked(&mut client, "t", record(4), -1).await;
    assert_eq!(ack_set(&fleet), [NodeId(leader)]);
    drop(held);
    eventually("the ack set", async || {
        (ack_set(&fleet).len() == 2).then_some(())
    })
    .await;
    first.kill().await;
    let mut client = Patient::new(second.handle.kafka);
    acked(&mut client, "t", record(5), -1).await;
    synced(&second, "t").await;
    assert_eq!(read(&mut client, "t").await, values(0..6));
    second.stop().await;
}
