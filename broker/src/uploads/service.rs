//! The tonic service that this node's tiering daemon calls.

use std::{cell::LazyCell, collections::HashMap, ops::Range, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use whimbrel_fleet::TopicPartition;
use whimbrel_log::Segment;
use whimbrel_rpc::proto::node::{
    CleanedReply, CleanedRequest, Empty, EpochStart, Extent, LogStartProposal, LogStartReply,
    LogState, LogsReply, LogsRequest, PartitionId, ReleaseRequest, TieredReport, UploadableReply,
    UploadableRequest,
    broker_server::{Broker as Service, BrokerServer},
};

use super::{
    cleaned,
    extent::{self, Held},
    slice, timebox,
};
use crate::{
    broker::Broker,
    housekeeping, log_starts,
    partition::{Partition, Role},
};

/// How often a waiting daemon's question is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Longest wait of one question.
const LONGEST_WAIT_MS: u32 = 30_000;
/// Slices per answer that are pinned, each by a handful of links.
const MOST_PINNED: usize = 256;
/// Slices per answer at all, and the bytes that go along with it: of ten thousand quiet partitions all
/// should come at once, so that they share objects.
const MOST_SLICES: usize = 16_384;
const MOST_BYTES: u64 = 16 << 20;
/// A million extents fit.
const MESSAGE_BYTES: usize = 64 << 20;

/// Serves until shutdown.
pub async fn run(
    broker: Arc<Broker>,
    listener: TcpListener,
) -> Result<(), tonic::transport::Error> {
    let shutdown = broker.tasks.shutdown();
    let peer = crate::peers::service(&broker);
    let service = BrokerServer::new(Node { broker })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(MESSAGE_BYTES);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Server::builder()
        .add_service(service)
        .add_service(peer)
        .serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await })
        .await
}

struct Node {
    broker: Arc<Broker>,
}

impl Node {
    fn partition(&self, at: Option<&PartitionId>) -> Result<Arc<Partition>, Status> {
        let at = at.ok_or_else(|| Status::invalid_argument("no partition was named"))?;
        let at =
            TopicPartition::try_from(at).map_err(|e| Status::invalid_argument(e.to_string()))?;
        self.broker
            .catalog()
            .local(at)
            .cloned()
            .ok_or_else(|| Status::not_found(format!("{at} is not here")))
    }

    async fn look(
        &self,
        tiered: &Arc<Ends>,
        most: usize,
        open: bool,
        last: bool,
    ) -> UploadableReply {
        let (broker, tiered) = (Arc::clone(&self.broker), Arc::clone(tiered));
        let tasks = broker.tasks.clone();
        let looked = move || look(&broker, &tiered, most, open, last);
        tasks.blocking(looked).await
    }
}

type Ends = HashMap<TopicPartition, i64>;

/// In the place of an end: what the bucket has is of another log, so that all of this one is pending and none of it
/// can go up.
const DIFFERS: i64 = -1;

/// Says what the bucket's extent means here, once; nothing local is taken to be in another log's bucket.
fn note(partition: &Partition, extent: &Extent, held: Held) {
    let at = partition.at;
    let differs = matches!(held, Held::Differs);
    if differs {
        let here = partition.log.offsets().local_log_start;
        partition.set_tiered_end(partition.tiered_end().min(here));
    }
    let is_new = partition.set_bucket_differs(differs);
    if differs && is_new {
        tracing::error!(code = "WB-128", %at, end = extent.end_offset, epoch = extent.end_epoch, "the bucket's records are of another lineage; nothing is freed and nothing goes up");
    }
    // A follower may not have heard yet that its log begins higher.
    if held == Held::Gap && matches!(partition.role(), Role::Leader(_)) {
        tracing::warn!(%at, bucket = extent.start_offset, "nothing is freed: the bucket begins above the local log");
    }
}

/// Where the bucket's part of a partition ends, or its log begins.
fn end_of(tiered: &Ends, partition: &Partition) -> i64 {
    let log_start = partition.log.offsets().log_start;
    let end = tiered.get(&partition.at).copied().unwrap_or(0);
    end.max(log_start)
}

/// What may go up now. `open` looks at open segments as well, `last` tells what is pending too.
fn look(broker: &Broker, tiered: &Ends, most: usize, open: bool, last: bool) -> UploadableReply {
    let mut hand = Hand::new(broker, most);
    let (catalog, uploads) = (broker.catalog(), &broker.uploads);
    let bounds = LazyCell::new(|| timebox::Bounds::of(&catalog.view));
    let is_bound = |partition: &Partition| {
        let topic = catalog.topic_by_id(partition.at.topic_id);
        topic.is_some_and(|topic| bounds.within_ms(topic).is_some())
    };
    if most > 0 {
        let sound = |p: &&Arc<Partition>| tiered.get(&p.at) != Some(&DIFFERS);
        for partition in catalog.partitions().filter(sound) {
            let end = end_of(tiered, partition);
            let mut from = slice::begin(partition, end);
            for segment in slice::due(partition, end) {
                // Others' closed segments are objects of their own, as large as the topic says.
                let merge = segment.bytes <= slice::SMALL && is_bound(partition);
                hand.add(partition, &segment, from..segment.end_offset, merge);
                from = segment.end_offset;
            }
        }
    }
    if open {
        uploads.ages.keep(&catalog);
        let now_ms = broker.clock.wall_ms();
        let ends = |partition: &Partition| end_of(tiered, partition);
        for (partition, end) in timebox::due(&catalog, &bounds, &uploads.ages, ends, now_ms) {
            let differs = tiered.get(&partition.at) == Some(&DIFFERS);
            if !differs && let Some((segment, limit)) = slice::open_part(&partition, end) {
                let from = slice::begin(&partition, end);
                hand.add(&partition, &segment, from..limit, true);
            }
        }
    }
    let mut reply = hand.reply;
    if last || !reply.slices.is_empty() {
        let all = catalog.partitions();
        let pending = all.filter_map(|p| slice::pending(uploads, p, end_of(tiered, p)));
        reply.pending = pending.collect();
    }
    reply
}

/// Slices for one answer.
struct Hand<'a> {
    broker: &'a Broker,
    reply: UploadableReply,
    /// Links that may still be made, and bytes that may still go along.
    links: usize,
    bytes: u64,
}

impl<'a> Hand<'a> {
    fn new(broker: &'a Broker, most: usize) -> Self {
        Self {
            broker,
            reply: UploadableReply::default(),
            links: most,
            bytes: MOST_BYTES,
        }
    }

    /// What of `span` lies in the segment: as bytes if it may share an object and is small, else as a link.
    fn add(
        &mut self,
        partition: &Arc<Partition>,
        segment: &Segment,
        span: Range<i64>,
        merge: bool,
    ) {
        let (from, upto) = (span.start, span.end);
        if merge
            && self.bytes >= slice::SMALL
            && self.reply.slices.len() < MOST_SLICES
            && let Some(slice) = slice::read_out(partition, segment, from, upto)
        {
            self.bytes = self.bytes.saturating_sub(slice.bytes);
            self.reply.slices.push(slice);
            return;
        }
        if self.links > 0 {
            let uploads = &self.broker.uploads;
            let slice = slice::hand_out(self.broker, uploads, partition, segment, from, upto);
            self.links -= usize::from(slice.is_some());
            self.reply.slices.extend(slice);
        }
    }
}

#[tonic::async_trait]
impl Service for Node {
    async fn uploadable(
        &self,
        request: Request<UploadableRequest>,
    ) -> Result<Response<UploadableReply>, Status> {
        let request = request.into_inner();
        let mut tiered = HashMap::with_capacity(request.tiered.len());
        for extent in &request.tiered {
            let at = extent
                .at
                .as_ref()
                .ok_or_else(|| Status::invalid_argument("an extent without a partition"))?;
            let at = TopicPartition::try_from(at)
                .map_err(|e| Status::invalid_argument(e.to_string()))?;
            let differs =
                self.broker.catalog().local(at).is_some_and(|partition| {
                    matches!(extent::held(partition, extent), Held::Differs)
                });
            tiered.insert(at, if differs { DIFFERS } else { extent.end_offset });
        }
        if request.pending_only && tiered.is_empty() {
            // A daemon that has just started and could not read its roots yet: what was told by the one before.
            let catalog = self.broker.catalog();
            tiered.extend(catalog.partitions().map(|p| (p.at, p.tiered_end())));
        }
        let tiered = Arc::new(tiered);
        let most = match request.pending_only {
            true => 0,
            false => usize::try_from(request.max_slices)
                .unwrap_or(0)
                .clamp(1, MOST_PINNED),
        };
        let wait = Duration::from_millis(u64::from(request.wait_ms.min(LONGEST_WAIT_MS)));
        let (clock, shutdown) = (self.broker.clock.clone(), self.broker.tasks.shutdown());
        let until_ns = clock
            .boot_ns()
            .saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(0));
        // Open segments are looked at once a question: their bounds are minutes, not milliseconds.
        let mut open = most > 0;
        loop {
            let last = most == 0 || clock.boot_ns() >= until_ns || shutdown.requested();
            let reply = self.look(&tiered, most, open, last).await;
            open = false;
            if last || !reply.slices.is_empty() {
                return Ok(Response::new(reply));
            }
            let _ = shutdown.unless(clock.sleep(LOOK_AGAIN)).await;
        }
    }

    async fn tiered(&self, request: Request<TieredReport>) -> Result<Response<Empty>, Status> {
        for extent in request.into_inner().verified {
            // A partition that is gone meanwhile has nothing to free.
            let Ok(partition) = self.partition(extent.at.as_ref()) else {
                continue;
            };
            let held = extent::held(&partition, &extent);
            note(&partition, &extent, held);
            if held != Held::Ours {
                continue;
            }
            partition.set_tiered_end(extent.end_offset);
            housekeeping::free_local(&self.broker, &partition).await;
        }
        Ok(Response::new(Empty {}))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<Empty>, Status> {
        let broker = Arc::clone(&self.broker);
        let tokens = request.into_inner().tokens;
        self.broker
            .tasks
            .blocking(move || broker.uploads.release(&tokens))
            .await;
        Ok(Response::new(Empty {}))
    }

    async fn cleaned(
        &self,
        request: Request<CleanedRequest>,
    ) -> Result<Response<CleanedReply>, Status> {
        let request = request.into_inner();
        let partition = self.partition(request.at.as_ref())?;
        let (base, end) = (request.base_offset, request.end_offset);
        let broker = Arc::clone(&self.broker);
        let pinned = move || cleaned::hand_out(&broker, &partition, base, end);
        let slices = self.broker.tasks.blocking(pinned).await;
        let slices = slices.map_err(Status::failed_precondition)?;
        Ok(Response::new(CleanedReply { slices }))
    }

    async fn propose_log_start(
        &self,
        request: Request<LogStartProposal>,
    ) -> Result<Response<LogStartReply>, Status> {
        let proposal = request.into_inner();
        let partition = self.partition(proposal.at.as_ref())?;
        let offset = proposal.log_start.min(partition.high_watermark());
        let _ = housekeeping::move_log_start(&self.broker, &partition, offset).await;
        let stands = log_starts::standing(&self.broker, &partition);
        tracing::debug!(at = %partition.at, proposed = proposal.log_start, ?stands, reason = proposal.reason, "log start proposed");
        // Not known here: the daemon is to conclude nothing.
        let reply = stands.map_or_else(LogStartReply::default, |said| LogStartReply {
            log_start: said.log_start,
            stands: true,
            region_epoch: said.region_epoch.0,
            leader_epoch: said.leader_epoch,
        });
        Ok(Response::new(reply))
    }

    async fn logs(&self, request: Request<LogsRequest>) -> Result<Response<LogsReply>, Status> {
        let LogsRequest { at: asked, cleaned } = request.into_inner();
        let here = asked.iter().filter_map(|at| {
            self.partition(Some(at))
                .ok()
                .map(|p| state(&self.broker, &p, cleaned))
        });
        Ok(Response::new(LogsReply {
            logs: here.collect(),
        }))
    }
}

fn state(broker: &Broker, partition: &Partition, cleaned: bool) -> LogState {
    // The lineage first: an epoch that begins meanwhile begins at or above the end read after it.
    let lineage = partition.log.lineage();
    let offsets = partition.log.offsets();
    let stands = log_starts::standing(broker, partition);
    LogState {
        at: Some(partition.at.into()),
        log_start: stands.map_or(offsets.log_start, |said| said.log_start),
        log_start_stands: stands.is_some(),
        region_epoch: stands.map_or(0, |said| said.region_epoch.0),
        leader_epoch: stands.map_or(-1, |said| said.leader_epoch),
        log_start_lost: offsets.known_log_start.is_none(),
        local_log_start: offsets.local_log_start,
        durable_end: offsets.durable_end,
        cleaned: match cleaned {
            true => cleaned::told(broker, partition),
            false => Vec::new(),
        },
        lineage: lineage
            .iter()
            .map(|e| EpochStart {
                epoch: e.epoch,
                start_offset: e.start_offset,
            })
            .collect(),
    }
}
