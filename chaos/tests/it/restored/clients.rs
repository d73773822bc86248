//! Producers that write transactions and a group that commits positions, and what each was told.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use whimbrel_runtime::Clock;

pub const TOPIC: &str = "orders";
pub const PARTITIONS: i32 = 3;
/// A compacted one.
pub const TABLE: &str = "table";
pub const GROUP: &str = "readers";
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose it is, and which of its.
pub type Name = (String, usize);

/// What is known of a transaction, each of which writes one record to every partition.
#[derive(Clone, Debug)]
pub struct Txn {
    pub name: Name,
    pub begun_ms: i64,
    /// All its records are acknowledged, and nobody has asked for its end yet.
    pub open_ms: (i64, i64),
    pub ended_ms: i64,
    /// `None` where no answer came.
    pub committed: Option<bool>,
}

/// By partition.
pub type Positions = BTreeMap<i32, i64>;

#[derive(Clone, Debug, Default)]
pub struct Told {
    pub txns: Arc<Mutex<Vec<Txn>>>,
    /// When positions were known to be committed, and which.
    pub positions: Arc<Mutex<Vec<(i64, Positions)>>>,
    pub stop: Arc<AtomicBool>,
}

fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("log_level", "0");
    config
}

fn producer(bootstrap: &str, id: &str) -> BaseProducer {
    let mut config = config(bootstrap);
    let config = config.set("transactional.id", id).set("linger.ms", "0");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn write(producer: &BaseProducer, (id, n): &Name) {
    producer.begin_transaction().unwrap();
    for partition in 0..PARTITIONS {
        let value = format!("{id}:{n}");
        let record = BaseRecord::<str, str>::to(TOPIC)
            .partition(partition)
            .payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    // One that fails makes the commit fail.
    let _told_by_the_commit = producer.flush(PATIENCE);
}

/// Transactions one after another, every fourth aborted, each open for `hold`; until told to stop, or the fleet is gone.
pub fn transactions(bootstrap: &str, id: &str, hold: Duration, told: &Told) {
    let clock = Clock::system();
    let producer = producer(bootstrap, id);
    for n in 0.. {
        if told.stop.load(Ordering::Relaxed) {
            return;
        }
        let (name, begun_ms) = ((id.to_owned(), n), clock.wall_ms());
        write(&producer, &name);
        let written_ms = clock.wall_ms();
        pause(hold);
        let open_ms = (written_ms, clock.wall_ms());
        let commits = n % 4 != 3;
        let ended = if commits {
            producer.commit_transaction(PATIENCE)
        } else {
            producer.abort_transaction(PATIENCE)
        };
        let is_over = ended.is_err();
        told.txns.lock().push(Txn {
            name,
            begun_ms,
            open_ms,
            ended_ms: clock.wall_ms(),
            committed: ended.is_ok().then_some(commits),
        });
        if is_over {
            return;
        }
    }
}

/// One more transaction by the same id, in the restored fleet.
pub fn carry_on(bootstrap: &str, id: &str) {
    let producer = producer(bootstrap, id);
    write(&producer, &(id.to_owned(), usize::MAX));
    producer.commit_transaction(PATIENCE).unwrap();
}

fn reader(bootstrap: &str, group: &str) -> BaseConsumer {
    let mut config = config(bootstrap);
    let config = config
        .set("group.id", group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let added = all.add_partition_offset(TOPIC, partition, Offset::Offset(0));
        added.unwrap();
    }
    consumer.assign(&all).unwrap();
    consumer
}

/// Reads and commits where it is.
pub fn positions(bootstrap: &str, told: &Told) {
    let clock = Clock::system();
    let consumer = reader(bootstrap, GROUP);
    let mut at = BTreeMap::new();
    while !told.stop.load(Ordering::Relaxed) {
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        at.insert(message.partition(), message.offset() + 1);
        let mut list = TopicPartitionList::new();
        for (partition, offset) in &at {
            let offset = Offset::Offset(*offset);
            list.add_partition_offset(TOPIC, *partition, offset)
                .unwrap();
        }
        if consumer.commit(&list, CommitMode::Sync).is_ok() {
            told.positions.lock().push((clock.wall_ms(), at.clone()));
        }
    }
}

/// Where the group stands.
pub fn committed(bootstrap: &str) -> BTreeMap<i32, i64> {
    let consumer = reader(bootstrap, GROUP);
    let found = consumer.committed(PATIENCE).unwrap();
    let elements = found.elements();
    let all = elements.iter().filter_map(|e| match e.offset() {
        Offset::Offset(offset) => Some((e.partition(), offset)),
        _ => None,
    });
    all.collect()
}

/// What a consumer of committed records finds, partition by partition, up to the last transaction of `last`.
pub fn read(bootstrap: &str, last: &str) -> Vec<Vec<Name>> {
    let clock = Clock::system();
    let consumer = reader(bootstrap, "afterwards");
    let end: Name = (last.to_owned(), usize::MAX);
    let mut found: Vec<Vec<Name>> = vec![Vec::new(); PARTITIONS.unsigned_abs() as usize];
    let begun_ms = clock.boot_ms();
    while found.iter().any(|records| !records.contains(&end)) {
        let waited = clock.boot_ms() - begun_ms;
        assert!(waited < 60_000, "not read to its end: {found:?}");
        let message = match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => message,
            // What the client gets over by itself.
            Some(Err(_)) | None => continue,
        };
        let value = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let (id, n) = value.split_once(':').unwrap();
        let partition = usize::try_from(message.partition()).unwrap();
        found[partition].push((id.to_owned(), n.parse().unwrap()));
    }
    found
}

/// Newer and newer values of a few keys, by an idempotent producer.
pub fn write_table(bootstrap: &str) {
    let mut config = config(bootstrap);
    let config = config.set("enable.idempotence", "true");
    let producer: BaseProducer = config.create().unwrap();
    for n in 0..200 {
        let (key, value) = (format!("key-{}", n % 7), format!("value-{n}"));
        let record = BaseRecord::<str, str>::to(TABLE).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        if n % 20 == 0 {
            producer.flush(PATIENCE).unwrap();
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// The newest value of each key.
pub fn read_table(bootstrap: &str) -> BTreeMap<String, String> {
    let clock = Clock::system();
    let consumer: BaseConsumer = config(bootstrap).set("group.id", "table").create().unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(TABLE, 0, Offset::Offset(0))
        .unwrap();
    consumer.assign(&all).unwrap();
    let (_, end) = consumer.fetch_watermarks(TABLE, 0, PATIENCE).unwrap();
    let (mut found, mut next) = (BTreeMap::new(), 0);
    let begun_ms = clock.boot_ms();
    while next < end {
        assert!(
            clock.boot_ms() - begun_ms < 60_000,
            "read up to {next} of {end}"
        );
        let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        next = message.offset() + 1;
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        found.insert(text(message.key()), text(message.payload()));
    }
    found
}

/// Where each log begins and ends.
pub fn ends(bootstrap: &str) -> Vec<(i64, i64)> {
    let consumer = reader(bootstrap, "ends");
    let of = |partition| {
        consumer
            .fetch_watermarks(TOPIC, partition, PATIENCE)
            .unwrap()
    };
    (0..PARTITIONS).map(of).collect()
}

/// A client takes its time.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
