//! How a leadership begins: the log is read, members are let go and positions set back where a lossy move asks for it.

use std::sync::Arc;

use whimbrel_runtime::Clock;
use whimbrel_wire::ErrorCode;

use super::{
    super::{
        machine::Now,
        offsets::{Committed, TopicPartition},
        records::Entry,
        store::OffsetsLog,
    },
    Clamped, Limits,
    elsewhere::Followed,
    load::{self, Loaded},
    now,
    shard::Shard,
    work::Frame,
    writer,
};

#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("the partition is not led in this epoch, or not under a lease")]
    NotLed,
    #[error(transparent)]
    Load(#[from] load::LoadError),
    #[error("members could not be let go: {}", .0.name())]
    LetGo(ErrorCode),
    #[error("positions could not be set back: {}", .0.name())]
    Clamp(ErrorCode),
    #[error("that positions were set back could not be written down: {}", .0.name())]
    Mark(ErrorCode),
}

/// A partition from which requests can be answered.
pub(super) struct Begun {
    pub(super) loaded: Loaded,
    /// What the move that brought the leadership here set back.
    pub(super) clamped: Vec<Clamped>,
    /// The moves of other failover groups that it was set back to.
    pub(super) elsewhere: Vec<Followed>,
}

/// Reads the log, lets go of the members of before a lossy move, and sets back what it left too high. If it comes to
/// nothing half-way, the next reading finds who is left.
pub(super) async fn begin(
    shard: &Shard,
    log: &dyn OffsetsLog,
    clock: &Clock,
    limits: Option<&Limits>,
    elsewhere: Vec<Arc<Limits>>,
) -> Result<Begun, BeginError> {
    // A log that is not here, or not ours, looks empty: nobody may take that for "no offset".
    let led = || log.led(shard.partition()) == Some(shard.epoch());
    if !led() {
        return Err(BeginError::NotLed);
    }
    let moved_at = limits.and_then(|limits| limits.moved_at(shard.partition()));
    let loaded = load::load(log, shard.partition(), moved_at).await?;
    if !led() {
        return Err(BeginError::NotLed);
    }
    let mut beginning = Beginning {
        shard,
        log,
        clock,
        loaded,
    };
    let gone = beginning.loaded.let_members_go(now(clock));
    beginning.write(gone).await.map_err(BeginError::LetGo)?;
    let clamped = match limits {
        Some(limits) => beginning.set_back(limits).await?,
        None => Vec::new(),
    };
    let mut followed = Vec::new();
    for limits in elsewhere {
        followed.push(beginning.follow(limits).await?);
    }
    Ok(Begun {
        loaded: beginning.loaded,
        clamped,
        elsewhere: followed,
    })
}

struct Beginning<'a> {
    shard: &'a Shard,
    log: &'a dyn OffsetsLog,
    clock: &'a Clock,
    loaded: Loaded,
}

impl Beginning<'_> {
    async fn set_back(&mut self, limits: &Limits) -> Result<Vec<Clamped>, BeginError> {
        let clamped = limits.above(self.shard.partition(), &self.loaded.offsets);
        let entries = set_back(&clamped, now(self.clock));
        self.write(entries).await.map_err(BeginError::Clamp)?;
        Ok(clamped)
    }

    /// A lossy move of another failover group, unless the log says that this was done.
    async fn follow(&mut self, limits: Arc<Limits>) -> Result<Followed, BeginError> {
        let mut clamped = Vec::new();
        let mut at = self.loaded.marks.covering(limits.id());
        if at.is_none() {
            let gone = self.loaded.let_readers_go(&limits, now(self.clock));
            self.write(gone).await.map_err(BeginError::LetGo)?;
            clamped = self.set_back(&limits).await?;
            let mark = vec![Entry::Move(limits.id().clone())];
            self.write(mark).await.map_err(BeginError::Mark)?;
            at = self.loaded.marks.covering(limits.id());
        }
        Ok(Followed {
            limits,
            // What is written is found.
            at: at.unwrap_or(i64::MAX),
            clamped,
        })
    }

    async fn write(&mut self, entries: Vec<Entry>) -> Result<(), ErrorCode> {
        for chunk in writer::split(entries, self.shard.options.max_batch_bytes) {
            let now = now(self.clock);
            let base = writer::append(self.shard, self.log, &chunk, Frame::Plain, now).await?;
            for (entry, log_offset) in chunk.into_iter().zip(base..) {
                self.loaded.wrote(entry, log_offset);
            }
        }
        Ok(())
    }
}

/// The records that set positions back.
pub(super) fn set_back(clamped: &[Clamped], now: Now) -> Vec<Entry> {
    let entry = |c: &Clamped| Entry::Position {
        group: c.group.clone(),
        at: TopicPartition {
            topic: c.topic.clone(),
            partition: c.partition,
        },
        committed: Some(Committed {
            offset: c.to,
            leader_epoch: c.leader_epoch,
            metadata: String::new(),
            commit_ms: now.wall_ms,
            expire_ms: None,
            log_offset: -1,
        }),
    };
    clamped.iter().map(entry).collect()
}
