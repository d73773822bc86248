//! A broker of an empty fleet that takes over what a bucket says of another one.

use std::collections::BTreeMap;

use crate::{
    client::{Client, batch},
    fleet::{EAST, Fleet, WEST, eventually},
    moves::apply,
};
use whimbrel_fleet::{
    AcceptLoss, GroupName, LeaderEpoch, LossMode, MoveMode, OffsetsBlock, RegionEpoch, Restore,
    TopicId,
    naming::CONSUMER_OFFSETS,
    restore::{Description, Group, Partition, Topic},
};

pub fn topic(name: &str, id: u128, partitions: usize) -> Topic {
    let log = Partition {
        leader_epoch: LeaderEpoch(1_004),
        log_start: 0,
        end: 0,
    };
    Topic {
        name: name.into(),
        id: TopicId::from_u128(id),
        group: GroupName::default_group(),
        internal: name.starts_with("__"),
        replication_factor: 1,
        configs: BTreeMap::new(),
        partitions: vec![log; partitions],
    }
}

pub fn group(name: GroupName) -> Group {
    Group {
        name,
        epoch: RegionEpoch(1_001),
        lease_ms: 1_000,
        loss_mode: LossMode::Exact,
        offsets: OffsetsBlock::default(),
        transactions: OffsetsBlock::default(),
    }
}

pub fn restore() -> Restore {
    Restore {
        job: "job".into(),
        region: "bucket-of-north".into(),
        hash: "plan".into(),
        at_ms: 0,
        // Nobody listens: there is nothing to be had.
        address: "127.0.0.1:1".into(),
    }
}

/// The internal topic that the fleet was bootstrapped with goes, and one of the same name comes, in one view.
#[tokio::test]
async fn a_fleet_that_takes_over_a_description_makes_its_logs_and_comes_home() {
    let fleet = Fleet::start().await;
    let east = fleet.broker(1, EAST).await;
    let west = fleet.broker(2, WEST).await;
    eventually("the fleet's own logs", async || {
        east.partition(CONSUMER_OFFSETS, 49).await
    })
    .await;
    let description = Description {
        groups: vec![group(GroupName::default_group())],
        topics: vec![topic(CONSUMER_OFFSETS, 70, 50), topic("orders", 71, 1)],
        producer_ids: 1_000_000,
        ..Description::default()
    };
    let begun = fleet.client.begin_restore(&restore(), &description).await;
    begun.unwrap();
    let progress = eventually("copies of all logs", async || {
        let progress = fleet.client.restore_progress().await.unwrap();
        (progress.there == 51).then_some(progress)
    })
    .await;
    assert_eq!((progress.partitions, progress.to.as_str()), (51, EAST));
    let epoch = apply(&fleet, EAST, MoveMode::Failover, AcceptLoss::Unknown).await;
    assert_eq!(epoch, RegionEpoch(1_001));
    fleet.client.end_restore("job").await.unwrap();
    let ended = fleet.client.restore_progress().await.unwrap();
    assert_eq!(ended.ended, Some(("job".into(), "plan".into())));
    let mut client = Client::connect(east.handle.kafka).await;
    assert_eq!(client.produce_ok("orders", 0, batch(&["a"])).await, 0);
    drop(west);
}
