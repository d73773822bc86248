//! What brokers say of their logs, in the words of cuts.

use uuid::Uuid;
use whimbrel_fleet::{EpochStart, Lineage, TopicPartition, cut::Standing};
use whimbrel_rpc::proto::peer::PartitionEnd;

/// None for a topic id that is none.
pub fn of(end: &PartitionEnd) -> Option<(TopicPartition, Standing)> {
    let topic_id = Uuid::from_slice(&end.topic_id).ok()?;
    let epochs = end.epochs.iter().map(|start| EpochStart {
        epoch: start.epoch,
        start_offset: start.start_offset,
    });
    let standing = Standing {
        log_start: end.log_start,
        lineage: Lineage {
            epochs: epochs.collect(),
            end_offset: end.end,
        },
    };
    Some((TopicPartition::new(topic_id, end.partition), standing))
}
