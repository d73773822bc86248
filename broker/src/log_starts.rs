//! Whose word a log start is, and how a lost one is learnt again.
//!
//! The bucket deletes what lies below a log start, in every region. So it is only the home leader's to say, under its
//! lease; a follower repeats what came in a frame of that leader and never says its own. A log whose start is lost
//! ([`whimbrel_log::Offsets::known_log_start`]) says nothing before the bucket's root or a frame has told it again.
//! The bucket also tells the lineage of what is not local, where the file that held it cannot be proved.

use std::{collections::HashSet, sync::Arc, time::Duration};

use whimbrel_fleet::RegionEpoch;
use whimbrel_log::{Health, Log, LogError};

use crate::{
    broker::Broker,
    cold::LOOKUP_WAIT,
    partition::{Partition, Role},
};

const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// A log start that counts everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub log_start: i64,
    pub region_epoch: RegionEpoch,
    pub leader_epoch: i32,
}

/// What the home's leader says of the partition's log start; `None` when that is not known here.
pub fn standing(broker: &Broker, partition: &Partition) -> Option<Standing> {
    match partition.role() {
        Role::Leader(terms) => {
            // The number first: whoever is leader still when it was read was so before.
            let log_start = partition.log.offsets().known_log_start?;
            terms
                .held(&broker.lease, &partition.home)
                .then_some(Standing {
                    log_start,
                    region_epoch: terms.region_epoch,
                    leader_epoch: terms.leader_epoch,
                })
        }
        Role::Follower { region_epoch, .. } => Some(Standing {
            log_start: partition.following.log_start(region_epoch)?,
            region_epoch,
            leader_epoch: partition.following.leader_epoch(),
        }),
        Role::None => None,
    }
}

/// What a frame to a follower says: 0, which moves nothing, where it is not known.
pub fn told(partition: &Partition) -> i64 {
    let known = match partition.role() {
        Role::Leader(_) => partition.log.offsets().known_log_start,
        Role::Follower { region_epoch, .. } => partition.following.log_start(region_epoch),
        Role::None => None,
    };
    known.unwrap_or(0)
}

/// Takes over what a frame of the home says. Only upwards, but for a log that had lost it.
pub fn follow(log: &Log, said: i64) -> Result<(), LogError> {
    let offsets = log.offsets();
    if said <= 0 || said > offsets.log_end {
        return Ok(());
    }
    match offsets.known_log_start {
        None => log.learn_log_start(said).map(drop),
        Some(known) if said > known => log.set_log_start(said).map(drop),
        Some(_) => Ok(()),
    }
}

/// Learns lost log starts and lineages from the bucket.
pub async fn run(broker: Arc<Broker>) {
    let shutdown = broker.tasks.shutdown();
    let mut told = HashSet::new();
    loop {
        for partition in broker.catalog().partitions() {
            let lost = partition.log.offsets().known_log_start.is_none();
            if partition.log.health() != Health::Good {
                continue;
            }
            if !lost && broker.cold.is_configured() && !told.contains(&partition.at) {
                match shutdown.unless(ask_lineage(&broker, partition)).await {
                    // The bucket's word does not change by asking again.
                    Some(Ok(true)) => drop(told.insert(partition.at)),
                    Some(Ok(false)) => {}
                    Some(Err(error)) => {
                        tracing::warn!(code = "WB-127", at = %partition.at, %error, "its lineage below the local log is lost here and not known yet");
                        break;
                    }
                    None => return,
                }
            }
            if lost {
                match shutdown.unless(ask(&broker, partition)).await {
                    Some(Ok(())) => {}
                    // The others would wait as long.
                    Some(Err(error)) => {
                        tracing::warn!(at = %partition.at, %error, "its log start is lost here and not known yet");
                        break;
                    }
                    None => return,
                }
            }
        }
        if shutdown
            .unless(broker.clock.sleep(LOOK_AGAIN))
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Whether the bucket was asked and said what it knows.
async fn ask_lineage(broker: &Broker, partition: &Arc<Partition>) -> Result<bool, tonic::Status> {
    let Some(first) = partition.log.lineage_known_from() else {
        return Ok(false);
    };
    let lineage = broker.cold.lineage(partition.at, LOOKUP_WAIT).await?;
    let log = Arc::clone(&partition.log);
    let learnt = broker
        .tasks
        .blocking(move || log.learn_lineage(&lineage))
        .await;
    let (at, below) = (partition.at, first.start_offset);
    match learnt {
        Ok(true) => {
            tracing::warn!(code = "WB-127", %at, below, "its lineage was lost here and is learnt again");
        }
        Ok(false) => {
            tracing::warn!(code = "WB-127", %at, below, "its lineage is lost here, and the bucket's does not go on as the log does");
        }
        Err(error) => {
            tracing::warn!(code = "WB-127", %at, below, %error, "its lineage was not learnt");
        }
    }
    Ok(true)
}

async fn ask(broker: &Broker, partition: &Arc<Partition>) -> Result<(), tonic::Status> {
    let offsets = partition.log.offsets();
    let found = match broker.cold.is_configured() {
        // Nothing was freed that is elsewhere.
        false => Some(offsets.local_log_start),
        true => match broker.cold.log_start(partition.at, LOOKUP_WAIT).await? {
            Some(start) => Some(start),
            // Nothing went up yet, so nothing was freed either: the log begins where its lineage does.
            None => Some(offsets.log_start).filter(|start| *start == offsets.local_log_start),
        },
    };
    let Some(found) = found else {
        tracing::debug!(at = %partition.at, "its log start is lost, and the bucket knows nothing of it");
        return Ok(());
    };
    let log = Arc::clone(&partition.log);
    match broker
        .tasks
        .blocking(move || log.learn_log_start(found))
        .await
    {
        Ok(true) => {
            tracing::warn!(at = %partition.at, log_start = found, "its log start was lost and is learnt again");
            partition.waiters.wake();
        }
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(at = %partition.at, log_start = found, %error, "its log start was not learnt")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use whimbrel_log::{AppendContext, Disk, DiskOptions, LogConfig};
    use whimbrel_wire::BatchBuilder;

    use super::*;

    fn open(root: &std::path::Path) -> (Arc<Disk>, Vec<Arc<Log>>) {
        let options = DiskOptions {
            root: root.to_owned(),
            cluster_id: "fleet".to_owned(),
            node_id: 1,
        };
        Disk::open(options, 1).unwrap()
    }

    /// Ten records; what is local begins at 6, the log at `start`.
    fn freed(root: &std::path::Path, start: i64) {
        let (disk, _) = open(root);
        let config = LogConfig::default();
        let log = disk
            .create("t", uuid::Uuid::from_u128(1), 0, config)
            .unwrap();
        log.begin_epoch(0).unwrap();
        for n in 0..10 {
            let mut batch = BatchBuilder::new(0);
            batch.add(n, None, Some(b"v"), &[]).unwrap();
            log.append(batch.finish().unwrap(), AppendContext::new(0, n))
                .unwrap();
            if n == 5 {
                log.roll().unwrap();
            }
        }
        disk.sync().unwrap();
        log.set_log_start(start).unwrap();
        log.free_local_before(6).unwrap();
        assert_eq!(log.offsets().local_log_start, 6);
        disk.close().unwrap();
    }

    #[test]
    fn a_frame_raises_a_known_start_and_tells_a_lost_one() {
        let dir = tempfile::tempdir().unwrap();
        freed(dir.path(), 2);
        {
            let (disk, logs) = open(dir.path());
            for (said, is) in [(0, 2), (1, 2), (3, 3), (11, 3)] {
                follow(&logs[0], said).unwrap();
                assert_eq!(logs[0].offsets().known_log_start, Some(is), "{said}");
            }
            disk.close().unwrap();
        }
        std::fs::write(dir.path().join("durable-points"), "junk").unwrap();
        let (_disk, logs) = open(dir.path());
        for (said, is) in [
            (0, None),
            (11, None),
            (3, Some(3)),
            (2, Some(3)),
            (4, Some(4)),
        ] {
            follow(&logs[0], said).unwrap();
            assert_eq!(logs[0].offsets().known_log_start, is, "{said}");
        }
        assert_eq!(logs[0].offsets().local_log_start, 6);
    }
}
