//! One stream: reads objects ahead of what its follower takes, and sends within its credit, in turn among the logs.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use whimbrel_fleet::{Lineage, TopicPartition};
use whimbrel_rpc::replica::{FromSource, SourceServer, StopReason, StreamError, ToSource};
use whimbrel_wire::Batch;

use super::{
    Inner, Trouble,
    subscription::{Refusal, Subscription, Wants},
};
use crate::{
    restore::{
        Stored,
        slice::{Cursor, Fault, Slices},
    },
    root::Entry,
};

/// Logs that are read at a time. Each takes a piece of an object, 8 MiB, and the batch that goes on behind it.
pub(super) const ACTIVE: usize = 4;
/// A frame that cannot be sent for so long means that the peer does not read any more.
const SEND: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(250);
/// Without records a frame is sent so often, so that a stream that stands is known at the follower.
const PROGRESS_MS: u64 = 1_000;

/// What a read gave.
struct Read {
    at: TopicPartition,
    id: u64,
    found: Result<Piece, Fault>,
}

enum Piece {
    /// And what there is to go on with.
    Batches(Box<Cursor>, Vec<Batch>),
    /// Nothing more is in the object, which ends there.
    End(i64),
}

/// At `from`, where the follower's log ends.
async fn begin(slices: &Slices, log: &Stored, entry: &Entry, from: i64) -> Result<Piece, Fault> {
    let wanted = from..log.end();
    let cursor = slices.begin(log.shard, log.at, entry, wanted).await?;
    more(slices, Box::new(cursor)).await
}

async fn more(slices: &Slices, mut cursor: Box<Cursor>) -> Result<Piece, Fault> {
    let found = slices.next(&mut cursor).await?;
    Ok(match found {
        Some(batches) => Piece::Batches(cursor, batches),
        None => Piece::End(cursor.end()),
    })
}

pub(super) struct Stream<'a> {
    source: &'a Inner,
    server: SourceServer,
    subscriptions: HashMap<TopicPartition, Subscription>,
    subscribed: u64,
    /// That have something to read and are not read yet, in the order of their turns.
    waiting: BTreeSet<(usize, TopicPartition)>,
    active: VecDeque<TopicPartition>,
    reads: FuturesUnordered<BoxFuture<'static, Read>>,
    credit: u64,
    looked_ms: u64,
}

impl<'a> Stream<'a> {
    pub fn new(source: &'a Inner, server: SourceServer) -> Self {
        Self {
            source,
            server,
            subscriptions: HashMap::new(),
            subscribed: 0,
            waiting: BTreeSet::new(),
            active: VecDeque::new(),
            reads: FuturesUnordered::new(),
            credit: 0,
            looked_ms: 0,
        }
    }

    /// Until the peer goes.
    pub async fn run(mut self) -> Result<(), StreamError> {
        let clock = self.source.slices.clock.clone();
        loop {
            self.fill().await?;
            self.push().await?;
            self.progress().await?;
            tokio::select! {
                biased;
                frame = self.server.rx.recv() => self.hear(frame?.ok_or(StreamError::Closed)?).await?,
                Some(read) = self.reads.next() => self.came(read).await?,
                () = clock.sleep(TICK) => {}
            }
        }
    }

    async fn send(&mut self, frame: FromSource) -> Result<(), StreamError> {
        let clock = &self.source.slices.clock;
        let sent = clock.within(SEND, self.server.tx.send(frame)).await;
        sent.ok_or(StreamError::Closed)?
    }

    async fn hear(&mut self, frame: ToSource) -> Result<(), StreamError> {
        match frame {
            ToSource::Credit { bytes } => self.credit = self.credit.saturating_add(bytes),
            ToSource::Unsubscribe { at } => self.forget(at),
            ToSource::Durable { .. } => {}
            ToSource::Subscribe { at, lineage } => self.subscribe(at, &lineage).await?,
        }
        Ok(())
    }

    async fn subscribe(&mut self, at: TopicPartition, theirs: &Lineage) -> Result<(), StreamError> {
        self.forget(at);
        self.subscribed += 1;
        let Some(log) = self.source.logs.get(&at) else {
            return self.stop(at, StopReason::UnknownPartition).await;
        };
        match Subscription::begin(self.subscribed, log, theirs) {
            Ok(mut subscription) => {
                let clock = &self.source.slices.clock;
                subscription.told_ms = Some(clock.boot_ms());
                let frame = subscription.frame(Bytes::new(), clock.wall_ms());
                self.subscriptions.insert(at, subscription);
                self.waiting.insert((log.turn, at));
                self.send(FromSource::Batches(frame)).await
            }
            Err(Refusal::Trimmed) => {
                let log_start = log.log_start;
                self.stop(at, StopReason::Trimmed { log_start }).await
            }
            Err(Refusal::Parted { offset }) => {
                let what = format!(
                    "the log that is to be filled ends at {}, and holds what the bucket does not",
                    theirs.end_offset
                );
                let log = Arc::clone(log);
                self.fail(&log, offset, "WB-335", what).await
            }
        }
    }

    fn forget(&mut self, at: TopicPartition) {
        if let Some(gone) = self.subscriptions.remove(&at) {
            self.waiting.remove(&(gone.log.turn, at));
            self.active.retain(|known| *known != at);
        }
    }

    async fn stop(&mut self, at: TopicPartition, reason: StopReason) -> Result<(), StreamError> {
        self.forget(at);
        self.send(FromSource::Stopped { at, reason }).await
    }

    async fn fail(
        &mut self,
        log: &Stored,
        offset: i64,
        code: &'static str,
        what: String,
    ) -> Result<(), StreamError> {
        let trouble = Trouble {
            code,
            topic: log.topic.clone(),
            partition: log.at.partition,
            offset,
            what,
        };
        self.source.trouble(log.at, trouble);
        self.stop(log.at, StopReason::Unreadable).await
    }

    /// Takes up logs that wait.
    async fn fill(&mut self) -> Result<(), StreamError> {
        // A log that was let go of meanwhile may still be read.
        while self.active.len() < ACTIVE && self.reads.len() < ACTIVE {
            let Some((_, at)) = self.waiting.pop_first() else {
                break;
            };
            self.active.push_back(at);
            self.advance(at).await?;
        }
        Ok(())
    }

    /// Begins what the log waits for.
    async fn advance(&mut self, at: TopicPartition) -> Result<(), StreamError> {
        let Some(subscription) = self.subscriptions.get_mut(&at) else {
            return Ok(());
        };
        let (log, id, sent) = (
            Arc::clone(&subscription.log),
            subscription.id,
            subscription.sent,
        );
        let slices = self.source.slices.clone();
        match subscription.wants() {
            Wants::Nothing => {}
            Wants::Done => self.active.retain(|known| *known != at),
            Wants::More(cursor) => {
                subscription.reads = true;
                self.reads.push(Box::pin(async move {
                    let found = more(&slices, cursor).await;
                    Read { at, id, found }
                }));
            }
            Wants::Object(entry, from) => {
                subscription.reads = true;
                self.reads.push(Box::pin(async move {
                    let found = begin(&slices, &log, &entry, from).await;
                    Read { at, id, found }
                }));
            }
            Wants::Filler => {
                if let Err(what) = subscription.fill() {
                    self.fail(&log, sent, "WB-316", what).await?;
                }
            }
            Wants::Hole(from) => {
                let what = format!("no object holds offset {from}");
                self.fail(&log, sent, "WB-316", what).await?;
            }
        }
        Ok(())
    }

    async fn came(&mut self, read: Read) -> Result<(), StreamError> {
        let subscription = self.subscriptions.get_mut(&read.at);
        let Some(subscription) = subscription.filter(|s| s.id == read.id) else {
            return Ok(());
        };
        subscription.reads = false;
        let taken = match read.found {
            Ok(Piece::Batches(cursor, batches)) => {
                let taken = subscription.take(batches);
                let taken = taken.map_err(|what| cursor.damaged(&what));
                subscription.cursor = Some(cursor);
                taken
            }
            Ok(Piece::End(upto)) => {
                subscription.finished(upto);
                // The next object, or another log whose turn is earlier.
                self.active.retain(|known| *known != read.at);
                self.waiting.insert((subscription.log.turn, read.at));
                return Ok(());
            }
            Err(fault) => Err(fault),
        };
        let (log, sent) = (Arc::clone(&subscription.log), subscription.sent);
        match taken {
            Ok(()) if subscription.is_ready() => Ok(()),
            Ok(()) => self.advance(read.at).await,
            Err(Fault::Store(error)) => self.fail(&log, sent, "WB-301", error.to_string()).await,
            Err(damaged) => self.fail(&log, sent, "WB-316", damaged.to_string()).await,
        }
    }

    /// Sends, a chunk a turn, until nothing is ready or the credit is used up.
    async fn push(&mut self) -> Result<(), StreamError> {
        let mut idle = 0;
        while idle < self.active.len() && self.credit > 0 {
            self.active.rotate_left(1);
            let Some(at) = self.active.back().copied() else {
                break;
            };
            let ready = self.subscriptions.get_mut(&at).filter(|s| s.is_ready());
            let Some(subscription) = ready else {
                idle += 1;
                continue;
            };
            idle = 0;
            let clock = &self.source.slices.clock;
            let records = subscription.chunk(self.credit);
            let bytes = records.len() as u64;
            self.credit = self.credit.saturating_sub(bytes);
            subscription.told_ms = Some(clock.boot_ms());
            let frame = subscription.frame(records, clock.wall_ms());
            self.source.well(at, bytes);
            self.send(FromSource::Batches(frame)).await?;
            self.advance(at).await?;
        }
        Ok(())
    }

    /// Says of logs of which nothing was sent for a while where they stand.
    async fn progress(&mut self) -> Result<(), StreamError> {
        let clock = self.source.slices.clock.clone();
        let now_ms = clock.boot_ms();
        let tick_ms = u64::try_from(TICK.as_millis()).unwrap_or(u64::MAX);
        if now_ms.saturating_sub(self.looked_ms) < tick_ms {
            return Ok(());
        }
        self.looked_ms = now_ms;
        let mut frames = Vec::new();
        for subscription in self.subscriptions.values_mut() {
            let told_ms = subscription.told_ms.unwrap_or(0);
            if now_ms.saturating_sub(told_ms) >= PROGRESS_MS {
                subscription.told_ms = Some(now_ms);
                frames.push(subscription.frame(Bytes::new(), clock.wall_ms()));
            }
        }
        for frame in frames {
            self.send(FromSource::Batches(frame)).await?;
        }
        Ok(())
    }
}
