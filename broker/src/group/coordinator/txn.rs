//! Positions committed as part of a transaction: they wait beside the others until its marker decides.
//!
//! Both the positions and the marker go through the partition's one queue, so that what the log says and what is
//! known here cannot differ.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};

use tokio::sync::oneshot;
use whimbrel_wire::ErrorCode;

use super::{
    super::{
        machine::{Now, store_error},
        offsets::{Committed, TopicPartition},
        records::Entry,
    },
    Clamped, Commit, Committer, Coordinator, commit_error,
    shard::{Contents, Shard},
    work::{Frame, Work},
};
use crate::txn::{Admission, Marker, Producer};

/// Positions of transactions without a marker, by producer id.
#[derive(Debug, Default)]
pub(super) struct Undecided(HashMap<i64, Open>);

#[derive(Debug)]
struct Open {
    /// Of the newest of them: clients may have an epoch for each transaction.
    epoch: i16,
    positions: Vec<(String, TopicPartition, Committed)>,
}

impl Undecided {
    pub(super) fn add(
        &mut self,
        producer: Producer,
        group: String,
        at: TopicPartition,
        committed: Committed,
    ) {
        let open = self.0.entry(producer.id).or_insert(Open {
            epoch: producer.epoch,
            positions: Vec::new(),
        });
        open.epoch = producer.epoch;
        open.positions.retain(|(g, a, _)| (g, a) != (&group, &at));
        open.positions.push((group, at, committed));
    }

    /// What a marker of the producer decides about.
    pub(super) fn take(&mut self, producer_id: i64) -> Vec<(String, TopicPartition, Committed)> {
        self.0
            .remove(&producer_id)
            .map_or_else(Vec::new, |open| open.positions)
    }

    /// What a marker of the producer would decide about.
    pub(super) fn of(
        &self,
        producer_id: i64,
    ) -> impl Iterator<Item = (&str, &TopicPartition, &Committed)> {
        let open = self.0.get(&producer_id).into_iter();
        open.flat_map(|open| &open.positions)
            .map(|(group, at, committed)| (group.as_str(), at, committed))
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &TopicPartition, &Committed)> {
        let all = self.0.values().flat_map(|open| &open.positions);
        all.map(|(group, at, committed)| (group.as_str(), at, committed))
    }

    /// Whether the producer has positions here in this epoch. Those of an earlier one are of another transaction, whose
    /// marker is still to come.
    fn holds(&self, producer: Producer) -> bool {
        self.0
            .get(&producer.id)
            .is_some_and(|open| open.epoch == producer.epoch)
    }

    fn places(&self, group: &str) -> BTreeSet<TopicPartition> {
        let all = self.0.values().flat_map(|open| &open.positions);
        all.filter(|(g, _, _)| g == group)
            .map(|(_, at, _)| at.clone())
            .collect()
    }
}

impl Coordinator {
    /// Begins to let a producer commit positions of the group; none if its transaction has positions here already.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn admit(&self, group: &str, who: Producer) -> Result<Option<Admission>, ErrorCode> {
        let shard = self.active(group, true)?;
        Ok(shard.contents(|contents| {
            let open = contents.undecided.holds(who);
            (!open).then(|| contents.admissions.begin(who, 0))
        }))
    }

    /// The transaction coordinator said no.
    pub fn reject(&self, group: &str, who: Producer, admission: Admission) {
        if let Ok(shard) = self.active(group, true) {
            shard.contents(|contents| contents.admissions.reject(who, admission));
        }
    }

    /// Writes positions that a transaction's end decides about; returns when they are durable.
    ///
    /// # Errors
    /// Kafka's code, for each of them.
    pub async fn commit_in_transaction(
        &self,
        committer: &Committer,
        commits: Vec<Commit>,
        who: Producer,
        admission: Option<Admission>,
    ) -> Result<(), ErrorCode> {
        let shard = self.active(&committer.group, true)?;
        let waiting =
            shard.commit_in_transaction(committer, commits, who, admission, self.now())?;
        waiting
            .await
            .unwrap_or(Err(ErrorCode::NOT_COORDINATOR))
            .map_err(commit_error)
    }

    /// Writes a transaction's marker and lets its positions stand or fall.
    ///
    /// # Errors
    /// Kafka's code.
    pub async fn end_transaction(&self, partition: i32, marker: Marker) -> Result<(), ErrorCode> {
        let shard = self.shards.read().get(&partition).cloned();
        let shard = shard.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        self.usable(&shard)?;
        shard
            .enqueue(|reply| Work::Marker { marker, reply })
            .await
            .map_err(store_error)
    }

    /// Places where a transaction has committed a position of the group and has not ended yet.
    ///
    /// # Errors
    /// Kafka's code.
    pub fn undecided(&self, group: &str) -> Result<BTreeSet<TopicPartition>, ErrorCode> {
        let shard = self.active(group, false)?;
        Ok(shard.contents(|contents| contents.undecided.places(group)))
    }
}

impl Shard {
    fn commit_in_transaction(
        &self,
        committer: &Committer,
        commits: Vec<Commit>,
        who: Producer,
        admission: Option<Admission>,
        now: Now,
    ) -> Result<oneshot::Receiver<Result<(), ErrorCode>>, ErrorCode> {
        let waiting = self.contents(|contents| {
            self.check_room(contents)?;
            contents.check_member(committer, now)?;
            if !contents.undecided.holds(who) {
                contents.admissions.pass(who, admission, 0)?;
            }
            let entries = commits.into_iter().map(|commit| Entry::Position {
                group: committer.group.clone(),
                at: commit.at,
                committed: Some(Committed {
                    offset: commit.offset,
                    leader_epoch: commit.leader_epoch,
                    metadata: commit.metadata,
                    commit_ms: now.wall_ms,
                    expire_ms: None,
                    log_offset: -1,
                }),
            });
            let (reply, waiting) = oneshot::channel();
            contents.queue.push_back(Work::InTransaction {
                producer: who,
                entries: entries.collect(),
                reply,
            });
            Ok::<_, ErrorCode>(waiting)
        })?;
        self.stirred.notify_one();
        Ok(waiting)
    }
}

impl Contents {
    /// Producers that do not say which member they act for are older than the fence; nobody asks them (KIP-447).
    fn check_member(&mut self, committer: &Committer, now: Now) -> Result<(), ErrorCode> {
        let named = committer.generation >= 0
            || !committer.member_id.is_empty()
            || committer.instance_id.is_some();
        if !named {
            return Ok(());
        }
        if let Some(group) = self.consumers.get(&committer.group) {
            let checked = group.check_commit(&committer.member_id, committer.generation);
            // TxnOffsetCommit is older than member epochs.
            return checked.map_err(|error| match error {
                ErrorCode::STALE_MEMBER_EPOCH => ErrorCode::ILLEGAL_GENERATION,
                error => error,
            });
        }
        let Some(group) = self.groups.get_mut(&committer.group) else {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        };
        let checked = group.check_commit(
            now,
            &committer.member_id,
            committer.instance_id.as_deref(),
            committer.generation,
        );
        match checked {
            // The generation is the present one, and its members wait: a transaction may still end.
            Err(ErrorCode::REBALANCE_IN_PROGRESS) => Ok(()),
            checked => checked,
        }
    }

    /// What the marker would make stand too high, where a lossy move came between the positions and it.
    pub(super) fn above_at(&self, marker: Marker, offsets_partition: i32) -> Vec<Clamped> {
        if !marker.commit {
            return Vec::new();
        }
        let own = self.limits.iter().filter_map(|limits| {
            let moved_at = limits.moved_at(offsets_partition)?;
            Some((limits, moved_at))
        });
        let elsewhere = self.elsewhere.iter().map(|moved| (&moved.limits, moved.at));
        let over = own.chain(elsewhere).flat_map(|(limits, moved_at)| {
            limits.above_at_commit(moved_at, self.undecided.of(marker.producer.id))
        });
        Clamped::lowest(over)
    }

    /// Records stand in the log from `base` on, as part of what `frame` says.
    pub(super) fn applied_in_transaction(&mut self, frame: Frame, entries: Vec<Entry>, base: i64) {
        match frame {
            Frame::Plain => {}
            Frame::Transaction(producer) => {
                for (entry, log_offset) in entries.into_iter().zip(base..) {
                    if let Entry::Position {
                        group,
                        at,
                        committed: Some(committed),
                    } = entry
                    {
                        let committed = Committed {
                            log_offset,
                            ..committed
                        };
                        self.undecided.add(producer, group, at, committed);
                    }
                }
            }
            Frame::Marker(marker) => {
                for (group, at, committed) in self.undecided.take(marker.producer.id) {
                    if marker.commit {
                        self.offsets.apply(&group, at, committed);
                    }
                }
            }
        }
    }
}
