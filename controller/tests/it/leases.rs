//! Leases: a majority gives them, no leader is needed, a fence ends them.

use std::time::Duration;

use whimbrel_fleet::{LossMode, Position, RegionEpoch};
use whimbrel_rpc::controller::{LeaseHolder, LeaseIdentity};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use crate::{
    broker::{Broker, group},
    harness::{Fleet, HOME, LEASE_MS, eventually},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_the_leader_and_ends_without_a_majority() {
    let mut fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    eventually("a lease", || broker.holds()).await;
    let position = Position {
        records: 5_000,
        bytes: 1 << 22,
    };
    broker.leases.set_position(&group(), position);
    let beyond = Position {
        records: 50_000_000,
        bytes: 0,
    };
    eventually("a ceiling above the position and not far above", || {
        broker.leases.covers(&group(), position) && !broker.leases.covers(&group(), beyond)
    })
    .await;

    fleet.stop(leader).await;
    let begun = fleet.clock.boot_ms();
    while fleet.clock.boot_ms() - begun < LEASE_MS * 2 {
        assert!(
            broker.holds(),
            "two voters are a majority and need no leader"
        );
        fleet.clock.sleep(Duration::from_millis(10)).await;
    }
    let other = if leader == 1 { 2 } else { 1 };
    fleet.link(HOME, other, true);
    eventually("the lease runs out with one voter left", || !broker.holds()).await;
    fleet.link(HOME, other, false);
    eventually("the lease comes back", || broker.holds()).await;
    broker.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_past_its_lease_holds_nothing_when_it_wakes() {
    let fleet = Fleet::start().await;
    fleet.leader().await;
    let broker = Broker::start(&fleet, HOME, 1, "east").await;
    // A second holder of the same identity on a clock that the test owns: CLOCK_BOOTTIME goes on while
    // the process does not run.
    let (clock, tasks) = (Clock::manual(), Tasks::new(Shutdown::new()));
    let identity = LeaseIdentity {
        node: broker.node.id,
        incarnation: broker.incarnation(),
        region: "east".into(),
    };
    let holder = LeaseHolder::new(fleet.addresses(HOME), identity, &tasks, clock.clone());
    let epoch = RegionEpoch(1);
    holder.hold(&group(), epoch, LEASE_MS, LossMode::Exact);
    eventually("a lease", || holder.check(&group(), epoch)).await;
    clock.advance(Duration::from_millis(LEASE_MS - 1));
    assert!(holder.check(&group(), epoch));
    // What is asked once the process runs again must not be answered yet; what was asked before holds for one
    // lease more at most.
    fleet.sever(HOME).await;
    clock.advance(Duration::from_millis(LEASE_MS * 2));
    assert!(
        !holder.check(&group(), epoch),
        "nothing is allowed before a voter has answered again"
    );
    assert!(!holder.covers(&group(), Position::default()));
    for voter in 1..=3 {
        fleet.link(HOME, voter, false);
    }
    eventually("the lease is renewed", || {
        clock.advance(Duration::from_millis(1));
        holder.check(&group(), epoch)
    })
    .await;
    holder.drop_group(&group());
    assert!(!holder.check(&group(), epoch));
    tasks.stop(Duration::from_secs(5)).await;
    broker.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_start_of_a_node_loses_its_lease_to_the_newer() {
    let fleet = Fleet::start().await;
    fleet.leader().await;
    let old = Broker::start(&fleet, HOME, 1, "east").await;
    eventually("a lease", || old.holds()).await;
    let new = Broker::start(&fleet, crate::harness::TOOL, 1, "east").await;
    eventually("the new start has the lease", || new.holds()).await;
    eventually("the old one has lost it", || !old.holds()).await;
    let refused = old.client.register(&old.node).await.unwrap_err();
    assert_eq!(refused.code(), Some("WB-421"));
    old.kill().await;
    new.kill().await;
    fleet.end().await;
}
