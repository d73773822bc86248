//! The sink's end of a replica stream: appends what the mirror brings, says what is fsynced.
//!
//! Credit comes back when the bytes are fsynced, so what is on its way is bounded by the credit granted
//! at the start. One partition's trouble is answered for that partition; others go on.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use whimbrel_fleet::TopicPartition;
use whimbrel_log::{AppendError, Health};
use whimbrel_rpc::replica::{
    Batches, FrameTx, FromSink, Hello, RefuseReason, SinkPosition, SinkServer, StreamError, ToSink,
};

use super::{SEND, mend, read_ahead, truncate};
use crate::{
    broker::Broker,
    log_starts,
    partition::{Feed, Partition, Role},
    reports::lineage,
};

/// Positions per frame: a lineage may be long.
const POSITIONS: usize = 1_000;

struct Stream {
    broker: Arc<Broker>,
    tx: Box<dyn FrameTx<FromSink>>,
    /// Partitions the mirror was told to fill.
    taken: BTreeSet<TopicPartition>,
    /// Appended and not yet fsynced, in order: (end offset, bytes of credit to give back).
    unsynced: HashMap<TopicPartition, VecDeque<(i64, u64)>>,
    truncations: FuturesUnordered<BoxFuture<'static, FromSink>>,
    /// Refused, and not named to the mirror again since: frames that were under way behind the refused one
    /// would leave a gap that looks like one of compaction.
    refused: BTreeSet<TopicPartition>,
    scope: Scope,
}

/// Which copies a stream fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The mirror's: those of which this broker is its region's head.
    Between,
    /// This process's own: the others, from brokers of this region.
    Within,
}

pub async fn serve(
    broker: &Arc<Broker>,
    hello: &Hello,
    server: SinkServer,
    scope: Scope,
) -> Result<(), StreamError> {
    tracing::info!(from = %hello.region, ?scope, "a replica flow connected");
    let mut frames = read_ahead(broker, "replica sink", server.rx);
    let mut stream = Stream {
        broker: Arc::clone(broker),
        tx: server.tx,
        taken: BTreeSet::new(),
        unsynced: HashMap::new(),
        truncations: FuturesUnordered::new(),
        refused: BTreeSet::new(),
        scope,
    };
    let (mut rounds, mut applied) = (broker.flusher.rounds(), broker.applied());
    stream
        .send(FromSink::Credit {
            bytes: broker.options.limits.replica_credit.0,
        })
        .await?;
    stream.follow_view().await?;
    loop {
        tokio::select! {
            biased;
            _ = applied.changed() => stream.follow_view().await?,
            _ = rounds.changed() => stream.tell_durable().await?,
            Some(answer) = stream.truncations.next() => stream.truncated(answer).await?,
            frame = frames.recv() => stream.hear(frame.ok_or(StreamError::Closed)??).await?,
        }
    }
}

impl Stream {
    async fn send(&mut self, frame: FromSink) -> Result<(), StreamError> {
        let clock = self.broker.clock.clone();
        clock
            .within(SEND, self.tx.send(frame))
            .await
            .ok_or(StreamError::Closed)?
    }

    /// Names partitions that are new here and those that are not taken any more.
    async fn follow_view(&mut self) -> Result<(), StreamError> {
        let catalog = self.broker.catalog();
        let ours = |p: &&Arc<Partition>| match p.role() {
            Role::Follower { feed, .. } => self.scope.takes(feed),
            _ => false,
        };
        let now: Vec<_> = catalog.partitions().filter(ours).cloned().collect();
        let set: BTreeSet<_> = now.iter().map(|p| p.at).collect();
        let gone: Vec<_> = self.taken.difference(&set).copied().collect();
        let new: Vec<_> = now
            .iter()
            .filter(|p| !self.taken.contains(&p.at))
            .map(|p| position(p))
            .collect();
        for named in &new {
            self.refused.remove(&named.at);
        }
        self.taken = set;
        if !gone.is_empty() {
            self.send(FromSink::Gone(gone)).await?;
        }
        for chunk in new.chunks(POSITIONS) {
            self.send(FromSink::Positions(chunk.to_vec())).await?;
        }
        Ok(())
    }

    async fn tell_durable(&mut self) -> Result<(), StreamError> {
        let catalog = self.broker.catalog();
        let mut synced = Vec::new();
        let mut credit = 0_u64;
        self.unsynced.retain(|at, waiting| {
            let durable_end = catalog.local(*at).map(|p| p.log.offsets().durable_end);
            let before = waiting.len();
            // A partition that is gone holds no bytes back.
            while let Some((_, bytes)) =
                waiting.pop_front_if(|(end, _)| durable_end.is_none_or(|durable| *end <= durable))
            {
                credit = credit.saturating_add(bytes);
            }
            if waiting.len() < before {
                synced.extend(durable_end.map(|end_offset| (*at, end_offset)));
            }
            !waiting.is_empty()
        });
        for (at, end_offset) in synced {
            self.send(FromSink::Durable { at, end_offset }).await?;
        }
        if credit > 0 {
            self.send(FromSink::Credit { bytes: credit }).await?;
        }
        Ok(())
    }

    async fn hear(&mut self, frame: ToSink) -> Result<(), StreamError> {
        match frame {
            ToSink::Batches(batches) => {
                let (at, bytes) = (batches.at, batches.records.len() as u64);
                if bytes > 0 && self.refused.contains(&at) {
                    return self.send(FromSink::Credit { bytes }).await;
                }
                if let Some(partition) = mend::damaged(&self.broker, self.scope, &batches) {
                    if self.refused.insert(at) {
                        let broker = Arc::clone(&self.broker);
                        self.truncations
                            .push(Box::pin(mend::run(broker, partition)));
                    }
                    return self.send(FromSink::Credit { bytes }).await;
                }
                match self.append(batches) {
                    Ok(Some(end)) => {
                        self.unsynced.entry(at).or_default().push_back((end, bytes));
                        Ok(())
                    }
                    Ok(None) => Ok(()),
                    Err(reason) => {
                        tracing::debug!(%at, ?reason, "replica batches refused");
                        if bytes > 0 {
                            self.refused.insert(at);
                            self.send(FromSink::Credit { bytes }).await?;
                        }
                        self.send(FromSink::Refused { at, reason }).await
                    }
                }
            }
            ToSink::Truncate {
                at,
                region_epoch,
                epoch,
                offset,
            } => {
                let broker = Arc::clone(&self.broker);
                self.truncations.push(Box::pin(async move {
                    truncate::run(&broker, at, region_epoch, epoch, offset).await
                }));
                Ok(())
            }
        }
    }

    /// Appends and notes what the source says; the end offset to wait for when there were records.
    fn append(&self, frame: Batches) -> Result<Option<i64>, RefuseReason> {
        let catalog = self.broker.catalog();
        let partition = catalog
            .local(frame.at)
            .ok_or(RefuseReason::UnknownPartition)?;
        let group = catalog
            .group_of(frame.at)
            .ok_or(RefuseReason::UnknownPartition)?;
        let taken = match partition.role() {
            Role::Follower { feed, .. } => self.scope.takes(feed),
            _ => false,
        };
        if !taken || frame.region_epoch < group.epoch {
            return Err(RefuseReason::Fenced);
        }
        if partition.log.health() != Health::Good {
            return Err(RefuseReason::Damaged);
        }
        let mut end = None;
        if !frame.records.is_empty() {
            let appended = partition
                .append_replica(frame.records.clone(), self.broker.clock.wall_ms())
                .ok_or(RefuseReason::Fenced)?;
            let appended = appended.map_err(|error| refusal(partition, &error))?;
            end = Some(appended.last_offset.saturating_add(1));
            self.broker
                .meters
                .replica_received_bytes
                .increment(appended.bytes as u64);
            self.broker.orphans.seen_again(frame.at, &frame.records);
        }
        partition
            .following
            .frame(&frame, self.broker.clock.boot_ns());
        if let Err(error) = log_starts::follow(&partition.log, frame.log_start) {
            tracing::warn!(at = %frame.at, %error, "the log start was not moved");
        }
        if end.is_some() {
            self.broker.flusher.list(partition);
        } else {
            partition.advance(&self.broker.lease);
        }
        Ok(end)
    }

    /// Answers a truncation; the mirror subscribes again from the position it is told.
    async fn truncated(&mut self, answer: FromSink) -> Result<(), StreamError> {
        if let FromSink::Truncated { at, .. } = &answer {
            self.refused.remove(at);
            let waiting = self.unsynced.remove(at).unwrap_or_default();
            let bytes = waiting.iter().map(|(_, bytes)| bytes).sum();
            if bytes > 0 {
                self.send(FromSink::Credit { bytes }).await?;
            }
        }
        self.send(answer).await
    }
}

impl Scope {
    pub(super) fn takes(self, feed: Feed) -> bool {
        match feed {
            Feed::Home => self == Self::Between,
            Feed::Node(_) => self == Self::Within,
        }
    }
}

fn position(partition: &Partition) -> SinkPosition {
    let end = partition.log.offsets().log_end;
    SinkPosition {
        at: partition.at,
        lineage: lineage(partition, end),
        log_bytes: partition.log.bytes_appended(),
    }
}

fn refusal(partition: &Partition, error: &AppendError) -> RefuseReason {
    tracing::warn!(topic = partition.log.topic(), partition = partition.at.partition, %error, "replica batches were not appended");
    match error {
        AppendError::Batch(_)
        | AppendError::Empty
        | AppendError::BadMarker { .. }
        | AppendError::TooLarge { .. } => RefuseReason::Corrupt,
        AppendError::DiskFull { .. } | AppendError::DiskFailed(_) => RefuseReason::DiskFull,
        AppendError::Damaged { .. } => RefuseReason::Damaged,
        AppendError::Deleted { .. } => RefuseReason::UnknownPartition,
        _ => RefuseReason::OutOfOrder,
    }
}
