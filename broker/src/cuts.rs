//! Consistent cuts of the failover groups (`whimbrel_fleet::cut`): taken at home every `cut-interval` by the leader of the
//! group's partition of `__whimbrel_cuts`, recorded there, and mirrored with everything else. In each region the newest one
//! that is wholly there is looked for as often.
//!
//! A group whose logs did not change since its last cut is not cut again: that one still says where they end. The topic
//! is made once the group has transactions or group positions: until then there is nothing that a cut would keep
//! together.

mod complete;
pub mod part;
mod peer;
mod standing;
mod take;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

pub use complete::Newest;
use whimbrel_fleet::{
    FailoverGroup, GroupName, TopicPartition,
    cut::{Cut, End, format},
    naming::{self, CONSUMER_OFFSETS, CUTS, TRANSACTION_STATE},
};
use whimbrel_rpc::controller::NewTopic;
use whimbrel_wire::BatchBuilder;

use crate::{
    broker::Broker,
    state_log::{Led, StateLog},
};

/// A cut of half a million partitions.
const MESSAGE_BYTES: &str = "8388608";
/// Cuts are kept as long as records are by default: seven days.
const RETENTION_MS: &str = "604800000";

type Ends = BTreeMap<TopicPartition, End>;

pub async fn run(broker: Arc<Broker>) {
    let (shutdown, every) = (broker.tasks.shutdown(), broker.options.cut_interval.0);
    if every.is_zero() {
        return;
    }
    // The last cut of each group that was recorded from here.
    let mut recorded: HashMap<GroupName, Ends> = HashMap::new();
    while shutdown.unless(broker.clock.sleep(every)).await.is_some() {
        let groups: Vec<_> = broker.catalog().view.groups.values().cloned().collect();
        for group in groups {
            let looked = async {
                if group.home == broker.region && group.fence.is_none() {
                    round(&broker, &group, &mut recorded).await;
                } else {
                    recorded.remove(&group.name);
                }
                complete::look(&broker, &group).await;
            };
            if shutdown.unless(looked).await.is_none() {
                return;
            }
        }
    }
}

async fn round(
    broker: &Arc<Broker>,
    group: &FailoverGroup,
    recorded: &mut HashMap<GroupName, Ends>,
) {
    let log = Led {
        broker: Arc::downgrade(broker),
        topic: CUTS,
    };
    let partition = naming::cuts_partition(group.offsets);
    if broker.catalog().topic(CUTS).is_none() {
        create(broker, group, partition).await;
        return;
    }
    if log.led(partition).is_none() {
        recorded.remove(&group.name);
        return;
    }
    let cut = match take::take(broker, group).await {
        Ok(cut) => cut,
        Err(missed) => {
            tracing::debug!(group = %group.name, %missed, "no cut this time");
            broker.meters.cut_missed(missed.reason());
            return;
        }
    };
    if recorded.get(&group.name) == Some(&cut.ends) {
        return;
    }
    match record(broker, &log, partition, &cut).await {
        Ok(()) => {
            broker.meters.cuts.increment(1);
            recorded.insert(group.name.clone(), cut.ends);
        }
        Err(error) => {
            tracing::debug!(group = %group.name, error, "a cut was not recorded");
            broker.meters.cut_missed("unrecorded");
        }
    }
}

async fn record(broker: &Broker, log: &Led, partition: i32, cut: &Cut) -> Result<(), String> {
    let (key, value) = format::encode(cut).map_err(|error| error.to_string())?;
    let mut batch = BatchBuilder::new(0);
    batch
        .add(broker.clock.wall_ms(), Some(&key), Some(&value), &[])
        .map_err(|error| error.to_string())?;
    let batch = batch.finish().map_err(|error| error.to_string())?;
    let appended = log.append(partition, batch).await;
    appended.map(drop).map_err(|error| error.name().to_owned())
}

/// One broker of the region makes the topic, once there is something to cut.
async fn create(broker: &Broker, group: &FailoverGroup, partition: i32) {
    let catalog = broker.catalog();
    let live = catalog
        .view
        .nodes
        .values()
        .filter(|node| node.region == broker.region && catalog.view.is_live(node.id));
    let is_first = live.map(|node| node.id).min() == Some(broker.node);
    let has_positions = || {
        catalog.partitions().any(|p| {
            p.home.group == group.name
                && p.log.topic() == CONSUMER_OFFSETS
                && p.log.offsets().log_end > 0
        })
    };
    if !is_first || !(catalog.topic(TRANSACTION_STATE).is_some() || has_positions()) {
        return;
    }
    let topic = NewTopic {
        configs: [
            ("max.message.bytes", MESSAGE_BYTES),
            ("retention.ms", RETENTION_MS),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into(),
        internal: true,
        ..NewTopic::new(CUTS, partition.saturating_add(1))
    };
    if let Err(error) = broker.controller.create_topic(topic).await {
        tracing::debug!(%error, "{CUTS} was not created");
    }
}
