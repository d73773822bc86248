//! A small fleet to be restored, for tests.

use std::collections::BTreeMap;

use whimbrel_fleet::{
    GroupName, LeaderEpoch, LossMode, NodeId, OffsetsBlock, Promotion, RegionEpoch, Restore,
    TopicId, TopicPartition,
    naming::CONSUMER_OFFSETS,
    restore::{self, Description},
};

use super::{BeginRestore, RestoreStep};
use crate::state::{Command, Promoted, tests::move_at};

/// Of a fleet with one topic besides its positions; it comes home in region epoch `epoch`.
pub(crate) fn begin_restore(epoch: u32) -> BeginRestore {
    let topic = |name: &str, id: u128, log_start: i64, end: i64| restore::Topic {
        name: name.into(),
        id: TopicId::from_u128(id),
        group: GroupName::default_group(),
        internal: name.starts_with("__"),
        replication_factor: 2,
        configs: BTreeMap::from([("retention.ms".into(), "5".into())]),
        partitions: vec![restore::Partition {
            leader_epoch: LeaderEpoch(1_004),
            log_start,
            end,
        }],
    };
    BeginRestore {
        restore: Restore {
            job: "job".into(),
            region: "bucket-of-north".into(),
            hash: "plan".into(),
            at_ms: 5,
            address: "127.0.0.1:1".into(),
        },
        description: Description {
            groups: vec![restore::Group {
                name: GroupName::default_group(),
                epoch: RegionEpoch(epoch),
                lease_ms: 3_000,
                loss_mode: LossMode::Lease,
                offsets: OffsetsBlock { start: 0, len: 1 },
                transactions: OffsetsBlock::default(),
            }],
            topics: vec![
                topic(CONSUMER_OFFSETS, 70, 3, 7),
                topic("orders", 71, 20, 40),
            ],
            deleted: vec![TopicId::from_u128(90)],
            producer_ids: 3_000_000,
            ..Description::default()
        },
    }
}

pub(crate) fn restore(epoch: u32) -> Command {
    Command::Restore(RestoreStep::Begin(Box::new(begin_restore(epoch))))
}

pub(crate) fn end_restore() -> Command {
    Command::Restore(RestoreStep::End { job: "job".into() })
}

pub(crate) fn abandon_restore(id: u128) -> Command {
    Command::Restore(RestoreStep::Abandon {
        job: "job".into(),
        offsets_topic_id: TopicId::from_u128(id),
    })
}

/// Broker 1 leads all that was restored; the one topic goes on at `end`.
pub(crate) fn come_home(epoch: u32, end: i64) -> Command {
    let at = |id: u128, offset| Promoted {
        at: TopicPartition::new(TopicId::from_u128(id), 0),
        leader: NodeId(1),
        promotion: Promotion {
            epoch: LeaderEpoch(3),
            offset,
        },
        isr: vec![NodeId(1)],
    };
    move_at(epoch, vec![at(70, 7), at(71, end)])
}
