//! Moves end to end, with brokers that only report.

use whimbrel_fleet::{
    AcceptLoss, Clamp, LossBound, MoveMode, MoveReport, NodeId, Position, RegionEpoch,
    TopicPartition, moves::MoveOutcome,
};
use whimbrel_rpc::{
    controller::{ControlError, ControllerClient, MoveRequest, NewTopic},
    proto::controller::{CeilingsRequest, voter_client::VoterClient},
};

use crate::{
    broker::{Broker, group},
    harness::{Fleet, HOME, LEASE_MS, TOOL, eventually},
};

async fn finished(client: &ControllerClient) -> MoveReport {
    loop {
        if let Ok(Some(report)) = client.move_status(&group()).await
            && !matches!(report.outcome, MoveOutcome::Running { .. })
        {
            return report;
        }
        tokio::task::yield_now().await;
    }
}

/// East with broker 1 and 100 records, west with broker 2 and `west` of them.
async fn two_regions(
    fleet: &Fleet,
    west: i64,
) -> (ControllerClient, Broker, Broker, TopicPartition) {
    let client = fleet.client(TOOL);
    let east = Broker::start(fleet, HOME, 1, "east").await;
    let far = Broker::start(fleet, TOOL, 2, "west").await;
    let created = client.create_topic(NewTopic::new("t", 1)).await.unwrap();
    let at = TopicPartition::new(created.topic_id, 0);
    east.set_end(at, 100);
    far.set_end(at, west);
    let view = client.view();
    eventually("the topic in the view", || {
        view.borrow().version >= created.version
    })
    .await;
    eventually("a lease", || east.holds()).await;
    east.leases.set_position(
        &group(),
        Position {
            records: 100,
            bytes: 1_000,
        },
    );
    eventually("the ceiling", || {
        east.leases.covers(
            &group(),
            Position {
                records: 100,
                bytes: 1_000,
            },
        )
    })
    .await;
    // Every voter has granted a ceiling and the leader has heard both brokers: whoever dies next, the
    // numbers are there.
    for address in fleet.addresses(TOOL) {
        let mut voter = VoterClient::connect(format!("http://{address}"))
            .await
            .unwrap();
        let ask = || CeilingsRequest {
            fleet_id: "fleet-1".into(),
            group: group().to_string(),
        };
        while voter
            .ceilings(ask())
            .await
            .unwrap()
            .into_inner()
            .held
            .iter()
            .all(|held| !(100..u64::MAX).contains(&held.records))
        {
            tokio::task::yield_now().await;
        }
    }
    let request = MoveRequest::new(group(), "west".into(), MoveMode::Failover);
    loop {
        let plan = client.plan_move(&request).await.unwrap();
        if plan.home.is_some_and(|home| home.records == 100)
            && plan.target.records == u64::try_from(west).unwrap()
        {
            break;
        }
    }
    (client, east, far, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_a_moment_ago_does_not_refuse_a_move() {
    let fleet = Fleet::start().await;
    fleet.leader().await;
    let (client, _east, west, _) = two_regions(&fleet, 100).await;
    let mut request = MoveRequest::new(group(), "west".into(), MoveMode::Switchover);
    let plan = client.plan_move(&request).await.unwrap();
    assert_eq!(plan.refused, Vec::<String>::new());
    request.plan = Some(plan.hash);
    west.lacks(Some("u"));
    let created = client.create_topic(NewTopic::new("u", 1)).await.unwrap();
    let view = west.client.view();
    eventually("the topic in the view", || {
        view.borrow().version >= created.version
    })
    .await;
    // The log is made while the move is looked at, or long after.
    let made = async {
        for _ in 0..20 {
            client.move_status(&group()).await.unwrap();
        }
        west.lacks(None);
    };
    let (applied, ()) = tokio::join!(client.apply_move(&request), made);
    assert_eq!(applied.unwrap().refused, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_states_its_bound_and_promotes_what_is_there() {
    let fleet = Fleet::start().await;
    fleet.leader().await;
    let (client, east, west, at) = two_regions(&fleet, 70).await;
    east.kill().await;
    let mut request = MoveRequest::new(group(), "west".into(), MoveMode::Failover);
    request.declare_lost = true;
    let plan = client.plan_move(&request).await.unwrap();
    assert_eq!(plan.refused, Vec::<String>::new());
    let LossBound::AtMost(bound) = plan.bound else {
        panic!("{plan:?}")
    };
    assert!(
        (30..=2_000).contains(&bound.records),
        "30 are missing, and what was reserved ahead: {bound:?}"
    );
    assert_eq!(plan.target.records, 70);

    let refused = client.apply_move(&request).await.unwrap_err();
    assert_eq!(refused.code(), Some("WB-439"), "{refused}");
    request.plan = Some("000000".into());
    assert!(matches!(
        client.apply_move(&request).await,
        Err(ControlError::Aborted { .. })
    ));
    assert!(
        client.move_status(&group()).await.unwrap().is_none(),
        "nothing was fenced"
    );

    request.plan = Some(plan.hash.clone());
    request.accept_loss = AcceptLoss::Records(bound.records);
    client.apply_move(&request).await.unwrap();
    assert_eq!(
        client.apply_move(&request).await.unwrap().hash,
        plan.hash,
        "recognised when it comes twice"
    );
    let view = client.view();
    eventually("the new home", || {
        view.borrow().groups[&group()].home.as_str() == "west"
    })
    .await;
    let clamp = Clamp {
        consumer_group: "g".into(),
        topic: "t".into(),
        partition: 0,
        from: 90,
        to: 70,
    };
    client
        .report_clamps(&group(), RegionEpoch(2), std::slice::from_ref(&clamp))
        .await
        .unwrap();
    let report = finished(&client).await;
    assert_eq!(report.outcome, MoveOutcome::Done);
    assert_eq!(report.clamps, [clamp]);
    assert!(report.fence_ms >= LEASE_MS, "{report:?}");
    let now = view.borrow().clone();
    let partition = &now.topics["t"].partitions[0];
    assert_eq!(
        (partition.leader, partition.isr.clone()),
        (Some(NodeId(2)), vec![NodeId(2)])
    );
    assert_eq!(now.groups[&group()].lossy_promotion(at), Some(70));
    assert_eq!(
        now.listed_brokers().map(|n| n.id).collect::<Vec<_>>(),
        [NodeId(2)]
    );
    eventually("the new home has the lease", || west.holds()).await;

    take_back(&fleet, &client, &west, at).await;
    west.kill().await;
    fleet.end().await;
}

/// The old home comes back as a follower, and with the same records takes the group back.
async fn take_back(fleet: &Fleet, client: &ControllerClient, west: &Broker, at: TopicPartition) {
    let view = client.view();
    let east = Broker::start(fleet, HOME, 1, "east").await;
    east.set_end(at, 70);
    eventually("east is listed again", || {
        view.borrow().listed_brokers().count() == 2
    })
    .await;
    assert!(!east.holds());
    let back = MoveRequest::new(group(), "east".into(), MoveMode::Failback);
    client.apply_move(&back).await.unwrap();
    let report = finished(client).await;
    assert_eq!(
        (report.outcome.clone(), report.bound),
        (MoveOutcome::Done, LossBound::AtMost(Position::default())),
        "{report:?}"
    );
    eventually("east has the lease", || east.holds()).await;
    assert!(!west.holds());
    assert_eq!(view.borrow().groups[&group()].epoch, RegionEpoch(3));
    east.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switchover_that_does_not_drain_aborts_and_the_home_goes_on() {
    let fleet = Fleet::start().await;
    fleet.leader().await;
    let (client, east, west, at) = two_regions(&fleet, 70).await;
    let request = MoveRequest::new(group(), "west".into(), MoveMode::Switchover);
    client.apply_move(&request).await.unwrap();
    let report = finished(&client).await;
    assert!(
        matches!(&report.outcome, MoveOutcome::Aborted { reason } if reason.starts_with("WB-442")),
        "{report:?}"
    );
    let view = client.view();
    eventually("the epoch above the fence", || {
        view.borrow().groups[&group()].epoch == RegionEpoch(3)
    })
    .await;
    assert_eq!(view.borrow().groups[&group()].home.as_str(), "east");
    eventually("the home has its lease again", || east.holds()).await;

    west.set_end(at, 100);
    client.apply_move(&request).await.unwrap();
    let report = finished(&client).await;
    assert_eq!(report.outcome, MoveOutcome::Done, "{report:?}");
    assert!(report.fence_ms < 2_000, "{report:?}");
    assert_eq!(
        report
            .partitions
            .iter()
            .find(|p| p.at == at)
            .unwrap()
            .promotion
            .offset,
        100
    );
    eventually("west has the lease", || west.holds()).await;
    east.kill().await;
    west.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_cut_off_together_with_the_old_leader_gets_no_lease_once_the_move_is_committed() {
    let fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let (client, east, west, _) = two_regions(&fleet, 100).await;
    // The island: the leader and the home broker; the other two voters and everybody else.
    fleet.isolate(leader, true);
    fleet.link(TOOL, leader, true);
    for other in (1..=3).filter(|id| *id != leader) {
        fleet.link(HOME, other, true);
    }
    fleet.leader_other_than(leader).await;
    eventually("the cut-off leader no longer calls itself one", || {
        !fleet.handle(leader).is_leader()
    })
    .await;
    let mut request = MoveRequest::new(group(), "west".into(), MoveMode::Failover);
    request.accept_loss = AcceptLoss::Unknown;
    client.apply_move(&request).await.unwrap();
    let view = client.view();
    loop {
        let moved = view.borrow().groups[&group()].home.as_str() == "west";
        // Read after the view: whatever it says now was true once the move was visible.
        let held = east.leases.check(&group(), RegionEpoch(1));
        assert!(!(moved && held), "two homes at once");
        if moved {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(finished(&client).await.outcome, MoveOutcome::Done);
    eventually("west has the lease", || west.holds()).await;
    assert!(!east.leases.check(&group(), RegionEpoch(1)));

    // Healed: the old leader follows, and the old home learns that it is none.
    fleet.isolate(leader, false);
    fleet.link(TOOL, leader, false);
    for other in (1..=3).filter(|id| *id != leader) {
        fleet.link(HOME, other, false);
    }
    let seen = east.client.view();
    eventually("the old home sees the move", || {
        seen.borrow().groups[&group()].home.as_str() == "west"
    })
    .await;
    assert!(!east.leases.check(&group(), RegionEpoch(1)));
    eventually("the old leader has applied it", || {
        fleet.handle(leader).view().groups[&group()].epoch == RegionEpoch(2)
    })
    .await;
    east.kill().await;
    west.kill().await;
    fleet.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_goes_on_after_the_leader_dies_behind_the_fence() {
    let mut fleet = Fleet::start().await;
    let leader = fleet.leader().await;
    let (client, east, west, _) = two_regions(&fleet, 90).await;
    east.kill().await;
    let mut request = MoveRequest::new(group(), "west".into(), MoveMode::Failover);
    request.accept_loss = AcceptLoss::Records(5_000);
    client.apply_move(&request).await.unwrap();
    fleet.stop(leader).await;
    let report = finished(&client).await;
    // The new leader waits the fence out again. It and the one voter left both named a ceiling.
    assert_eq!(report.outcome, MoveOutcome::Done, "{report:?}");
    assert!(
        matches!(report.bound, LossBound::AtMost(p) if p.records >= 10),
        "{report:?}"
    );
    eventually("west has the lease", || west.holds()).await;
    west.kill().await;
    fleet.end().await;
}
