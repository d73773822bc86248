//! Hosts the groups of the partitions of `__consumer_offsets` led here.
//!
//! One shard per partition: its state under a lock that is never held across an await, and one task that loads the
//! partition, sets positions back if a lossy move asks for it, and from then on writes what the requests queue, one
//! batch after the other, so that the log has the order in which things were decided. A second kind of task drives
//! the timers of all shards.

mod begin;
mod consumers;
mod elsewhere;
mod limits;
mod listing;
mod load;
mod mixed;
mod removal;
mod shard;
#[cfg(test)]
mod tests;
mod timers;
mod txn;
mod work;
mod writer;

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use whimbrel_runtime::{Clock, Tasks};
use whimbrel_wire::ErrorCode;

use self::{shard::Shard, work::Work};
use super::{
    MOST_OF_AN_ID,
    machine::{JoinReply, JoinRequest, Leaver, Now, Rules, SyncReply, SyncRequest, store_error},
    offsets::{Committed, TopicPartition},
    placement::Block,
    store::{OffsetsLog, Topics},
};

pub use consumers::ConsumerDescription;
pub use limits::{Clamped, Limit, Limits, MoveId};
pub use listing::{Description, GroupType, Listed};

/// What the coordinator may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What a group allows.
    pub rules: Rules,
    /// What a group of the consumer protocol allows.
    pub consumer: super::consumer::Rules,
    /// `offsets.retention.minutes`; Kafka's default of seven days.
    pub offsets_retention_ms: i64,
    /// How often lapsed positions are looked for; Kafka's default of ten minutes.
    pub sweep_interval_ms: i64,
    /// How often timers are looked at when none is due before; what became due meanwhile is at most this late.
    pub tick_ms: u64,
    /// Most writes that may wait for one partition; beyond it clients are asked to come again.
    pub max_queued: usize,
    /// Most bytes of one batch, within the topic's `max.message.bytes`.
    pub max_batch_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            consumer: super::consumer::Rules::default(),
            offsets_retention_ms: 7 * 24 * 3_600_000,
            sweep_interval_ms: 600_000,
            tick_ms: 50,
            max_queued: 10_000,
            max_batch_bytes: 512 * 1024,
        }
    }
}

/// A position to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub at: TopicPartition,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

/// Under whose credentials positions are committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committer {
    pub group: String,
    /// Empty for a consumer without membership.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// -1 for a consumer without membership.
    pub generation: i32,
    /// Whether the request is of a version that knows members' epochs, and groups that are not there.
    pub knows_epochs: bool,
}

/// The coordinator. All calls come back by themselves; joins and syncs may take as long as a rebalance.
pub struct Coordinator {
    options: Options,
    block: Block,
    log: Arc<dyn OffsetsLog>,
    topics: Arc<dyn Topics>,
    clock: Clock,
    tasks: Tasks,
    shards: RwLock<HashMap<i32, Arc<Shard>>>,
    /// Lossy moves of other failover groups.
    moves: RwLock<Vec<Arc<Limits>>>,
}

impl std::fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordinator")
            .field("block", &self.block)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Coordinator {
    /// A coordinator that leads nothing yet; its tasks end with `tasks`.
    #[must_use]
    pub fn start(
        options: Options,
        block: Block,
        log: Arc<dyn OffsetsLog>,
        topics: Arc<dyn Topics>,
        clock: Clock,
        tasks: Tasks,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            options,
            block,
            log,
            topics,
            clock,
            tasks,
            shards: RwLock::default(),
            moves: RwLock::default(),
        });
        let ticking = Arc::clone(&this);
        this.tasks
            .spawn_ok("group-timers", async move { ticking.drive_timers().await });
        this
    }

    /// The partition of `__consumer_offsets` that holds `group`.
    #[must_use]
    pub fn partition_of(&self, group: &str) -> i32 {
        self.block.partition_of(group)
    }

    /// This broker leads the partition from now on. Returns at once: the groups are loaded, positions above `limits` set
    /// back, and only then is anything answered but COORDINATOR_LOAD_IN_PROGRESS. Again in the same epoch: nothing.
    pub fn lead(&self, partition: i32, leader_epoch: i32, limits: Option<Arc<Limits>>) {
        let mut shards = self.shards.write();
        if shards
            .get(&partition)
            .is_some_and(|shard| shard.epoch() >= leader_epoch)
        {
            return;
        }
        let shard = Arc::new(Shard::new(partition, leader_epoch, self.options.clone()));
        shard.follow(&self.moves.read());
        if let Some(old) = shards.insert(partition, Arc::clone(&shard)) {
            old.close();
        }
        drop(shards);
        let (log, topics, clock, shutdown) = (
            Arc::clone(&self.log),
            Arc::clone(&self.topics),
            self.clock.clone(),
            self.tasks.shutdown(),
        );
        self.tasks
            .spawn_ok(format!("group-coordinator-{partition}"), async move {
                writer::run(&shard, (&*log, &*topics), &clock, limits, &shutdown).await;
            });
    }

    /// This broker no longer leads the partition: whoever is parked is told NOT_COORDINATOR.
    pub fn resign(&self, partition: i32) {
        let shard = self.shards.write().remove(&partition);
        if let Some(shard) = shard {
            shard.close();
        }
    }

    /// Waits until the partition was loaded in this leadership and tells which positions were set back then; none if it
    /// is not led here, or no longer before it was loaded.
    pub async fn clamped(&self, partition: i32) -> Option<Vec<Clamped>> {
        let shard = self.shards.read().get(&partition).cloned()?;
        shard.loaded().await
    }

    /// These lossy moves of other failover groups are known, in their order: what is led here, and what will be, sets
    /// positions back to them. Returns at once; a partition for which one of them is new answers
    /// COORDINATOR_LOAD_IN_PROGRESS until that is done, and lets go of members that read what moved.
    pub fn follow(&self, moves: Vec<Arc<Limits>>) {
        self.moves.write().clone_from(&moves);
        for shard in self.shards.read().values() {
            shard.follow(&moves);
        }
    }

    /// The partitions led here.
    #[must_use]
    pub fn led(&self) -> Vec<i32> {
        self.shards.read().keys().copied().collect()
    }

    /// Waits until the partition followed this move and tells which positions were set back then; none if it is not led
    /// here, or no longer before that.
    pub async fn followed(&self, partition: i32, id: &MoveId) -> Option<Vec<Clamped>> {
        let shard = self.shards.read().get(&partition).cloned()?;
        shard.followed(id).await
    }

    /// These topics are gone: so are the positions in them, soon.
    pub fn topics_deleted(&self, topics: &[String]) {
        for shard in self.shards.read().values() {
            shard.push(Work::Forget {
                topics: topics.to_vec(),
            });
        }
    }

    /// Names, ids and sizes of topics.
    #[must_use]
    pub fn topics(&self) -> &dyn Topics {
        &*self.topics
    }

    /// A JoinGroup; answered when the round is complete.
    pub async fn join(&self, group: &str, request: JoinRequest) -> JoinReply {
        let member_id = request.member_id.clone();
        let waiting = match self.active(group, true) {
            Ok(shard) => shard.join(
                group,
                request,
                &whimbrel_runtime::random::uuid().to_string(),
                self.topics(),
                self.now(),
            ),
            Err(error) => return JoinReply::failed(error, &member_id),
        };
        waiting
            .await
            .unwrap_or_else(|_| JoinReply::failed(ErrorCode::NOT_COORDINATOR, &member_id))
    }

    /// A SyncGroup; answered when the leader's assignment is durable.
    pub async fn sync(&self, group: &str, request: SyncRequest) -> SyncReply {
        let failed = |error| SyncReply {
            error,
            ..SyncReply::default()
        };
        let waiting = match self.active(group, true) {
            Ok(shard) => shard.sync(group, request, self.topics(), self.now()),
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => {
                // The member's round is gone with the former coordinator's memory; Kafka makes it join again as well.
                return failed(ErrorCode::REBALANCE_IN_PROGRESS);
            }
            Err(error) => return failed(error),
        };
        waiting
            .await
            .unwrap_or_else(|_| failed(ErrorCode::NOT_COORDINATOR))
    }

    /// A Heartbeat.
    #[must_use]
    pub fn heartbeat(
        &self,
        group: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        match self.active(group, true) {
            Ok(shard) => shard.heartbeat(group, member_id, instance_id, generation, self.now()),
            // The members' sessions begin when it is loaded: nobody needs to rebalance for it.
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => ErrorCode::NONE,
            Err(error) => error,
        }
    }

    /// A LeaveGroup: one code for each.
    ///
    /// # Errors
    /// The group as a whole cannot be asked.
    pub fn leave(&self, group: &str, leavers: &[Leaver]) -> Result<Vec<ErrorCode>, ErrorCode> {
        let shard = self.active(group, true)?;
        Ok(shard.leave(group, leavers, self.topics(), self.now()))
    }

    /// Commits positions, all or none; returns when they are durable.
    ///
    /// # Errors
    /// Kafka's code, for each of them.
    pub async fn commit(
        &self,
        committer: &Committer,
        commits: Vec<Commit>,
        expire_ms: Option<i64>,
    ) -> Result<(), ErrorCode> {
        let shard = self.active(&committer.group, false)?;
        let waiting = shard.commit(committer, commits, expire_ms, self.now())?;
        waiting
            .await
            .unwrap_or(Err(ErrorCode::NOT_COORDINATOR))
            .map_err(commit_error)
    }

    /// Committed positions: of these places (none where nothing is committed), or all the group has.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn fetch(
        &self,
        group: &str,
        places: Option<&[TopicPartition]>,
    ) -> Result<Vec<(TopicPartition, Option<Committed>)>, ErrorCode> {
        Ok(self.active(group, false)?.fetch(group, places))
    }

    /// The groups here; with an error beside them if some partition is not loaded yet.
    #[must_use]
    pub fn list(&self) -> (ErrorCode, Vec<Listed>) {
        let mut error = ErrorCode::NONE;
        let mut all = Vec::new();
        for shard in self.shards.read().values() {
            match self.usable(shard) {
                Ok(()) => {
                    shard.tick(self.now(), self.topics(), true);
                    all.extend(shard.list());
                }
                Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS) => {
                    error = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                }
                Err(_) => {}
            }
        }
        all.sort();
        (error, all)
    }

    /// A group and its members; none if there is no such group.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn describe(&self, group: &str) -> Result<Option<Description>, ErrorCode> {
        let shard = self.active(group, false)?;
        shard.overtake(group, self.topics(), self.now());
        Ok(shard.describe(group))
    }

    /// Deletes a group without members, with its positions.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP, or why it cannot be written.
    pub async fn delete(&self, group: &str) -> Result<(), ErrorCode> {
        let shard = self.active(group, false)?;
        shard.overtake(group, self.topics(), self.now());
        let group = group.to_owned();
        shard.enqueue(|reply| Work::Delete { group, reply }).await
    }

    fn active(&self, group: &str, needs_name: bool) -> Result<Arc<Shard>, ErrorCode> {
        if needs_name && group.is_empty() || group.len() > MOST_OF_AN_ID {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let shards = self.shards.read();
        let shard = shards
            .get(&self.partition_of(group))
            .ok_or(ErrorCode::NOT_COORDINATOR)?;
        self.usable(shard)?;
        Ok(Arc::clone(shard))
    }

    fn usable(&self, shard: &Shard) -> Result<(), ErrorCode> {
        if self.log.led(shard.partition()) != Some(shard.epoch()) {
            shard.turned_away();
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        if shard.is_loaded() {
            Ok(())
        } else {
            Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
        }
    }

    fn now(&self) -> Now {
        now(&self.clock)
    }
}

fn now(clock: &Clock) -> Now {
    Now {
        mono_ms: i64::try_from(clock.boot_ms()).unwrap_or(i64::MAX),
        wall_ms: clock.wall_ms(),
    }
}

/// What a committer is told when the record could not be written (Kafka's mapping).
fn commit_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::MESSAGE_TOO_LARGE
        | ErrorCode::RECORD_LIST_TOO_LARGE
        | ErrorCode::INVALID_RECORD => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        other => store_error(other),
    }
}
