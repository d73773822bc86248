//! Reassignment of a partition's home replicas: the new ones join and catch up, then the old ones go.

use std::collections::BTreeSet;

use whimbrel_fleet::{NodeId, RegionName, TopicPartition};

use super::{
    Change, Outcome, State, assign, kafka,
    replicas::{partition_mut, topic_at},
};

impl State {
    /// Each change: the replicas wanted, the preferred leader first; `None` ends what is under way.
    pub(super) fn reassign(
        &mut self,
        index: u64,
        changes: Vec<(TopicPartition, Option<Vec<NodeId>>)>,
    ) -> Change {
        let mut results = Vec::new();
        let mut changed = false;
        for (at, wanted) in changes {
            let outcome = match wanted {
                Some(wanted) => self.begin_reassignment(index, at, wanted),
                None => self.cancel_reassignment(at),
            };
            let (error_code, message) = match outcome {
                Ok(()) => (0, String::new()),
                Err((error_code, message)) => (error_code, message.to_owned()),
            };
            changed |= error_code == 0;
            results.push((at, error_code, message));
        }
        Change {
            outcome: Outcome::Partitions { results },
            view: changed,
        }
    }

    fn begin_reassignment(
        &mut self,
        index: u64,
        at: TopicPartition,
        wanted: Vec<NodeId>,
    ) -> Result<(), (i16, &'static str)> {
        let unknown = (kafka::UNKNOWN_TOPIC_OR_PARTITION, "no such partition");
        let (topic, home) = topic_at(&self.view, at).ok_or(unknown)?;
        let brokers = assign::brokers(&self.view, &home);
        let distinct: BTreeSet<_> = wanted.iter().collect();
        if wanted.is_empty()
            || distinct.len() != wanted.len()
            || !wanted.iter().all(|n| brokers.contains(n))
        {
            return Err((
                kafka::INVALID_REPLICA_ASSIGNMENT,
                "replicas are distinct brokers of the partition's home region",
            ));
        }
        let partition = partition_mut(&mut self.view, &topic, at).ok_or(unknown)?;
        let replicas = partition.replicas.entry(home.clone()).or_default();
        // What an earlier one was still adding is not held by anybody for sure.
        replicas.retain(|n| !partition.adding.contains(n) || partition.isr.contains(n));
        let missing = |n: &NodeId| !replicas.contains(n);
        partition.adding = wanted.iter().copied().filter(missing).collect();
        let old = replicas.iter().copied();
        partition.removing = old.filter(|n| !wanted.contains(n)).collect();
        *replicas = wanted;
        replicas.extend(&partition.removing);
        partition.version = partition.version.wrapping_add(1);
        self.finish_reassignment(index, at, &topic, &home);
        Ok(())
    }

    fn cancel_reassignment(&mut self, at: TopicPartition) -> Result<(), (i16, &'static str)> {
        let unknown = (kafka::UNKNOWN_TOPIC_OR_PARTITION, "no such partition");
        let (topic, home) = topic_at(&self.view, at).ok_or(unknown)?;
        let partition = partition_mut(&mut self.view, &topic, at).ok_or(unknown)?;
        if partition.adding.is_empty() && partition.removing.is_empty() {
            return Err((
                kafka::NO_REASSIGNMENT_IN_PROGRESS,
                "no reassignment is under way",
            ));
        }
        let adding = std::mem::take(&mut partition.adding);
        partition.removing.clear();
        // A new replica that leads already stays: the others may have gone from the ack set.
        let leader = partition.leader;
        let leaves = |n: &NodeId| adding.contains(n) && Some(*n) != leader;
        if let Some(replicas) = partition.replicas.get_mut(&home) {
            replicas.retain(|n| !leaves(n));
        }
        partition.isr.retain(|n| !leaves(n));
        partition.version = partition.version.wrapping_add(1);
        Ok(())
    }

    /// Once every replica that joins is in the ack set, those that are not wanted any more go.
    pub(super) fn finish_reassignment(
        &mut self,
        index: u64,
        at: TopicPartition,
        topic: &str,
        home: &RegionName,
    ) {
        let Some(partition) = partition_mut(&mut self.view, topic, at) else {
            return;
        };
        let under_way = !partition.adding.is_empty() || !partition.removing.is_empty();
        let kept = |n: &&NodeId| !partition.removing.contains(n);
        let joined = partition.adding.iter().all(|n| partition.isr.contains(n));
        let Some(next) = partition.isr.iter().find(kept).copied() else {
            return;
        };
        if !under_way || !joined {
            return;
        }
        let removing = std::mem::take(&mut partition.removing);
        partition.adding.clear();
        if let Some(replicas) = partition.replicas.get_mut(home) {
            replicas.retain(|n| !removing.contains(n));
        }
        partition.isr.retain(|n| !removing.contains(n));
        partition.version = partition.version.wrapping_add(1);
        if partition.leader.is_some_and(|l| removing.contains(&l)) {
            partition.leader = Some(next);
            partition.leader_epoch = partition.leader_epoch.next();
            self.led_from.insert(next, index);
        }
    }
}
