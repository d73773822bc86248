//! A tiering daemon without a bucket: keeps copies of slices in a folder and answers reads from them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Channel};
use whimbrel_broker::Options;
use whimbrel_fleet::{HostPort, TopicPartition};
use whimbrel_rpc::proto::node::{
    AbortedTransaction, AbortedTransactions, EditReply, EditRequest, Empty, EpochStart, Extent,
    HoldReply, HoldRequest, LineageReply, LineageRequest, OrphanReply, OrphanRequest, Range,
    ReadReply, ReadRequest, ReleaseRequest, Slice, TieredReport, TimestampReply, TimestampRequest,
    TruncateReply, TruncateRequest, UploadableRequest,
    broker_client::BrokerClient,
    read_reply::Outcome,
    tiering_server::{Tiering, TieringServer},
};
use whimbrel_runtime::{OnError, Shutdown, Tasks};

use crate::fleet::{Broker, EAST, Fleet};

/// Base offset -> what was uploaded.
type Kept = Arc<Mutex<BTreeMap<TopicPartition, BTreeMap<i64, Copy>>>>;

struct Copy {
    end: i64,
    path: PathBuf,
    /// As in `.txnindex`.
    aborted: Bytes,
    lineage: Vec<EpochStart>,
}

pub struct Daemon {
    pub address: HostPort,
    kept: Kept,
    dir: PathBuf,
    tasks: Tasks,
    /// Reads answer `pending` until it is set.
    pub thawed: Arc<std::sync::atomic::AtomicBool>,
    /// Reads are not answered at all while it is set.
    pub hung: Arc<std::sync::atomic::AtomicBool>,
    /// Answers do not say which transactions were aborted while it is set.
    pub silent: Arc<std::sync::atomic::AtomicBool>,
    /// What the bucket knows of a partition is not told while it is set.
    pub away: Arc<std::sync::atomic::AtomicBool>,
    /// Tails are taken while it is set.
    pub takes_tails: Arc<std::sync::atomic::AtomicBool>,
    /// Every truncation that was asked for.
    pub cuts: Arc<Mutex<Vec<TruncateRequest>>>,
}

struct Server {
    kept: Kept,
    thawed: Arc<std::sync::atomic::AtomicBool>,
    hung: Arc<std::sync::atomic::AtomicBool>,
    silent: Arc<std::sync::atomic::AtomicBool>,
    away: Arc<std::sync::atomic::AtomicBool>,
    takes_tails: Arc<std::sync::atomic::AtomicBool>,
    cuts: Arc<Mutex<Vec<TruncateRequest>>>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tasks.shutdown().request();
    }
}

impl Daemon {
    pub async fn start(dir: PathBuf) -> Self {
        std::fs::create_dir_all(&dir).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
        let (kept, thawed, hung) = (Kept::default(), Arc::default(), Arc::default());
        let (silent, away) = (Arc::default(), Arc::default());
        let (takes_tails, cuts) = (Arc::default(), Arc::default());
        let tasks = Tasks::new(Shutdown::new());
        let server = TieringServer::new(Server {
            kept: Arc::clone(&kept),
            thawed: Arc::clone(&thawed),
            hung: Arc::clone(&hung),
            silent: Arc::clone(&silent),
            away: Arc::clone(&away),
            takes_tails: Arc::clone(&takes_tails),
            cuts: Arc::clone(&cuts),
        });
        let shutdown = tasks.shutdown();
        let serving = async move {
            let incoming = TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await })
                .await
        };
        tasks.spawn("daemon", OnError::Log, serving);
        Self {
            address,
            kept,
            dir,
            tasks,
            thawed,
            hung,
            silent,
            away,
            takes_tails,
            cuts,
        }
    }

    /// A daemon, the broker that it serves, and that one's folder.
    pub async fn beside_a_broker(fleet: &Fleet) -> (Self, Broker, PathBuf) {
        let daemon = Self::start(fleet.dir.path().join("kept")).await;
        let options = Options {
            tiering: Some(daemon.address.clone()),
            ..fleet.options(1, EAST)
        };
        let data_dir = options.data_dir.clone();
        let broker = fleet.try_broker(options).await.unwrap();
        (daemon, broker, data_dir)
    }

    /// Copies everything that may go up; how many records that was.
    pub async fn upload(
        &self,
        broker: &mut BrokerClient<Channel>,
        data_dir: &std::path::Path,
    ) -> u64 {
        let tiered = self.extents();
        let reply = broker
            .uploadable(UploadableRequest {
                tiered,
                max_slices: 100,
                wait_ms: 200,
                pending_only: false,
            })
            .await
            .unwrap()
            .into_inner();
        self.keep(broker, reply.slices, data_dir).await
    }

    /// What is kept of a partition gives way to what compaction has left of it.
    pub async fn replace(
        &self,
        broker: &mut BrokerClient<Channel>,
        slices: Vec<Slice>,
        data_dir: &std::path::Path,
    ) {
        for slice in &slices {
            let at = TopicPartition::try_from(slice.at.as_ref().unwrap()).unwrap();
            let mut kept = self.kept.lock().unwrap();
            let kept = kept.entry(at).or_default();
            kept.retain(|base, _| !(slice.base_offset..slice.end_offset).contains(base));
        }
        self.keep(broker, slices, data_dir).await;
    }

    /// Partitions of which something is kept.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        self.kept.lock().unwrap().keys().copied().collect()
    }

    async fn keep(
        &self,
        broker: &mut BrokerClient<Channel>,
        slices: Vec<Slice>,
        data_dir: &std::path::Path,
    ) -> u64 {
        let (mut records, mut tokens) = (0, Vec::new());
        for slice in slices {
            let at = TopicPartition::try_from(slice.at.as_ref().unwrap()).unwrap();
            let (from, length) = (slice.position as usize, slice.bytes as usize);
            let file = match slice.inline.is_empty() {
                true => std::fs::read(data_dir.join(&slice.path)).unwrap(),
                false => slice.inline.to_vec(),
            };
            let copy = self
                .dir
                .join(format!("{}-{}", at.partition, slice.base_offset));
            std::fs::write(&copy, &file[from..from + length]).unwrap();
            let copy = Copy {
                end: slice.end_offset,
                path: copy,
                aborted: slice.aborted,
                lineage: slice.lineage,
            };
            self.kept
                .lock()
                .unwrap()
                .entry(at)
                .or_default()
                .insert(slice.base_offset, copy);
            records += slice.records;
            if slice.inline.is_empty() {
                tokens.push(slice.token);
            }
        }
        broker.release(ReleaseRequest { tokens }).await.unwrap();
        broker
            .tiered(TieredReport {
                verified: self.extents(),
            })
            .await
            .unwrap();
        records
    }

    /// Links that the broker still keeps for us.
    pub fn pinned(&self, data_dir: &std::path::Path) -> usize {
        std::fs::read_dir(data_dir.join("pins")).map_or(0, Iterator::count)
    }

    /// What is kept of each partition, as ranges of offsets.
    pub fn ranges(&self) -> Vec<Vec<(i64, i64)>> {
        let kept = self.kept.lock().unwrap();
        let of = |slices: &BTreeMap<i64, Copy>| {
            let range = |(base, copy): (&i64, &Copy)| (*base, copy.end);
            slices.iter().map(range).collect()
        };
        kept.values().map(of).collect()
    }

    fn extents(&self) -> Vec<Extent> {
        let kept = self.kept.lock().unwrap();
        let extent = |(at, slices): (&TopicPartition, &BTreeMap<i64, Copy>)| Extent {
            at: Some((*at).into()),
            start_offset: *slices.keys().next().unwrap(),
            end_offset: slices.values().map(|copy| copy.end).max().unwrap(),
            end_epoch: None,
        };
        kept.iter().map(extent).collect()
    }
}

#[tonic::async_trait]
impl Tiering for Server {
    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadReply>, Status> {
        let request = request.into_inner();
        if self.hung.load(std::sync::atomic::Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if !self.thawed.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(Response::new(ReadReply {
                outcome: Outcome::Pending.into(),
                detail: "503 SlowDown".to_owned(),
                ..ReadReply::default()
            }));
        }
        let at = TopicPartition::try_from(request.at.as_ref().unwrap()).unwrap();
        let kept = self.kept.lock().unwrap();
        let holds = |offset: i64| {
            kept.get(&at)
                .and_then(|slices| slices.range(..=offset).next_back())
                .filter(|(_, copy)| copy.end > offset)
        };
        // Compaction may have left nothing at the end of a slice.
        let mut found = holds(request.offset);
        while let Some((_, copy)) = found
            && last_offset(&copy.path) < request.offset
        {
            found = holds(copy.end);
        }
        let Some((
            _,
            Copy {
                end, path, aborted, ..
            },
        )) = found
        else {
            return Ok(Response::new(ReadReply {
                outcome: Outcome::NotTiered.into(),
                ..ReadReply::default()
            }));
        };
        let all = Bytes::from(std::fs::read(path).unwrap());
        let skip: usize = whimbrel_wire::Batches::new(all.clone())
            .map(Result::unwrap)
            .take_while(|b| b.header.next_offset() <= request.offset)
            .map(|b| b.bytes.len())
            .sum();
        let range = Range {
            path: path.display().to_string(),
            position: skip as u64,
            length: (all.len() - skip) as u64,
            crc32c: crc32c::crc32c(&all[skip..]),
            ..Range::default()
        };
        Ok(Response::new(ReadReply {
            outcome: Outcome::Ranges.into(),
            ranges: vec![range],
            next_offset: *end,
            detail: String::new(),
            aborted: (!self.silent.load(std::sync::atomic::Ordering::SeqCst))
                .then(|| touching(aborted, request.offset)),
        }))
    }

    async fn offset_for_timestamp(
        &self,
        _: Request<TimestampRequest>,
    ) -> Result<Response<TimestampReply>, Status> {
        if self.hung.load(std::sync::atomic::Ordering::SeqCst) {
            return std::future::pending().await;
        }
        Ok(Response::new(TimestampReply {
            found: true,
            offset: 3,
            timestamp_ms: 1,
            leader_epoch: 0,
        }))
    }

    async fn lineage(
        &self,
        request: Request<LineageRequest>,
    ) -> Result<Response<LineageReply>, Status> {
        if self.away.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(Status::unavailable("the bucket is away"));
        }
        let at = TopicPartition::try_from(request.get_ref().at.as_ref().unwrap()).unwrap();
        let kept = self.kept.lock().unwrap();
        let copies = kept.get(&at).into_iter().flat_map(BTreeMap::values);
        let mut lineage: Vec<_> = copies.flat_map(|copy| copy.lineage.clone()).collect();
        lineage.dedup();
        let log_start = (!lineage.is_empty()).then_some(0);
        Ok(Response::new(LineageReply { lineage, log_start }))
    }

    async fn store_orphan(
        &self,
        _: Request<OrphanRequest>,
    ) -> Result<Response<OrphanReply>, Status> {
        if self.takes_tails.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(Response::new(OrphanReply::default()));
        }
        Err(Status::unavailable("the bucket is away"))
    }

    async fn truncate(
        &self,
        request: Request<TruncateRequest>,
    ) -> Result<Response<TruncateReply>, Status> {
        let request = request.into_inner();
        let at = TopicPartition::try_from(request.at.as_ref().unwrap()).unwrap();
        let mut kept = self.kept.lock().unwrap();
        let mut end_offset = request.offset;
        if let Some(copies) = kept.get_mut(&at) {
            copies.retain(|base, _| *base < request.offset);
            for copy in copies.values_mut() {
                copy.end = copy.end.min(request.offset);
            }
            end_offset = copies.values().map(|copy| copy.end).max().unwrap_or(0);
        }
        self.cuts.lock().unwrap().push(request);
        Ok(Response::new(TruncateReply {
            end_offset,
            ..TruncateReply::default()
        }))
    }

    async fn edit(&self, _: Request<EditRequest>) -> Result<Response<EditReply>, Status> {
        Err(Status::unimplemented(
            "daemons ask each other, not this one",
        ))
    }

    async fn hold(&self, _: Request<HoldRequest>) -> Result<Response<HoldReply>, Status> {
        Err(Status::unimplemented("no broker asks for it"))
    }

    async fn alive(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

fn last_offset(path: &std::path::Path) -> i64 {
    let all = Bytes::from(std::fs::read(path).unwrap());
    let last = whimbrel_wire::Batches::new(all).map(Result::unwrap).last();
    last.unwrap().header.last_offset()
}

/// The entries of a `.txnindex` whose markers lie at or above `from`.
fn touching(index: &[u8], from: i64) -> AbortedTransactions {
    let number =
        |entry: &[u8], at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().unwrap());
    let transactions = index.chunks_exact(34).map(|entry| AbortedTransaction {
        producer_id: number(entry, 2),
        first_offset: number(entry, 10),
        last_offset: number(entry, 18),
    });
    AbortedTransactions {
        transactions: transactions.filter(|txn| txn.last_offset >= from).collect(),
    }
}
