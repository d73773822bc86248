//! A whole daemon on a machine whose clock is a year off the store's: nothing leaves the bucket by its age, and the
//! status says why.

use std::{
    collections::BTreeSet,
    ops::Range,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use whimbrel_fleet::{
    Daemon, FailoverGroup, GroupName, HostPort, NodeId, Partition, Region, Role, Topic, View,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_tiering::{
    Service,
    format::Key,
    store::{Folder, Found, Listed, Meta, Source, Store, StoreError, Version},
};

use crate::{
    broker::FakeBroker,
    older_root::objects,
    support::{Log, at, until},
    usage,
    verify::status_of,
    world::World,
};

/// And half an hour, so that neither way it is less.
const YEAR_MS: i64 = 365 * 86_400_000 + 1_800_000;

/// Dates what it keeps by a clock that is so far off this machine's.
#[derive(Clone, Debug)]
struct Dated {
    folder: Folder,
    off_ms: Arc<AtomicI64>,
}

#[async_trait]
impl Store for Dated {
    fn describe(&self) -> String {
        self.folder.describe()
    }

    async fn head(&self, key: &Key) -> Result<Meta, StoreError> {
        let mut meta = self.folder.head(key).await?;
        let off_ms = self.off_ms.load(Ordering::SeqCst);
        meta.modified_ms = meta.modified_ms.map(|ms| ms + off_ms);
        Ok(meta)
    }

    async fn get(&self, key: &Key, max: u64) -> Result<Found, StoreError> {
        self.folder.get(key, max).await
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.folder.get_range(key, range).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.folder.list(prefix).await
    }

    async fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.folder.delete(key).await
    }

    async fn put_if_absent(&self, key: &Key, bytes: Bytes) -> Result<Version, StoreError> {
        self.folder.put_if_absent(key, bytes).await
    }

    async fn swap(&self, key: &Key, bytes: Bytes, old: &Version) -> Result<Version, StoreError> {
        self.folder.swap(key, bytes, old).await
    }

    async fn put_file(&self, key: &Key, source: &Source) -> Result<Option<u64>, StoreError> {
        self.folder.put_file(key, source).await
    }

    async fn copy(&self, from: &Key, to: &Key) -> Result<(), StoreError> {
        self.folder.copy(from, to).await
    }
}

/// A fleet whose one topic keeps its records for an hour.
fn fleet() -> View {
    let mut view = View {
        version: 2,
        fleet_id: "fleet-1".into(),
        ..View::default()
    };
    let east = Region {
        name: "east".into(),
        lost: false,
    };
    view.regions.insert("east".into(), east);
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    view.groups.insert(group.name.clone(), group);
    let topic = Topic {
        name: "access.log".into(),
        id: at(0).topic_id,
        group: GroupName::default_group(),
        partitions: vec![Partition::default()],
        configs: [("retention.ms".to_owned(), "3600000".to_owned())].into(),
        replication_factor: 1,
        internal: false,
    };
    view.topics.insert(topic.name.clone(), topic);
    view
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_a_year_off_deletes_nothing_and_is_named() {
    for (off_ms, said) in [(-YEAR_MS, "ahead of"), (YEAR_MS, "behind")] {
        let world = World::new();
        let shape = vec![vec![(5, 300); 20]; 4];
        let log = || Log::write(&world.path("data"), 0, &shape);
        // By any clock its records are far older than the topic keeps them.
        let broker = FakeBroker::new(vec![log()]);
        broker.obey();
        let off = Arc::new(AtomicI64::new(off_ms));
        let store = Dated {
            folder: Folder::open(&world.path("bucket")).unwrap(),
            off_ms: Arc::clone(&off),
        };
        let tasks = Tasks::new(Shutdown::new());
        let mut options = world.options(broker.serve(&tasks).await.port());
        options.retention_interval = Span::millis(20);
        options.delete_grace = Span::millis(1);
        options.meta_interval = Span::millis(50);
        let (view, seen) = watch::channel(Arc::new(fleet()));
        let clock = Clock::system();
        let handle =
            Service::start_seeing(Arc::new(store), Some(seen), options, tasks.clone(), clock)
                .await
                .unwrap();
        view.send_modify(|view| {
            let me = Daemon {
                role: Role::Tiering,
                region: "east".into(),
                node: NodeId(1),
                incarnation: handle.incarnation,
                rpc: Some(HostPort::new("127.0.0.1", handle.rpc.port())),
                admin: HostPort::new("127.0.0.1", handle.admin.port()),
            };
            Arc::make_mut(view).daemons.push(me);
        });
        until("uploaded", || broker.is_all_verified()).await;
        let data = || -> BTreeSet<PathBuf> { objects(&world.path("bucket/v1/east/data")) };
        let (before, asked) = (data(), broker.asked());
        assert_eq!(before.len(), 4);
        until("retention has been looked at", || {
            broker.asked() > asked + 10
        })
        .await;
        let doubt = status_of(handle.admin).await["clock_doubted"].to_string();
        assert!(doubt.contains("8760 h") && doubt.contains(said), "{doubt}");
        assert_eq!(data(), before);
        // Once the clocks agree again the same records go.
        off.store(0, Ordering::SeqCst);
        until("retention has its way", || data().is_empty()).await;
        assert!(status_of(handle.admin).await["clock_doubted"].is_null());
        assert!(tasks.stop(Duration::from_secs(10)).await.is_empty());
        let strays = usage::strays(&world.path("bucket"));
        assert!(strays.is_empty(), "{strays:?}");
    }
}
