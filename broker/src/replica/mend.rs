//! A damaged copy that another one stands in for: set aside, and filled again.
//!
//! Only at home, where the leader holds whatever was acknowledged, and only when the leader's own frame says that it ends no
//! lower than what was durable here. Elsewhere, and of a copy that the disk does not give, nothing is concluded: it
//! stays as it is, and does not lead. What is damaged, and all behind it, stays below `quarantine/` of the data directory.

use std::sync::Arc;

use whimbrel_log::Health;
use whimbrel_rpc::replica::{Batches, FromSink, RefuseReason};

use super::sink::Scope;
use crate::{
    broker::Broker,
    partition::{Partition, Role},
};

/// The partition that the frame is for, if it is one to be mended.
pub fn damaged(broker: &Broker, scope: Scope, frame: &Batches) -> Option<Arc<Partition>> {
    let catalog = broker.catalog();
    let partition = catalog.local(frame.at)?;
    if partition.log.health() == Health::Good || partition.log.is_unread() {
        return None;
    }
    let group = catalog.group_of(frame.at)?;
    let follows = match partition.role() {
        Role::Follower { region_epoch, feed } => {
            scope.takes(feed) && frame.region_epoch == region_epoch
        }
        _ => false,
    };
    let is_spare = group.home == broker.region && frame.region_epoch == group.epoch;
    let has_all = frame.log_end >= partition.log.promised_end();
    (follows && is_spare && has_all).then(|| Arc::clone(partition))
}

/// Frames that were under way were passed over: the answer has the stream begin anew from where the copy stands then.
pub async fn run(broker: Arc<Broker>, partition: Arc<Partition>) -> FromSink {
    let (at, log) = (partition.at, Arc::clone(&partition.log));
    let (topic, name) = (log.topic().to_owned(), log.name());
    let done = broker.tasks.blocking(move || log.set_aside_damage()).await;
    partition.truncated();
    let reason = match done {
        Ok(cut) => {
            let (from, to) = (cut.to, cut.from);
            tracing::error!(
                code = "WB-125",
                topic,
                partition = at.partition,
                from,
                to,
                "a damaged copy was set aside below quarantine/{name} and is filled again from its leader"
            );
            RefuseReason::OutOfOrder
        }
        Err(error) => {
            tracing::error!(code = "WB-108", topic, partition = at.partition, %error, "a damaged copy could not be set aside");
            RefuseReason::Damaged
        }
    };
    FromSink::Refused { at, reason }
}
