//! Reads below the local log start, through this node's tiering daemon.
//!
//! The daemon answers ranges of immutable files; their bytes are read and checked here, and asked for once
//! more in doubt when they are not what was promised. It never makes a fetch wait longer than it was told:
//! what is not there yet comes back as `Pending`. Consumers that read on are read ahead of ([`ahead`]).

mod ahead;
mod buffers;
mod lookups;
mod ranges;
mod records;
mod waits;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tonic::transport::{Channel, Endpoint};
use whimbrel_fleet::{HostPort, TopicPartition};
use whimbrel_log::EpochStart;
use whimbrel_rpc::proto::node::{
    self, OrphanReply, OrphanRequest, ReadRequest, TruncateReply, TruncateRequest,
    read_reply::Outcome, tiering_client::TieringClient,
};
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::ErrorCode;

use self::{
    ahead::{Ahead, Found, Load},
    buffers::Buffers,
    waits::Waits,
};

pub use lookups::LOOKUP_WAIT;
pub use records::Records;
pub use waits::Waiting;

/// Longest answer taken; whole batches within a fetch's limit.
const MESSAGE_BYTES: usize = 64 << 20;
/// For the way to the daemon and back, above the wait it is told.
pub const SLACK: Duration = Duration::from_millis(100);
/// How long a window that is read ahead waits for the bucket before it is asked for anew: a daemon that was
/// away is noticed, and what it fetches meanwhile is in its cache then.
const LOAD_WAIT: Duration = Duration::from_secs(2);
/// Files being read at once. A disk that hangs holds so many threads and no more.
const READS: usize = 16;

#[derive(Debug)]
pub struct Cold {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Option<TieringClient<Channel>>,
    data_dir: PathBuf,
    ahead: Ahead,
    buffers: Arc<Buffers>,
    reads: Arc<Semaphore>,
    waits: Waits,
    tasks: Tasks,
    clock: Clock,
}

/// What a cold read came to.
#[derive(Clone, Debug, PartialEq)]
pub enum ColdRead {
    Records(Records),
    /// Not here within the wait; being fetched.
    Pending,
    Failed(ErrorCode),
}

impl Cold {
    pub fn new(tiering: Option<&HostPort>, data_dir: PathBuf, tasks: Tasks, clock: Clock) -> Self {
        let client = tiering.and_then(|at| {
            let endpoint = Endpoint::from_shared(format!("http://{at}"))
                .ok()?
                .connect_timeout(Duration::from_secs(2))
                .tcp_nodelay(true);
            Some(
                TieringClient::new(endpoint.connect_lazy())
                    .max_decoding_message_size(MESSAGE_BYTES),
            )
        });
        let inner = Inner {
            client,
            data_dir,
            ahead: Ahead::default(),
            buffers: Arc::default(),
            reads: Arc::new(Semaphore::new(READS)),
            waits: Waits::new(clock.clone()),
            tasks,
            clock,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    pub fn is_configured(&self) -> bool {
        self.inner.client.is_some()
    }

    fn client(&self) -> Result<TieringClient<Channel>, tonic::Status> {
        self.inner
            .client
            .clone()
            .ok_or_else(|| tonic::Status::unavailable("no tiering daemon is configured"))
    }

    /// For what consumers wait now, by partition.
    pub fn waiting(&self) -> BTreeMap<TopicPartition, Waiting> {
        self.inner.waits.all()
    }

    /// Whole batches from the one that holds `offset` on; waits up to `wait` for the bucket. Without a wait
    /// only what was read ahead is answered, and the rest is read for the next time.
    pub async fn read(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        wait: Duration,
        lineage: &[EpochStart],
    ) -> ColdRead {
        let read = self.find(at, offset, max_bytes, wait, lineage).await;
        match &read {
            ColdRead::Pending => self.inner.waits.vain(at, offset),
            _ => self.inner.waits.over(at),
        }
        read
    }

    async fn find(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        wait: Duration,
        lineage: &[EpochStart],
    ) -> ColdRead {
        let inner = &self.inner;
        let found = match self.take(at, offset, max_bytes, lineage) {
            Found::Loading(mut flight) => {
                let landed = flight.wait_for(Option::is_some);
                if inner.clock.within(wait, landed).await.is_none() {
                    return ColdRead::Pending;
                }
                self.take(at, offset, max_bytes, lineage)
            }
            found => found,
        };
        let sequential = match found {
            Found::Records(records) => return ColdRead::Records(records),
            Found::Failed(error) => return ColdRead::Failed(error),
            Found::Loading(_) => return ColdRead::Pending,
            Found::Sequential => true,
            Found::Stranger => false,
        };
        if wait.is_zero() && self.go_on(at, offset, lineage, true) {
            return ColdRead::Pending;
        }
        let read = inner.ask(at, offset, max_bytes, wait, lineage).await;
        match &read {
            ColdRead::Records(records) => {
                self.go_on(at, records.next_offset, lineage, sequential);
            }
            // It will ask again, and is sequential still.
            ColdRead::Pending if sequential => {
                self.go_on(at, offset, lineage, false);
            }
            _ => {}
        }
        read
    }

    /// A consumer will go on at `offset`. With `ahead` what is there is read now, if there is a window for it:
    /// true then.
    fn go_on(&self, at: TopicPartition, offset: i64, lineage: &[EpochStart], ahead: bool) -> bool {
        let now_ns = self.inner.clock.boot_ns();
        let load = self.inner.ahead.served(at, offset, lineage, ahead, now_ns);
        let started = load.is_some();
        self.start(at, lineage, load);
        started
    }

    fn take(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        lineage: &[EpochStart],
    ) -> Found {
        let now_ns = self.inner.clock.boot_ns();
        let (found, load) = self
            .inner
            .ahead
            .take((at, offset), lineage, max_bytes, now_ns);
        self.start(at, lineage, load);
        found
    }

    /// Reads a window in the background.
    fn start(&self, at: TopicPartition, lineage: &[EpochStart], load: Option<Load>) {
        let Some(load) = load else { return };
        let (inner, lineage) = (Arc::clone(&self.inner), lineage.to_vec());
        self.inner.tasks.spawn_ok("cold read ahead", async move {
            let offset = load.offset;
            let read = inner
                .ask(at, offset, ahead::WINDOW, LOAD_WAIT, &lineage)
                .await;
            load.finish(read);
        });
    }

    pub async fn store_orphan(&self, request: OrphanRequest) -> Result<OrphanReply, tonic::Status> {
        Ok(self.client()?.store_orphan(request).await?.into_inner())
    }

    /// Clips the bucket's copy at `offset`, if what it has there is of `tail_epoch`.
    pub async fn truncate(
        &self,
        at: TopicPartition,
        epoch: i32,
        offset: i64,
        tail_epoch: i32,
    ) -> Result<TruncateReply, tonic::Status> {
        Ok(self
            .client()?
            .truncate(TruncateRequest {
                at: Some(at.into()),
                epoch,
                offset,
                tail_epoch: Some(tail_epoch),
            })
            .await?
            .into_inner())
    }
}

impl Inner {
    /// Asks the daemon and reads what it names.
    async fn ask(
        &self,
        at: TopicPartition,
        offset: i64,
        max_bytes: usize,
        wait: Duration,
        lineage: &[EpochStart],
    ) -> ColdRead {
        let Some(mut client) = self.client.clone() else {
            return ColdRead::Failed(ErrorCode::OFFSET_OUT_OF_RANGE);
        };
        let mut request = ReadRequest {
            at: Some(at.into()),
            offset,
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            lineage: lineage
                .iter()
                .map(|e| node::EpochStart {
                    epoch: e.epoch,
                    start_offset: e.start_offset,
                })
                .collect(),
            inline: false,
            doubt: false,
        };
        loop {
            // An unreachable daemon is as a slow bucket: the consumer waits, and goes on when it is back.
            let asked = client.read(request.clone());
            let reply = match self.clock.within(wait + SLACK, asked).await {
                Some(Ok(reply)) => reply.into_inner(),
                Some(Err(error)) => {
                    let reason = format!("tiering daemon: {}", error.message());
                    return self.in_vain(at, offset, reason);
                }
                None => {
                    return self.in_vain(
                        at,
                        offset,
                        "the tiering daemon does not answer".to_owned(),
                    );
                }
            };
            match reply.outcome() {
                Outcome::Pending if reply.detail.is_empty() => return ColdRead::Pending,
                Outcome::Pending => return self.in_vain(at, offset, reply.detail),
                Outcome::NotTiered => return ColdRead::Failed(ErrorCode::OFFSET_OUT_OF_RANGE),
                Outcome::Damaged => {
                    tracing::error!(%at, offset, detail = reply.detail, "tiered data is damaged");
                    return ColdRead::Failed(ErrorCode::KAFKA_STORAGE_ERROR);
                }
                Outcome::Ranges => {}
            }
            match self.read_ranges(reply.ranges).await {
                Ok(bytes) => {
                    return ColdRead::Records(Records {
                        bytes,
                        next_offset: reply.next_offset,
                        aborted: reply.aborted.map(records::named),
                    });
                }
                // Deleted or evicted since, or damaged: the daemon looks.
                Err(error) if !request.doubt => {
                    tracing::info!(%at, offset, %error, "a tiered range cannot be read; asking again");
                    request.doubt = true;
                }
                Err(error) => {
                    return self.in_vain(
                        at,
                        offset,
                        format!("a tiered range cannot be read: {error}"),
                    );
                }
            }
        }
    }

    fn in_vain(&self, at: TopicPartition, offset: i64, reason: String) -> ColdRead {
        tracing::debug!(%at, offset, reason, "tiered data is not to be had now");
        self.waits.blame(at, offset, reason);
        ColdRead::Pending
    }

    async fn read_ranges(&self, named: Vec<node::Range>) -> std::io::Result<Bytes> {
        // Never closed.
        let turn = Arc::clone(&self.reads).acquire_owned().await;
        let (data_dir, buffers) = (self.data_dir.clone(), Arc::clone(&self.buffers));
        self.tasks
            .blocking(move || {
                let read = ranges::read(&data_dir, &named, MESSAGE_BYTES, &buffers);
                drop(turn);
                read
            })
            .await
    }
}
