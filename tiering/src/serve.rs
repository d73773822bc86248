//! node.proto's `Tiering`, for the broker beside us. Translates; decides nothing.

use std::{os::unix::fs::FileExt, sync::Arc, time::Duration};

use axum::http::StatusCode;
use bytes::BytesMut;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition, naming};
use whimbrel_rpc::proto::node::{self, read_reply::Outcome, tiering_server::Tiering};
use whimbrel_runtime::{Clock, Tasks};

use crate::{
    borrow::Borrowed,
    broker::{lineage_from, partition_from},
    committer::{CommitError, Committer, Edit, Outcome as Edited},
    format::{Aborted, BLOCK_BYTES},
    moving::Mover,
    orphan::{OrphanError, Orphans},
    reader::{Answer, Range, ReadError, Reader, Stamped, Wish},
    rebuild::Rebuilder,
    root::{Applied, Hold},
    set_aside::SetAside,
    verify::Verifier,
};

/// What can be asked for once the bucket was opened and the shards are ours.
#[derive(Debug)]
pub struct Served {
    pub reader: Reader,
    pub committer: Committer,
    pub orphans: Orphans,
    pub verifier: Verifier,
    pub rebuilder: Rebuilder,
    pub set_aside: SetAside,
    pub mover: Mover,
    pub borrowed: Arc<Borrowed>,
}

impl Served {
    /// What the own bucket does not hold another region's may.
    async fn read(&self, wish: Wish, lineage: &[EpochStart]) -> Result<Answer, ReadError> {
        match self.reader.read(wish, lineage).await? {
            Answer::NotTiered(why) => {
                let borrowed = self.borrowed.read(wish, lineage).await?;
                Ok(borrowed.unwrap_or(Answer::NotTiered(why)))
            }
            found => Ok(found),
        }
    }

    async fn offset_for_timestamp(
        &self,
        at: TopicPartition,
        timestamp_ms: i64,
    ) -> Result<Option<Stamped>, ReadError> {
        let own = self.reader.partition(at);
        let lacks = own.as_ref().is_none_or(|own| own.log_start < own.start());
        if lacks {
            let end = own.map_or(i64::MAX, |own| own.start());
            let found = self.borrowed.offset_for_timestamp(at, timestamp_ms, end);
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
        }
        self.reader.offset_for_timestamp(at, timestamp_ms).await
    }
}

/// Nothing until then.
pub type Seen = watch::Receiver<Option<Arc<Served>>>;

/// For a route of the admin port: what it serves, or the answer while there is nothing yet.
pub fn opened(seen: &Seen) -> Result<Arc<Served>, (StatusCode, &'static str)> {
    let refused = (
        StatusCode::SERVICE_UNAVAILABLE,
        "the bucket is not open yet\n",
    );
    seen.borrow().clone().ok_or(refused)
}

/// A reader may ask for less, never for more.
const MAX_READ: u64 = 64 << 20;
/// Even a reader that does not want to wait gets what is in the cache: looking takes a moment.
const MIN_WAIT: Duration = Duration::from_millis(50);
/// Bytes that cross the wire stay below the usual limit of a gRPC message, batches willing.
const MAX_INLINE: u64 = 2 << 20;

#[derive(Clone, Debug)]
pub struct Service {
    pub served: Seen,
    pub clock: Clock,
    pub tasks: Tasks,
}

impl Service {
    fn served(&self) -> Result<Arc<Served>, Status> {
        self.served
            .borrow()
            .clone()
            .ok_or_else(|| Status::unavailable("the bucket is not open yet"))
    }

    async fn answer(
        &self,
        served: &Served,
        mut wish: Wish,
        lineage: &[EpochStart],
        inline: bool,
    ) -> Result<node::ReadReply, ReadError> {
        loop {
            let (ranges, next_offset, aborted) = match served.read(wish, lineage).await? {
                Answer::NotTiered(why) => return Ok(reply(Outcome::NotTiered, why)),
                Answer::Ranges {
                    ranges,
                    next_offset,
                    aborted,
                } => (ranges, next_offset, aborted),
            };
            let ranges = if inline {
                self.inline(ranges).await
            } else {
                Ok(ranges.iter().map(answer).collect())
            };
            match ranges {
                Ok(ranges) => {
                    return Ok(node::ReadReply {
                        ranges,
                        next_offset,
                        aborted: Some(named(&aborted)),
                        ..reply(Outcome::Ranges, "")
                    });
                }
                Err(reason) if wish.doubt => return Err(ReadError::Cache(reason)),
                Err(_) => wish.doubt = true,
            }
        }
    }

    /// The bytes themselves, compared here because the caller gets no blocks to compare.
    async fn inline(&self, ranges: Vec<Range>) -> Result<Vec<node::Range>, String> {
        self.tasks
            .blocking(move || ranges.iter().map(read_inline).collect())
            .await
    }
}

fn read_inline(range: &Range) -> Result<node::Range, String> {
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::zeroed(size(range.before + range.length + range.after));
    std::fs::File::open(&range.path)
        .and_then(|file| file.read_exact_at(&mut bytes, range.position - range.before))
        .map_err(|e| format!("{}: {e}", range.path.display()))?;
    let same = bytes
        .chunks(size(BLOCK_BYTES))
        .map(crc32c::crc32c)
        .eq(range.crcs.iter().copied());
    if !same {
        return Err(format!("{}: another checksum", range.path.display()));
    }
    let inline = bytes
        .freeze()
        .slice(size(range.before)..size(range.before + range.length));
    Ok(node::Range {
        length: range.length,
        crc32c: crc32c::crc32c(&inline),
        inline,
        ..node::Range::default()
    })
}

fn answer(range: &Range) -> node::Range {
    node::Range {
        path: range.path.display().to_string(),
        position: range.position,
        length: range.length,
        block_crcs: range.crcs.clone(),
        block_bytes: u32::try_from(BLOCK_BYTES).unwrap_or(0),
        before: range.before,
        after: range.after,
        ..node::Range::default()
    }
}

fn named(aborted: &[Aborted]) -> node::AbortedTransactions {
    let transactions = aborted.iter().map(|txn| node::AbortedTransaction {
        producer_id: txn.producer_id,
        first_offset: txn.first_offset,
        last_offset: txn.last_offset,
    });
    node::AbortedTransactions {
        transactions: transactions.collect(),
    }
}

fn reply(outcome: Outcome, detail: impl ToString) -> node::ReadReply {
    node::ReadReply {
        outcome: outcome.into(),
        ranges: Vec::new(),
        next_offset: -1,
        detail: detail.to_string(),
        aborted: None,
    }
}

fn checked<T>(what: &str, value: Option<T>) -> Result<T, Status> {
    value.ok_or_else(|| Status::invalid_argument(format!("{what} cannot be")))
}

/// What another region asks for.
fn held(request: &node::HoldRequest, now_ms: i64) -> Option<Edit> {
    let nonce = Uuid::from_slice(&request.nonce).ok()?;
    if request.release {
        return Some(Edit::Release(vec![nonce]));
    }
    let region = Some(&request.region).filter(|region| naming::is_valid_label(region))?;
    Some(Edit::Hold(Hold {
        region: region.clone(),
        incarnation: Uuid::from_slice(&request.incarnation).ok()?,
        nonce,
        since_ms: now_ms,
        before: 0,
    }))
}

fn read_status(error: &ReadError) -> Status {
    Status::unavailable(error.to_string())
}

fn commit_status(error: &CommitError) -> Status {
    let code = match error {
        CommitError::Rejected(_) => Code::FailedPrecondition,
        CommitError::Stopping | CommitError::Store { .. } | CommitError::Elsewhere { .. } => {
            Code::Unavailable
        }
        _ => Code::Aborted,
    };
    Status::new(
        code,
        format!("{}: {error}", error.code().unwrap_or("WB-317")),
    )
}

#[async_trait::async_trait]
impl Tiering for Service {
    async fn read(
        &self,
        request: Request<node::ReadRequest>,
    ) -> Result<Response<node::ReadReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let at = checked("the partition", partition_from(request.at.as_ref()))?;
        let lineage = checked("the lineage", lineage_from(&request.lineage))?;
        let max_bytes =
            u64::from(request.max_bytes).min(if request.inline { MAX_INLINE } else { MAX_READ });
        let wait = Duration::from_millis(request.wait_ms.into()).max(MIN_WAIT);
        let wish = Wish {
            at,
            offset: request.offset,
            max_bytes,
            doubt: request.doubt,
        };
        let read = self.answer(&served, wish, &lineage, request.inline);
        Ok(Response::new(match self.clock.within(wait, read).await {
            None => reply(
                Outcome::Pending,
                served.reader.blocks.trouble().unwrap_or_default(),
            ),
            Some(Ok(reply)) => reply,
            Some(Err(e @ ReadError::Damaged { .. })) => reply(Outcome::Damaged, e),
            Some(Err(e)) => return Err(read_status(&e)),
        }))
    }

    async fn offset_for_timestamp(
        &self,
        request: Request<node::TimestampRequest>,
    ) -> Result<Response<node::TimestampReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let at = checked("the partition", partition_from(request.at.as_ref()))?;
        let found = served
            .offset_for_timestamp(at, request.timestamp_ms)
            .await
            .map_err(|e| read_status(&e))?;
        Ok(Response::new(match found {
            Some(s) => node::TimestampReply {
                found: true,
                offset: s.offset,
                timestamp_ms: s.timestamp_ms,
                leader_epoch: s.leader_epoch,
            },
            None => node::TimestampReply {
                found: false,
                offset: -1,
                timestamp_ms: -1,
                leader_epoch: -1,
            },
        }))
    }

    async fn lineage(
        &self,
        request: Request<node::LineageRequest>,
    ) -> Result<Response<node::LineageReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let at = checked("the partition", partition_from(request.at.as_ref()))?;
        let found = served.reader.partition(at);
        let log_start = found.as_ref().map(|partition| partition.log_start);
        let partition = found.unwrap_or_default();
        let lineage = partition.lineage.iter().map(|e| node::EpochStart {
            epoch: e.epoch,
            start_offset: e.start_offset,
        });
        Ok(Response::new(node::LineageReply {
            lineage: lineage.collect(),
            log_start,
        }))
    }

    async fn store_orphan(
        &self,
        request: Request<node::OrphanRequest>,
    ) -> Result<Response<node::OrphanReply>, Status> {
        let served = self.served()?;
        let stored = served
            .orphans
            .store(request.get_ref())
            .await
            .map_err(|e| match e {
                OrphanError::Request(_) | OrphanError::Io { .. } => {
                    Status::invalid_argument(e.to_string())
                }
                OrphanError::Transfer(_) | OrphanError::Store(_) => {
                    Status::unavailable(e.to_string())
                }
            })?;
        Ok(Response::new(node::OrphanReply {
            object: stored.object,
            bytes: stored.bytes,
            crc32c: stored.crc32c,
        }))
    }

    async fn edit(
        &self,
        request: Request<node::EditRequest>,
    ) -> Result<Response<node::EditReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let shard = checked("the shard", u16::try_from(request.shard).ok())?;
        let outcome = served
            .committer
            .edit_as_owner(shard, &request.edit)
            .await
            .map_err(|e| commit_status(&e))?;
        Ok(Response::new(node::EditReply {
            outcome: outcome.into(),
        }))
    }

    async fn hold(
        &self,
        request: Request<node::HoldRequest>,
    ) -> Result<Response<node::HoldReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let shard = checked("the shard", u16::try_from(request.shard).ok())?;
        let edit = checked("the hold", held(&request, self.clock.wall_ms()))?;
        let done = served
            .committer
            .edit(shard, edit)
            .await
            .map_err(|e| commit_status(&e))?;
        Ok(Response::new(node::HoldReply {
            stood: matches!(done, Edited::Applied(Applied::Already)),
            patience_ms: served.committer.hold_silence_ms(),
        }))
    }

    async fn alive(&self, _: Request<node::Empty>) -> Result<Response<node::Empty>, Status> {
        Ok(Response::new(node::Empty {}))
    }

    async fn truncate(
        &self,
        request: Request<node::TruncateRequest>,
    ) -> Result<Response<node::TruncateReply>, Status> {
        let (request, served) = (request.into_inner(), self.served()?);
        let at = checked("the partition", partition_from(request.at.as_ref()))?;
        let edit = Edit::Truncate {
            at,
            epoch: request.epoch,
            offset: checked("the offset", Some(request.offset).filter(|o| *o >= 0))?,
            tail: checked("the tail's epoch", request.tail_epoch)?,
        };
        let done = served
            .committer
            .edit(served.committer.shard_of(at), edit)
            .await
            .map_err(|e| commit_status(&e))?;
        let Edited::Truncated(done) = done else {
            return Err(Status::internal("another edit was answered"));
        };
        let orphaned_objects = done.orphaned.iter().map(|o| o.key.to_string()).collect();
        Ok(Response::new(node::TruncateReply {
            orphaned_objects,
            end_offset: done.end,
        }))
    }
}
