//! A daemon on a folder beside a fake broker, and what a broker would ask it.

use std::{os::unix::fs::FileExt, sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::transport::Channel;
use whimbrel_fleet::{Daemon, HostPort, NodeId, Role, View};
use whimbrel_rpc::proto::node::{self, read_reply::Outcome, tiering_client::TieringClient};
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_tiering::{
    Handle, MIN_CACHE, Options, Service, StartError,
    store::{Folder, Store},
};

use crate::{
    broker::FakeBroker,
    fault::{Fault, Plan},
    support::{Log, at, until},
    usage,
    verify::status_of,
};

pub struct World {
    pub dir: tempfile::TempDir,
}

pub struct Running {
    bucket: std::path::PathBuf,
    pub tasks: Tasks,
    pub handle: Handle,
    pub client: TieringClient<Channel>,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["data", "bucket"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub fn options(&self, broker: u16) -> Options {
        Options {
            node_id: 1,
            region: "east".into(),
            fleet_id: Some("fleet-1".into()),
            data_dir: self.path("data"),
            cache_dir: self.path("cache"),
            cache_bytes: MIN_CACHE,
            bucket: format!("file://{}", self.path("bucket").display()),
            broker: HostPort::new("127.0.0.1", broker),
            ..Options::default()
        }
    }

    pub async fn start(&self, broker: &FakeBroker) -> Running {
        let store = Folder::open(&self.path("bucket")).unwrap();
        self.start_on(Arc::new(store), broker).await
    }

    /// The folder as if it were far away: nobody but the daemon can open its files.
    pub fn remote(&self) -> Fault<Folder> {
        Fault::new(Folder::open(&self.path("bucket")).unwrap(), Plan::Nothing)
    }

    pub async fn start_with(
        &self,
        broker: &FakeBroker,
        change: impl FnOnce(&mut Options),
    ) -> Running {
        let store = Folder::open(&self.path("bucket")).unwrap();
        self.start_changed(Arc::new(store), broker, change).await
    }

    /// A daemon that may refuse to start.
    pub async fn try_start(&self, broker: &FakeBroker) -> Result<Handle, StartError> {
        let tasks = Tasks::new(Shutdown::new());
        let port = broker.serve(&tasks).await.port();
        let started = Service::start(self.options(port), tasks.clone(), Clock::system()).await;
        tasks.stop(Duration::from_secs(1)).await;
        started
    }

    pub async fn start_on(&self, store: Arc<dyn Store>, broker: &FakeBroker) -> Running {
        self.start_changed(store, broker, |_| ()).await
    }

    pub async fn start_changed(
        &self,
        store: Arc<dyn Store>,
        broker: &FakeBroker,
        change: impl FnOnce(&mut Options),
    ) -> Running {
        let tasks = Tasks::new(Shutdown::new());
        let port = broker.serve(&tasks).await.port();
        let mut options = self.options(port);
        change(&mut options);
        let handle = Service::start_on(store, options, tasks.clone(), Clock::system())
            .await
            .unwrap();
        until("ready", || handle.ready().is_ok()).await;
        let client = TieringClient::connect(format!("http://{}", handle.rpc))
            .await
            .unwrap()
            .max_decoding_message_size(64 << 20);
        Running {
            bucket: self.path("bucket"),
            tasks,
            handle,
            client,
        }
    }

    /// Among the daemons of a fleet, all of which `view` shows.
    pub async fn start_seen(
        &self,
        view: &watch::Sender<Arc<View>>,
        broker: &FakeBroker,
        change: impl FnOnce(&mut Options),
    ) -> Running {
        let tasks = Tasks::new(Shutdown::new());
        let mut options = self.options(broker.serve(&tasks).await.port());
        change(&mut options);
        let (region, node) = (options.region.as_str().into(), NodeId(options.node_id));
        let store: Arc<dyn Store> = Arc::new(Folder::open(&self.path("bucket")).unwrap());
        let (seen, clock) = (Some(view.subscribe()), Clock::system());
        let handle = Service::start_seeing(store, seen, options, tasks.clone(), clock);
        let handle = handle.await.unwrap();
        let address = |at: std::net::SocketAddr| HostPort::new(at.ip().to_string(), at.port());
        let daemon = Daemon {
            role: Role::Tiering,
            region,
            node,
            incarnation: handle.incarnation,
            rpc: Some(address(handle.rpc)),
            admin: address(handle.admin),
        };
        view.send_modify(|view| {
            let daemons = &mut Arc::make_mut(view).daemons;
            daemons.retain(|other| other.node != node);
            daemons.push(daemon);
        });
        until("ready", || handle.ready().is_ok()).await;
        let client = TieringClient::connect(format!("http://{}", handle.rpc)).await;
        Running {
            bucket: self.path("bucket"),
            tasks,
            handle,
            client: client.unwrap().max_decoding_message_size(64 << 20),
        }
    }
}

impl Running {
    /// Whatever has happened, it says of the bucket what the bucket's roots say.
    pub async fn stop(self) {
        self.tells_what_is_there().await;
        assert!(self.tasks.stop(Duration::from_secs(10)).await.is_empty());
    }

    async fn tells_what_is_there(&self) {
        let mut differs = None;
        for _ in 0..1_000 {
            let told = status_of(self.handle.admin).await;
            differs = usage::differs(&told, &self.bucket);
            if differs.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{differs:?}");
    }

    pub async fn ask(&mut self, request: node::ReadRequest) -> node::ReadReply {
        self.client.read(request).await.unwrap().into_inner()
    }

    /// One read; the bytes of its ranges.
    pub async fn read(
        &mut self,
        partition: i32,
        offset: i64,
        max_bytes: u32,
        inline: bool,
    ) -> (Vec<u8>, node::ReadReply) {
        let request = node::ReadRequest {
            at: Some(at(partition).into()),
            offset,
            max_bytes,
            wait_ms: 30_000,
            lineage: Vec::new(),
            inline,
            doubt: false,
        };
        let reply = self.ask(request.clone()).await;
        if let Some(bytes) = bytes_of(&reply) {
            return (bytes, reply);
        }
        // As a broker does that finds something else than what was promised.
        let doubt = node::ReadRequest {
            doubt: true,
            ..request
        };
        let reply = self.ask(doubt).await;
        let bytes = bytes_of(&reply).expect("what was looked at before it was named");
        (bytes, reply)
    }

    pub async fn read_all(&mut self, log: &Log, from: i64, max_bytes: u32) -> Vec<u8> {
        let (mut offset, mut all) = (from, Vec::new());
        while offset < log.end() {
            let (bytes, reply) = self.read(log.partition, offset, max_bytes, false).await;
            assert_eq!(reply.outcome(), Outcome::Ranges, "{}", reply.detail);
            assert!(reply.next_offset > offset && !bytes.is_empty());
            all.extend_from_slice(&bytes);
            offset = reply.next_offset;
        }
        all
    }
}

/// The bytes that an answer names, if they are what it promises.
pub fn bytes_of(reply: &node::ReadReply) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for range in &reply.ranges {
        if range.block_crcs.is_empty() {
            assert_eq!(crc32c::crc32c(&range.inline), range.crc32c);
            all.extend_from_slice(&range.inline);
            continue;
        }
        let size = |n: u64| usize::try_from(n).unwrap();
        let mut bytes = vec![0; size(range.before + range.length + range.after)];
        let file = std::fs::File::open(&range.path).ok()?;
        file.read_exact_at(&mut bytes, range.position - range.before)
            .ok()?;
        let crcs = bytes
            .chunks(usize::try_from(range.block_bytes).unwrap())
            .map(crc32c::crc32c);
        if !crcs.eq(range.block_crcs.iter().copied()) {
            return None;
        }
        all.extend_from_slice(&bytes[size(range.before)..size(range.before + range.length)]);
    }
    Some(all)
}
