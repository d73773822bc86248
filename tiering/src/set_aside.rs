//! What the bucket has of another lineage than the log, set aside so that the log's own records can go up (WB-128).
//!
//! A leader with a shorter log was elected on purpose: others have written, and uploaded, what it does not have. The
//! bucket is cut where both logs part, as a failback cuts it; what lies above stays in its objects, which the root lists
//! as orphaned and nobody deletes. Only a log with a *later* epoch there is believed: a copy that is behind, or one that
//! was left behind by an election, says nothing against the bucket.

mod route;

use serde::Serialize;
use whimbrel_fleet::{EpochStart, TopicPartition};
use whimbrel_rpc::proto::node;

pub(crate) use route::route;

use crate::{
    broker::{BrokerLink, lineage_from, partition_from},
    committer::{CommitError, Committer, Edit, Outcome},
    format::{Keys, fnv},
    root::{Entry, Partition},
    runs::RunError,
};

#[derive(Clone, Debug)]
pub struct SetAside {
    pub broker: BrokerLink,
    pub committer: Committer,
    pub keys: Keys,
    pub region: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    pub region: String,
    pub topic: String,
    pub partition: i32,
    /// What both logs have ends here, with a record of this epoch; -1 where they have nothing in common.
    pub offset: i64,
    pub epoch: i32,
    /// Epoch of what the bucket has there, and where that ends.
    pub bucket_epoch: i32,
    pub bucket_end: i64,
    /// Epoch of what the log has there, and where that ends.
    pub log_epoch: i32,
    pub log_end: i64,
    /// They stay, and are listed as orphaned.
    pub objects: Vec<String>,
    pub applied: bool,
    pub hash: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SetAsideError {
    #[error("the bucket has nothing of {topic}-{partition}")]
    Unknown { topic: String, partition: i32 },
    #[error("the broker beside this daemon has no copy of {0}, or does not know its home yet")]
    Elsewhere(TopicPartition),
    #[error(
        "{0}: what the bucket has and the log beside this daemon are of one lineage; there is nothing to set aside"
    )]
    Same(TopicPartition),
    /// The bucket is newer than this copy.
    #[error(
        "{at}: at offset {offset} the bucket has epoch {bucket}, the log beside this daemon epoch {log}: it is not the later one, and nothing is set aside for it"
    )]
    NotLater {
        at: TopicPartition,
        offset: i64,
        bucket: i32,
        log: i32,
    },
    #[error(
        "{at}: both have the same up to {offset}, and the log's own disk begins at {local}: what lies between would be in neither"
    )]
    Hole {
        at: TopicPartition,
        offset: i64,
        local: i64,
    },
    #[error("the plan is {0} now")]
    Drifted(String),
    #[error("broker: {0}")]
    Broker(Box<tonic::Status>),
    #[error("older entries: {0}")]
    Run(#[from] RunError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Where two logs part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parting {
    offset: i64,
    epoch: i32,
    bucket_epoch: i32,
    log_epoch: i32,
}

fn epoch_at(lineage: &[EpochStart], offset: i64) -> Option<i32> {
    let known = lineage.partition_point(|e| e.start_offset <= offset);
    Some(lineage.get(known.checked_sub(1)?)?.epoch)
}

/// `None` where they do not.
fn parting(partition: &Partition, lineage: &[EpochStart]) -> Option<Parting> {
    let offset = partition.agreed_end(lineage);
    if offset >= partition.end {
        return None;
    }
    let below = offset.checked_sub(1).filter(|o| *o >= partition.start());
    Some(Parting {
        offset,
        epoch: below.and_then(|o| partition.epoch_of(o)).unwrap_or(-1),
        bucket_epoch: partition.epoch_of(offset.max(partition.start()))?,
        log_epoch: epoch_at(lineage, offset).unwrap_or(-1),
    })
}

impl SetAside {
    /// What would be set aside; with the hash of that plan as `apply` it is.
    pub async fn run(
        &self,
        topic: &str,
        number: i32,
        apply: Option<&str>,
    ) -> Result<Plan, SetAsideError> {
        let (at, partition, log) = self.find(topic, number).await?;
        let lineage = lineage_from(&log.lineage).filter(|_| log.log_start_stands);
        let lineage = lineage.ok_or(SetAsideError::Elsewhere(at))?;
        let parting = parting(&partition, &lineage).ok_or(SetAsideError::Same(at))?;
        if parting.log_epoch <= parting.bucket_epoch {
            return Err(SetAsideError::NotLater {
                at,
                offset: parting.offset,
                bucket: parting.bucket_epoch,
                log: parting.log_epoch,
            });
        }
        if log.local_log_start > parting.offset.max(log.log_start) {
            return Err(SetAsideError::Hole {
                at,
                offset: parting.offset,
                local: log.local_log_start,
            });
        }
        let mut plan = self.plan(at, &partition, &log, parting).await?;
        match apply {
            Some(given) if given != plan.hash => return Err(SetAsideError::Drifted(plan.hash)),
            Some(_) => self.apply(at, &mut plan).await?,
            None => {}
        }
        Ok(plan)
    }

    /// Of several topics that had the name, the one that the broker has.
    async fn find(
        &self,
        topic: &str,
        number: i32,
    ) -> Result<(TopicPartition, Partition, node::LogState), SetAsideError> {
        let roots = self.committer.roots();
        let named: Vec<_> = roots
            .iter()
            .flat_map(|root| &root.partitions)
            .filter(|(at, partition)| at.partition == number && partition.topic == topic)
            .collect();
        let Some((first, _)) = named.first() else {
            return Err(SetAsideError::Unknown {
                topic: topic.to_owned(),
                partition: number,
            });
        };
        let asked = named.iter().map(|(at, _)| (**at).into()).collect();
        let logs = self.broker.logs(asked, false).await;
        let logs = logs.map_err(|status| SetAsideError::Broker(Box::new(status)))?;
        for log in logs {
            let at = partition_from(log.at.as_ref());
            if let Some((at, partition)) = named.iter().find(|(n, _)| Some(**n) == at) {
                return Ok((**at, (*partition).clone(), log));
            }
        }
        Err(SetAsideError::Elsewhere(**first))
    }

    async fn plan(
        &self,
        at: TopicPartition,
        partition: &Partition,
        log: &node::LogState,
        parting: Parting,
    ) -> Result<Plan, SetAsideError> {
        let Parting {
            offset,
            epoch,
            bucket_epoch,
            log_epoch,
        } = parting;
        let shard = self.committer.shard_of(at);
        let mut objects = Vec::new();
        let mut add = |entries: &[Entry]| {
            let above = entries.iter().filter(|entry| entry.end > offset);
            objects.extend(above.map(|entry| entry.key(&self.keys, shard, at).to_string()));
        };
        for run in partition.runs.iter().filter(|run| run.end > offset) {
            add(&self.committer.runs().read(run).await?);
        }
        add(&partition.entries);
        let what = [
            self.region.as_bytes(),
            at.topic_id.as_bytes(),
            &at.partition.to_be_bytes(),
            &offset.to_be_bytes(),
            &epoch.to_be_bytes(),
            &bucket_epoch.to_be_bytes(),
            &log_epoch.to_be_bytes(),
            &partition.end.to_be_bytes(),
        ];
        Ok(Plan {
            region: self.region.clone(),
            topic: partition.topic.clone(),
            partition: at.partition,
            offset,
            epoch,
            bucket_epoch,
            bucket_end: partition.end,
            log_epoch,
            log_end: log.durable_end,
            objects,
            applied: false,
            hash: format!("{:016x}", fnv(&what)),
        })
    }

    async fn apply(&self, at: TopicPartition, plan: &mut Plan) -> Result<(), SetAsideError> {
        let edit = Edit::Truncate {
            at,
            epoch: plan.epoch,
            offset: plan.offset,
            tail: plan.bucket_epoch,
        };
        let shard = self.committer.shard_of(at);
        if let Outcome::Truncated(done) = self.committer.edit(shard, edit).await? {
            plan.objects = done.orphaned.iter().map(|o| o.key.to_string()).collect();
            plan.applied = done.end <= plan.offset;
            tracing::warn!(
                %at, offset = plan.offset, objects = plan.objects.len(), bucket_epoch = plan.bucket_epoch,
                log_epoch = plan.log_epoch, "what the bucket had of another lineage was set aside"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage(epochs: &[(i32, i64)]) -> Vec<EpochStart> {
        let start = |(epoch, start_offset): &(i32, i64)| EpochStart {
            epoch: *epoch,
            start_offset: *start_offset,
        };
        epochs.iter().map(start).collect()
    }

    fn partition(epochs: &[(i32, i64)], end: i64) -> Partition {
        Partition {
            end,
            lineage: lineage(epochs),
            entries: vec![Entry::sample(0, end)],
            ..Partition::default()
        }
    }

    #[test]
    fn two_logs_part_where_their_epochs_do() {
        let bucket = partition(&[(1, 0), (2, 10), (3, 20)], 30);
        let found = |epochs: &[(i32, i64)]| {
            let found = parting(&bucket, &lineage(epochs))?;
            Some((
                found.offset,
                found.epoch,
                found.bucket_epoch,
                found.log_epoch,
            ))
        };
        assert_eq!(found(&[(1, 0), (2, 10), (3, 20)]), None);
        assert_eq!(found(&[(1, 0), (2, 10), (3, 20), (9, 30)]), None);
        assert_eq!(found(&[(1, 0), (5, 10)]), Some((10, 1, 2, 5)));
        assert_eq!(found(&[(1, 0), (2, 10), (5, 15)]), Some((15, 2, 2, 5)));
        // A copy that is behind has no later epoch.
        assert_eq!(found(&[(1, 0), (2, 10)]), Some((20, 2, 3, 2)));
        // Nothing in common.
        assert_eq!(found(&[(7, 0)]), Some((0, -1, 1, 7)));
    }
}
