//! Several daemons in one region: each shard has one owner, whoever leads a partition uploads it, all serve
//! all of it, and what a daemon that died owned goes on.

mod described;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::transport::Channel;
use uuid::Uuid;
use whimbrel_fleet::{Daemon, HostPort, NodeId, Role, View};
use whimbrel_rpc::proto::node::{self, tiering_client::TieringClient};
use whimbrel_runtime::{Clock, Shutdown, Tasks, unit::Span};
use whimbrel_tiering::{
    Handle, MIN_CACHE, Options, Service,
    format::Keys,
    meta::Head,
    root::Root,
    store::{Folder, Store},
};

use crate::{
    broker::FakeBroker,
    support::{Log, at, until},
    world::{World, bytes_of},
};

const SHARDS: usize = 16;

pub struct Region {
    pub world: World,
    /// Of what is unlinked.
    grace: Span,
    view: watch::Sender<Arc<View>>,
}

pub struct Node {
    id: i32,
    tasks: Tasks,
    pub handle: Handle,
    pub broker: FakeBroker,
    client: TieringClient<Channel>,
}

impl Region {
    pub fn new() -> Self {
        Self {
            world: World::new(),
            grace: Options::default().delete_grace,
            view: watch::Sender::new(Arc::default()),
        }
    }

    /// Starts a node and registers its daemon.
    pub async fn start(&self, id: i32) -> Node {
        let tasks = Tasks::new(Shutdown::new());
        let broker = FakeBroker::default();
        let data = self.data(id);
        std::fs::create_dir_all(&data).unwrap();
        let options = Options {
            node_id: id,
            region: "east".into(),
            fleet_id: Some("fleet-1".into()),
            data_dir: data,
            cache_dir: self.world.path(&format!("cache-{id}")),
            cache_bytes: MIN_CACHE,
            bucket: format!("file://{}", self.world.path("bucket").display()),
            broker: HostPort::new("127.0.0.1", broker.serve(&tasks).await.port()),
            peer_silence: Span::secs(2),
            meta_interval: Span::millis(100),
            delete_grace: self.grace,
            ..Options::default()
        };
        let store: Arc<dyn Store> = Arc::new(Folder::open(&self.world.path("bucket")).unwrap());
        let seen = Some(self.view.subscribe());
        let handle = Service::start_seeing(store, seen, options, tasks.clone(), Clock::system())
            .await
            .unwrap();
        let address = |at: std::net::SocketAddr| HostPort::new(at.ip().to_string(), at.port());
        let daemon = Daemon {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(id),
            incarnation: handle.incarnation,
            rpc: Some(address(handle.rpc)),
            admin: address(handle.admin),
        };
        self.change(|view| {
            view.daemons.retain(|d| d.node != daemon.node);
            view.daemons.push(daemon);
        });
        until("ready", || handle.ready().is_ok()).await;
        let client = TieringClient::connect(format!("http://{}", handle.rpc)).await;
        Node {
            id,
            tasks,
            handle,
            broker,
            client: client.unwrap(),
        }
    }

    fn data(&self, id: i32) -> std::path::PathBuf {
        self.world.path(&format!("data/{id}"))
    }

    fn change(&self, edit: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| edit(Arc::make_mut(view)));
    }

    /// Who owns how many shards, by the roots in the bucket.
    fn owned(&self) -> BTreeMap<Uuid, usize> {
        let mut counts = BTreeMap::new();
        for root in roots(&self.world.path("bucket/v1/east/root")) {
            *counts.entry(root.stamp.incarnation).or_default() += 1;
        }
        counts
    }

    /// A partition's log that `node` leads, copied as another replica would have it.
    pub fn log(&self, node: &Node, partition: i32, segments: usize) -> Log {
        Log::write(
            &self.data(node.id),
            partition,
            &vec![vec![(5, 300); 20]; segments],
        )
    }
}

fn roots(dir: &Path) -> Vec<Root> {
    let Ok(files) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let roots = files.filter_map(|file| Root::decode(&std::fs::read(file.ok()?.path()).ok()?).ok());
    roots.collect()
}

impl Node {
    async fn status(&self) -> serde_json::Value {
        crate::verify::status_of(self.handle.admin).await
    }

    async fn verify(&self) -> serde_json::Value {
        crate::verify::verify_at(self.handle.admin, "").await
    }

    pub async fn stop(self) {
        assert!(self.tasks.stop(Duration::from_secs(10)).await.is_empty());
    }

    pub async fn read_all(&mut self, log: &Log) -> Vec<u8> {
        let (mut offset, mut all) = (0, Vec::new());
        while offset < log.end() {
            let request = node::ReadRequest {
                at: Some(at(log.partition).into()),
                offset,
                max_bytes: 1 << 20,
                wait_ms: 30_000,
                lineage: Vec::new(),
                inline: false,
                doubt: false,
            };
            let reply = self.client.read(request).await.unwrap().into_inner();
            let bytes = bytes_of(&reply).unwrap();
            assert!(reply.next_offset > offset, "{}", reply.detail);
            all.extend_from_slice(&bytes);
            offset = reply.next_offset;
        }
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_daemons_share_a_bucket_and_one_that_dies_is_replaced() {
    let region = Region::new();
    let mut nodes = Vec::new();
    for id in [1, 11, 21] {
        nodes.push(region.start(id).await);
    }
    until("every shard has an owner", || {
        region.owned().values().sum::<usize>() == SHARDS
    })
    .await;
    // Whoever leads a partition uploads it, whoever owns its shard; every daemon learns of it.
    for (n, node) in nodes.iter().enumerate() {
        for partition in 0..8 {
            let partition = i32::try_from(n).unwrap() * 8 + partition;
            node.broker.lead(region.log(node, partition, 2));
        }
    }
    let end = region.log(&nodes[0], 0, 2).end();
    for node in &nodes {
        until("all is uploaded and known everywhere", || {
            (0..24).all(|partition| node.broker.verified(partition) == end)
        })
        .await;
    }
    let owners = region.owned();
    let (dead, _) = owners.iter().max_by_key(|(_, shards)| **shards).unwrap();
    let n = nodes.iter().position(|n| n.handle.incarnation == *dead);
    let gone = nodes.remove(n.unwrap());
    let led = i32::try_from(n.unwrap()).unwrap() * 8;
    let (dead, expected) = (gone.handle.incarnation, region.log(&gone, led, 2));
    gone.stop().await;
    // Its partitions are led by another node now, which has more to upload; the others go on too.
    for partition in led..led + 8 {
        nodes[0].broker.lead(region.log(&nodes[0], partition, 3));
    }
    let longer = region.log(&nodes[0], led, 3).end();
    until("its shards have owners and take uploads", || {
        (led..led + 8).all(|partition| nodes[0].broker.verified(partition) == longer)
    })
    .await;
    assert!(!region.owned().contains_key(&dead));
    for node in &mut nodes {
        assert!(node.read_all(&expected).await == expected.bytes_from(0));
    }
    for node in nodes {
        node.stop().await;
    }
}

/// One of the daemons describes the fleet; when it has gone, another does. What somebody bent is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_is_described_by_one_daemon_at_a_time_and_what_is_bent_is_found() {
    let region = Region::new();
    let fleet = |topics| {
        move |view: &mut View| {
            let daemons = std::mem::take(&mut view.daemons);
            *view = View {
                daemons,
                ..crate::meta::view(topics)
            };
        }
    };
    region.change(fleet(1));
    let mut nodes = vec![region.start(1).await, region.start(11).await];
    let dir = region.world.path("bucket/v1/east/meta");
    let head = || Head::decode(&std::fs::read(dir.join("head")).ok()?).ok();
    let described = async |topics: u64| {
        until("the fleet as it is", || {
            head().is_some_and(|head| head.newest().is_some_and(|k| k.view_version > topics))
        })
        .await;
        head().unwrap()
    };
    let first = described(1).await;
    region.change(fleet(2));
    let second = described(2).await;
    assert_eq!(second.stamp.incarnation, first.stamp.incarnation);
    let is_writer = |node: &Node| node.handle.incarnation == first.stamp.incarnation;
    let n = nodes.iter().position(is_writer).unwrap();
    let status = nodes[n].status().await;
    assert_eq!(status["meta"]["writer"], true, "{status}");
    assert!(status["meta"]["age_seconds"].as_f64().is_some());
    nodes.remove(n).stop().await;
    region.change(fleet(3));
    let third = described(3).await;
    assert_eq!(third.stamp.incarnation, nodes[0].handle.incarnation);
    assert_eq!(third.stamp.epoch, second.stamp.epoch + 1);
    let sound = nodes[0].verify().await;
    assert_eq!(
        (&sound["ok"], &sound["documents"]),
        (&true.into(), &3.into())
    );
    let newest = Keys::new("east").meta(&third.newest().unwrap().name);
    let path = region.world.path("bucket").join(newest.as_str());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[50] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let bent = nodes[0].verify().await;
    assert_eq!(bent["problems"][0]["code"], "WB-322", "{bent}");
    nodes.remove(0).stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_node_gives_its_shards_away_and_goes_on_as_a_follower() {
    let region = Region::new();
    let (first, second) = (region.start(1).await, region.start(11).await);
    until("every shard has an owner", || {
        region.owned().values().sum::<usize>() == SHARDS
    })
    .await;
    region.change(|view| view.fenced.extend([NodeId(1)]));
    let heir = second.handle.incarnation;
    until("the other has all", || {
        region.owned() == BTreeMap::from([(heir, SHARDS)])
    })
    .await;
    // As bytes: what lies in one shard goes up in one object and one edit.
    first.broker.inline();
    let partitions = 0..2 * i32::try_from(SHARDS).unwrap();
    for partition in partitions.clone() {
        first.broker.lead(region.log(&first, partition, 1));
    }
    let end = region.log(&first, 0, 1).end();
    let knows = |node: &Node| {
        let mut all = partitions.clone();
        all.all(|partition| node.broker.verified(partition) == end)
    };
    until("what it has is uploaded by way of the other", || {
        knows(&first) && knows(&second)
    })
    .await;
    first.stop().await;
    second.stop().await;
}
