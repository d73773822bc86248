//! A broker that has only the tiering daemon's side: it offers the slices of its logs, in order, as long as
//! the bucket does not hold them.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node::{
    self,
    broker_server::{Broker, BrokerServer},
};
use whimbrel_runtime::{OnError, Tasks};

use crate::{
    freed::{Told, lacks},
    memory::Memory,
    support::{Log, at},
};

#[derive(Clone, Debug, Default)]
pub struct FakeBroker(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    logs: Vec<Log>,
    /// Highest verified end that was reported, per partition.
    verified: BTreeMap<TopicPartition, i64>,
    log_starts: BTreeMap<TopicPartition, i64>,
    /// Log starts are not the home's word, or of this region epoch.
    follows: bool,
    region_epoch: Option<u32>,
    /// Log starts that were proposed: they are taken where `obeys`, and counted.
    obeys: bool,
    asked: usize,
    pinned: usize,
    /// Nothing is handed out now.
    held: bool,
    /// Slices come as bytes.
    inline: bool,
    next_token: u64,
    /// What compaction has left, by partition.
    cleaned: BTreeMap<TopicPartition, Vec<Cleaned>>,
    /// What the daemon's words are held against.
    bucket: Option<Memory>,
    /// What it was told before the bucket held it.
    too_early: Vec<String>,
}

impl Inner {
    fn told(&self, at: TopicPartition, end: i64) -> Told {
        let log = self
            .logs
            .iter()
            .find(|log| crate::support::at(log.partition) == at);
        let segments = log.into_iter().flat_map(|log| &log.segments);
        Told {
            at,
            log_start: self.log_starts.get(&at).copied().unwrap_or(0),
            end,
            segments: segments.map(|s| (s.0, s.1, s.3.clone())).collect(),
        }
    }
}

/// A segment that was cleaned, with the epochs of the log up to its end.
#[derive(Clone, Debug)]
pub struct Cleaned {
    pub base: i64,
    pub end: i64,
    pub path: PathBuf,
    pub bytes: u64,
    pub lineage: Vec<node::EpochStart>,
}

impl FakeBroker {
    pub fn new(logs: Vec<Log>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            logs,
            ..Inner::default()
        })))
    }

    /// Holds what it is told against `bucket` from now on.
    pub fn beside(self, bucket: &Memory) -> Self {
        self.0.lock().bucket = Some(bucket.clone());
        self
    }

    /// What the broker was told that it may free and the bucket did not hold then, or does not now.
    pub async fn freed_too_early(&self) -> Vec<String> {
        let (bucket, told, mut found) = {
            let inner = self.0.lock();
            let told = inner.verified.iter().map(|(at, end)| inner.told(*at, *end));
            let told: Vec<_> = told.collect();
            (inner.bucket.clone(), told, inner.too_early.clone())
        };
        let bucket = bucket.expect("a bucket to hold it against");
        for told in told.iter().filter(|told| told.end > 0) {
            found.extend(lacks(&bucket, told).await);
        }
        found
    }

    pub fn replace(&self, logs: Vec<Log>) {
        self.0.lock().logs = logs;
    }

    /// The broker leads the partition of `log` from now on.
    pub fn lead(&self, log: Log) {
        self.0.lock().logs.push(log);
    }

    pub async fn serve(&self, tasks: &Tasks) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = tasks.shutdown();
        let server = Server::builder().add_service(BrokerServer::new(self.clone()));
        tasks.spawn(
            "fake broker",
            OnError::Log,
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                shutdown.wait().await
            }),
        );
        address
    }

    pub fn verified(&self, partition: i32) -> i64 {
        self.0
            .lock()
            .verified
            .get(&at(partition))
            .copied()
            .unwrap_or(0)
    }

    /// Whether all of its logs are in the bucket, as it was told.
    pub fn is_all_verified(&self) -> bool {
        let inner = self.0.lock();
        let verified = |log: &Log| inner.verified.get(&at(log.partition)) == Some(&log.end());
        inner.logs.iter().all(verified)
    }

    pub fn pinned(&self) -> usize {
        self.0.lock().pinned
    }

    pub fn set_log_start(&self, partition: i32, offset: i64) {
        self.0.lock().log_starts.insert(at(partition), offset);
    }

    /// Whether what it says of log starts is the word of the home's leader, and of which region epoch.
    pub fn speaks(&self, stands: bool, region_epoch: u32) {
        let mut inner = self.0.lock();
        (inner.follows, inner.region_epoch) = (!stands, Some(region_epoch));
    }

    /// What is proposed as a log start is one from now on.
    pub fn obey(&self) {
        self.0.lock().obeys = true;
    }

    /// How often it was asked where its logs begin.
    pub fn asked(&self) -> usize {
        self.0.lock().asked
    }

    pub fn inline(&self) {
        self.0.lock().inline = true;
    }

    pub fn clean(&self, partition: i32, segments: Vec<Cleaned>) {
        self.0.lock().cleaned.insert(at(partition), segments);
    }

    /// What compaction has left below `end`, as the broker hands it out.
    pub fn hand_out(&self, at: TopicPartition, base: i64, end: i64) -> Vec<node::Slice> {
        let mut inner = self.0.lock();
        inner.next_token += 1;
        inner.pinned += 1;
        let token = inner.next_token;
        let all = inner.cleaned.get(&at).cloned().unwrap_or_default();
        let full = all.iter().filter(|s| s.end <= end && s.bytes > 0);
        let (mut from, mut slices) = (base, Vec::new());
        for segment in full {
            slices.push(node::Slice {
                token,
                topic: "access.log".to_owned(),
                at: Some(at.into()),
                group: "default".to_owned(),
                region_epoch: 1,
                base_offset: from,
                end_offset: segment.end,
                path: segment.path.display().to_string(),
                bytes: segment.bytes,
                sparse: true,
                ..node::Slice::default()
            });
            from = segment.end;
        }
        if let Some(last) = slices.last_mut() {
            last.end_offset = end;
        }
        let below = all.iter().rev().find(|s| s.end <= end);
        let lineage = below.map(|s| s.lineage.clone()).unwrap_or_default();
        for slice in &mut slices {
            let begun = |offset: i64| lineage.partition_point(|e| e.start_offset < offset);
            let first = begun(slice.base_offset + 1) - 1;
            slice.lineage = lineage[first..begun(slice.end_offset)].to_vec();
        }
        slices
    }

    pub fn hold(&self, held: bool) {
        self.0.lock().held = held;
    }

    fn offer(&self, tiered: &BTreeMap<TopicPartition, i64>, max: usize) -> node::UploadableReply {
        let mut inner = self.0.lock();
        let mut reply = node::UploadableReply::default();
        let mut token = inner.next_token;
        for log in &inner.logs {
            let from = tiered.get(&at(log.partition)).copied().unwrap_or(0);
            for n in 0..log.segments.len() {
                if log.segments[n].0 < from || max == 0 {
                    continue;
                }
                if inner.inline {
                    let mut slice = log.slice(n, 0);
                    slice.path.clear();
                    slice.inline = log.segments[n].3.clone().into();
                    reply.slices.push(slice);
                } else if reply.slices.len() < max {
                    token += 1;
                    reply.slices.push(log.slice(n, token));
                }
            }
            if from < log.end() {
                reply.pending.push(node::OldestPending {
                    at: Some(at(log.partition).into()),
                    append_time_ms: 1_000 + from,
                    bytes: 1,
                });
            }
        }
        inner.pinned += usize::try_from(token - inner.next_token).unwrap();
        inner.next_token = token;
        reply
    }
}

fn ends(extents: &[node::Extent]) -> BTreeMap<TopicPartition, i64> {
    extents
        .iter()
        .map(|e| {
            (
                TopicPartition::try_from(e.at.as_ref().unwrap()).unwrap(),
                e.end_offset,
            )
        })
        .collect()
}

#[async_trait::async_trait]
impl Broker for FakeBroker {
    async fn uploadable(
        &self,
        request: Request<node::UploadableRequest>,
    ) -> Result<Response<node::UploadableReply>, Status> {
        let request = request.into_inner();
        let max = usize::try_from(request.max_slices).unwrap();
        let held = self.0.lock().held;
        let reply = self.offer(&ends(&request.tiered), if held { 0 } else { max });
        if request.pending_only {
            return Ok(Response::new(reply));
        }
        if reply.slices.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Response::new(reply))
    }

    async fn tiered(
        &self,
        request: Request<node::TieredReport>,
    ) -> Result<Response<node::Empty>, Status> {
        let ends = ends(&request.get_ref().verified);
        let (bucket, told) = {
            let mut inner = self.0.lock();
            let told = ends.iter().filter(|(_, end)| **end > 0);
            let told: Vec<_> = told.map(|(at, end)| inner.told(*at, *end)).collect();
            inner.verified.extend(ends);
            (inner.bucket.clone(), told)
        };
        if let Some(bucket) = bucket {
            for told in told {
                let lacks = lacks(&bucket, &told).await;
                self.0.lock().too_early.extend(lacks);
            }
        }
        Ok(Response::new(node::Empty {}))
    }

    async fn release(
        &self,
        request: Request<node::ReleaseRequest>,
    ) -> Result<Response<node::Empty>, Status> {
        self.0.lock().pinned -= request.get_ref().tokens.len();
        Ok(Response::new(node::Empty {}))
    }

    async fn cleaned(
        &self,
        request: Request<node::CleanedRequest>,
    ) -> Result<Response<node::CleanedReply>, Status> {
        let asked = request.into_inner();
        let at = TopicPartition::try_from(asked.at.as_ref().unwrap()).unwrap();
        let slices = self.hand_out(at, asked.base_offset, asked.end_offset);
        Ok(Response::new(node::CleanedReply { slices }))
    }

    async fn propose_log_start(
        &self,
        request: Request<node::LogStartProposal>,
    ) -> Result<Response<node::LogStartReply>, Status> {
        let at = TopicPartition::try_from(request.get_ref().at.as_ref().unwrap()).unwrap();
        let mut inner = self.0.lock();
        inner.asked += 1;
        let mut log_start = inner.log_starts.get(&at).copied().unwrap_or(0);
        if inner.obeys {
            log_start = log_start.max(request.get_ref().log_start);
            inner.log_starts.insert(at, log_start);
        }
        Ok(Response::new(node::LogStartReply {
            log_start,
            stands: !inner.follows,
            region_epoch: inner.region_epoch.unwrap_or(u32::MAX),
            leader_epoch: i32::MAX,
        }))
    }

    async fn logs(
        &self,
        request: Request<node::LogsRequest>,
    ) -> Result<Response<node::LogsReply>, Status> {
        let inner = self.0.lock();
        let node::LogsRequest { at: asked, cleaned } = request.into_inner();
        let here = inner.logs.iter().filter_map(|log| {
            let mine = at(log.partition);
            asked
                .iter()
                .any(|a| TopicPartition::try_from(a) == Ok(mine))
                .then(|| node::LogState {
                    at: Some(mine.into()),
                    log_start: inner.log_starts.get(&mine).copied().unwrap_or(0),
                    local_log_start: log.local_start,
                    durable_end: log.end(),
                    log_start_stands: true,
                    region_epoch: u32::MAX,
                    leader_epoch: i32::MAX,
                    log_start_lost: false,
                    cleaned: inner
                        .cleaned
                        .get(&mine)
                        .filter(|_| cleaned)
                        .into_iter()
                        .flatten()
                        .map(|s| node::CleanedSegment {
                            base_offset: s.base,
                            end_offset: s.end,
                            bytes: s.bytes,
                        })
                        .collect(),
                    // Segments of one epoch each bring it along.
                    lineage: log
                        .lineage
                        .chunk_by(|a, b| a.epoch == b.epoch)
                        .filter_map(|same| same.first())
                        .map(|e| node::EpochStart {
                            epoch: e.epoch,
                            start_offset: e.start_offset,
                        })
                        .collect(),
                })
        });
        Ok(Response::new(node::LogsReply {
            logs: here.collect(),
        }))
    }
}
