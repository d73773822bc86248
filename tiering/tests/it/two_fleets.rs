//! Two fleets in one bucket, told apart by their prefixes alone: regions, topics and partitions have the same names.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_tiering::{
    Service,
    store::{Location, S3, Secret, Store},
};

use crate::{
    broker::FakeBroker,
    endpoint::{Endpoint, Lie},
    support::{Log, until},
    verify::{status, verify},
    world::{Running, World},
};

/// The first is how the second begins.
const PREFIXES: [&str; 2] = ["logs", "logs-2"];

fn store(endpoint: &Endpoint, prefix: &str) -> Arc<dyn Store> {
    let url = format!("s3://bkt/{prefix}?endpoint={}&region=r1", endpoint.url);
    let Location::S3(bucket) = Location::parse(&url).unwrap() else {
        unreachable!()
    };
    let secret = Secret {
        key: "k".into(),
        secret: "s".into(),
        token: None,
    };
    Arc::new(S3::open(&bucket, &secret).unwrap())
}

struct Fleet {
    world: World,
    broker: FakeBroker,
    /// Its records are larger than the other's.
    shape: Vec<Vec<(usize, usize)>>,
    name: String,
    store: Arc<dyn Store>,
}

impl Fleet {
    fn new(endpoint: &Endpoint, n: usize) -> Self {
        Self {
            world: World::new(),
            broker: FakeBroker::default(),
            shape: vec![vec![(5, 300 * (n + 1)); 20]; 4],
            name: format!("fleet-{n}"),
            store: store(endpoint, PREFIXES[n]),
        }
    }

    fn log(&self) -> Log {
        Log::write(&self.world.path("data"), 0, &self.shape)
    }

    async fn start(&self) -> Running {
        let store = Arc::clone(&self.store);
        let change = |options: &mut whimbrel_tiering::Options| {
            options.fleet_id = Some(self.name.clone());
            options.retention_interval = Span::millis(20);
            options.delete_grace = Span::millis(1);
        };
        self.world.start_changed(store, &self.broker, change).await
    }
}

/// Keys below a prefix, and what is there.
async fn below(store: &Arc<dyn Store>) -> BTreeMap<String, Bytes> {
    let mut all = BTreeMap::new();
    for listed in store.list("v1/").await.unwrap() {
        let found = store.get(&listed.key, u64::MAX).await.unwrap();
        all.insert(listed.key.to_string(), found.bytes);
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fleets_side_by_side_in_a_bucket_neither_see_nor_touch_each_other() {
    let endpoint = Endpoint::start(Lie::None).await;
    let (one, other) = (Fleet::new(&endpoint, 0), Fleet::new(&endpoint, 1));
    let (mut first, mut second) = (one.start().await, other.start().await);
    for fleet in [&one, &other] {
        fleet.broker.lead(fleet.log());
        until("uploaded", || fleet.broker.is_all_verified()).await;
    }
    for (fleet, running) in [(&one, &mut first), (&other, &mut second)] {
        let log = fleet.log();
        assert!(running.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
        let report = verify(running, "bytes=true").await;
        let found = (&report["ok"], &report["objects"]);
        assert_eq!(found, (&true.into(), &4.into()), "{report}");
    }
    second.stop().await;
    let before = below(&other.store).await;
    // One deletes, sweeps and loses its roots; the other's bucket stays as it is, byte by byte.
    one.broker.set_log_start(0, one.log().segments[2].0);
    let objects = async || {
        let data = one.store.list("v1/east/data/").await.unwrap();
        data.len()
    };
    let mut left = 4;
    for _ in 0..3_000 {
        left = objects().await;
        if left == 2 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(left, 2);
    first.stop().await;
    for listed in one.store.list("v1/east/root/").await.unwrap() {
        one.store.delete(&listed.key).await.unwrap();
    }
    let first = one.start().await;
    let told = status(&first).await;
    assert_eq!(told["quarantined_shards"].as_array().unwrap().len(), 1);
    let plan = crate::rebuild::rebuild(&first, "").await;
    let hash = plan["hash"].as_str().unwrap();
    let done = crate::rebuild::rebuild(&first, &format!("?apply={hash}")).await;
    assert_eq!(done["shards"][0]["applied"], true, "{done}");
    first.stop().await;
    assert!(below(&other.store).await == before);
    let mut second = other.start().await;
    let log = other.log();
    assert!(second.read_all(&log, 0, 1 << 20).await == log.bytes_from(0));
    second.stop().await;

    // A fleet that is pointed at another's prefix is refused, and writes nothing.
    let before = (below(&one.store).await, below(&other.store).await);
    let tasks = Tasks::new(Shutdown::new());
    let mut options = other.world.options(1);
    options.fleet_id = Some(other.name.clone());
    let store = Arc::clone(&one.store);
    let refused = Service::start_on(store, options, tasks, Clock::system()).await;
    assert_eq!(refused.unwrap_err().code(), "WB-303");
    assert!((below(&one.store).await, below(&other.store).await) == before);
}
