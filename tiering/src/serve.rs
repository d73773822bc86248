//! node.proto's `Tiering`, for the broker beside us. Translates; decides nothing.

use std::{io, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use whimbrel_rpc::proto::node::{self, read_reply::Outcome, tiering_server::Tiering};
use whimbrel_runtime::{Clock, Tasks};

use crate::{
    broker::{lineage_from, partition_from},
    committer::{CommitError, Committer, Edit, Outcome as Edited},
    orphan::{OrphanError, Orphans},
    reader::{Answer, Range, ReadError, Reader},
};

/// What can be asked for once the bucket was opened and the shards are ours.
#[derive(Debug)]
pub struct Served {
    pub reader: Reader,
    pub committer: Committer,
    pub orphans: Orphans,
}

/// A reader may ask for less, never for more.
const MAX_READ: u64 = 64 << 20;
/// Even a reader that does not want to wait gets what is in the cache: looking takes a moment.
const MIN_WAIT: Duration = Duration::from_millis(50);
/// Bytes that cross the wire stay below the usual limit of a gRPC message, batches willing.
const MAX_INLINE: u64 = 2 << 20;

#[derive(Clone, Debug)]
pub struct Service {
    pub served: watch::Receiver<Option<Arc<Served>>>,
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

    async fn inline(&self, ranges: Vec<Range>) -> io::Result<Vec<node::Range>> {
        self.tasks
            .blocking(move || {
                let read = |range: Range| {
                    let mut bytes = vec![0; usize::try_from(range.length).unwrap_or(0)];
                    std::fs::File::open(&range.path)?.read_exact_at(&mut bytes, range.position)?;
                    Ok(node::Range {
                        inline: Bytes::from(bytes),
                        path: String::new(),
                        ..answer(&range)
                    })
                };
                ranges.into_iter().map(read).collect()
            })
            .await
    }
}

fn answer(range: &Range) -> node::Range {
    node::Range {
        path: range.path.display().to_string(),
        position: range.position,
        length: range.length,
        crc32c: range.crc32c,
        inline: Bytes::new(),
    }
}

fn reply(outcome: Outcome, detail: impl ToString) -> node::ReadReply {
    node::ReadReply {
        outcome: outcome.into(),
        ranges: Vec::new(),
        next_offset: -1,
        detail: detail.to_string(),
    }
}

fn checked<T>(what: &str, value: Option<T>) -> Result<T, Status> {
    value.ok_or_else(|| Status::invalid_argument(format!("{what} cannot be")))
}

fn read_status(error: &ReadError) -> Status {
    Status::unavailable(error.to_string())
}

fn commit_status(error: &CommitError) -> Status {
    let code = match error {
        CommitError::Rejected(_) => Code::FailedPrecondition,
        CommitError::Stopping | CommitError::Store { .. } => Code::Unavailable,
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
        let read = self
            .clock
            .within(
                wait,
                served.reader.read(at, request.offset, max_bytes, &lineage),
            )
            .await;
        Ok(Response::new(match read {
            None => reply(Outcome::Pending, ""),
            Some(Ok(Answer::NotTiered(why))) => reply(Outcome::NotTiered, why),
            Some(Ok(Answer::Ranges {
                ranges,
                next_offset,
            })) => {
                let ranges = if request.inline {
                    self.inline(ranges)
                        .await
                        .map_err(|e| Status::unavailable(e.to_string()))?
                } else {
                    ranges.iter().map(answer).collect()
                };
                node::ReadReply {
                    outcome: Outcome::Ranges.into(),
                    ranges,
                    next_offset,
                    detail: String::new(),
                }
            }
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
            .reader
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
