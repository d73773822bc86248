use whimbrel_fleet::{AcceptLoss, GroupName, MoveMode, RegionEpoch};
use whimbrel_rpc::controller::MoveRequest;
use whimbrel_wire::ErrorCode;

use crate::{
    client::{Client, batch, fetch_request, idempotent},
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    mirror::Mirror,
};

pub async fn mirror(fleet: &Fleet, from: &Broker, to: &Broker) -> Mirror {
    let epoch = fleet.view().groups[&GroupName::default_group()].epoch;
    Mirror::start(
        from.handle.replica,
        to.handle.replica,
        &from.handle.fleet_id,
        to.handle.follower().region,
        epoch,
    )
    .await
}

pub async fn until_end(broker: &Broker, topic: &str, end: i64) {
    eventually("the copy", async || {
        broker
            .partition(topic, 0)
            .await
            .filter(|p| p["durable_end"] == end)
    })
    .await;
}

pub async fn apply(
    fleet: &Fleet,
    to: &str,
    mode: MoveMode,
    accept_loss: AcceptLoss,
) -> RegionEpoch {
    apply_to(fleet, GroupName::default_group(), to, mode, accept_loss).await
}

pub async fn apply_to(
    fleet: &Fleet,
    group: GroupName,
    to: &str,
    mode: MoveMode,
    accept_loss: AcceptLoss,
) -> RegionEpoch {
    let request = MoveRequest {
        accept_loss,
        ..MoveRequest::new(group, to.into(), mode)
    };
    let plan = eventually("a plan that can be applied", async || {
        fleet
            .client
            .plan_move(&request)
            .await
            .ok()
            .filter(|p| p.refused.is_empty())
    })
    .await;
    fleet.client.apply_move(&request).await.unwrap();
    eventually("the move", async || {
        fleet
            .view()
            .groups
            .get(&plan.group)
            .filter(|g| g.epoch == plan.epoch && g.fence.is_none())
            .cloned()
    })
    .await;
    assert_eq!(
        fleet.view().groups[&plan.group].home.as_str(),
        to,
        "{:?}",
        fleet.client.move_status(&plan.group).await
    );
    plan.epoch
}

/// What a follower region's replica shows to a client that stands there.
async fn records_in(region: &str, broker: &Broker, topic: &str) -> bytes::Bytes {
    let mut request = fetch_request(topic, 0, 0, 0);
    request.rack_id = region.into();
    let mut response = Client::connect(broker.handle.kafka)
        .await
        .call(11, request)
        .await;
    let data = response.responses.remove(0).partitions.remove(0);
    assert_eq!(data.error_code, ErrorCode::NONE);
    data.records.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_byte_equal_and_a_switchover_loses_nothing() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(&fleet, &east, &west).await;
    for n in 0..30 {
        client
            .produce_ok("t", 0, idempotent(7, n, &[&format!("v{n}")]))
            .await;
    }
    until_end(&west, "t", 30).await;
    let shown = eventually("the high watermark", async || {
        Some(records_in(WEST, &west, "t").await).filter(|r| r.len() > 2_000)
    })
    .await;
    assert_eq!(shown, records_in(EAST, &east, "t").await);
    apply(&fleet, WEST, MoveMode::Switchover, AcceptLoss::None).await;
    drop(carried);
    let refused = client.produce("t", 0, batch(&["too late"])).await;
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    eventually("the news", async || {
        (client
            .produce("t", 0, batch(&["too late"]))
            .await
            .current_leader
            .leader_id
            == 2)
            .then_some(())
    })
    .await;
    let mut moved = Client::connect(west.handle.kafka).await;
    assert_eq!(
        moved.produce_ok("t", 0, idempotent(7, 29, &["v29"])).await,
        29,
        "a retry is known as a duplicate"
    );
    assert_eq!(
        moved.produce_ok("t", 0, idempotent(7, 30, &["v30"])).await,
        30
    );
    assert_eq!(moved.consume("t", 0, 0).await.len(), 31);
    let back = mirror(&fleet, &west, &east).await;
    until_end(&east, "t", 31).await;
    drop(back);
    east.stop().await;
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_home_returns_as_a_follower_and_its_orphan_tail_is_saved_and_counted() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(&fleet, &east, &west).await;
    for n in 0..10 {
        client
            .produce_ok("t", 0, idempotent(7, n, &[&format!("kept {n}")]))
            .await;
    }
    until_end(&west, "t", 10).await;
    drop(carried);
    for n in 10..15 {
        client
            .produce_ok("t", 0, idempotent(7, n, &[&format!("lost {n}")]))
            .await;
    }
    client.produce_ok("t", 0, batch(&["lost for good"])).await;
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut moved = Client::connect(west.handle.kafka).await;
    // The producer's window was lost with the home: it is told to come again, then taken.
    let resent = moved
        .produce_ok("t", 0, idempotent(7, 13, &["lost 13", "lost 14"]))
        .await;
    assert_eq!(resent, 10);
    moved.produce_ok("t", 0, batch(&["new"])).await;
    let east = fleet.broker(1, EAST).await;
    eventually("a follower", async || {
        east.partition("t", 0)
            .await
            .filter(|p| p["role"] == "follower" && p["durable_end"] == 16)
    })
    .await;
    let back = mirror(&fleet, &west, &east).await;
    let orphan = eventually("the orphan tail", async || {
        east.status().await["orphans"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(
        (
            &orphan["from_offset"],
            &orphan["to_offset"],
            &orphan["records"]
        ),
        (&10.into(), &16.into(), &6.into())
    );
    until_end(&east, "t", 13).await;
    let wanted = records_in(WEST, &west, "t").await;
    eventually("both the same", async || {
        (records_in(EAST, &east, "t").await == wanted).then_some(())
    })
    .await;
    let orphan = east.status().await["orphans"][0].clone();
    assert_eq!(orphan["also_in_new"], 2, "{orphan}");
    assert_eq!(
        orphan["also_in_new"].as_u64().unwrap()
            + orphan["acked_and_lost"].as_u64().unwrap()
            + orphan["unknown"].as_u64().unwrap(),
        6
    );
    assert!(std::path::Path::new(orphan["object"].as_str().unwrap()).is_dir());
    drop(back);
    east.stop().await;
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_is_saved_and_replaced_also_when_the_new_home_has_trimmed_the_point_where_they_part()
{
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(&fleet, &east, &west).await;
    for n in 0..10 {
        client
            .produce_ok("t", 0, batch(&[&format!("kept {n}")]))
            .await;
    }
    until_end(&west, "t", 10).await;
    drop(carried);
    for n in 10..20 {
        client
            .produce_ok("t", 0, batch(&[&format!("lost {n}")]))
            .await;
    }
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut moved = Client::connect(west.handle.kafka).await;
    for n in 10..16 {
        moved
            .produce_ok("t", 0, batch(&[&format!("new {n}")]))
            .await;
    }
    assert_eq!(moved.delete_records("t", 0, 14).await, ErrorCode::NONE);
    let east = fleet.broker(1, EAST).await;
    eventually("a follower", async || {
        east.partition("t", 0)
            .await
            .filter(|p| p["role"] == "follower" && p["durable_end"] == 20)
    })
    .await;
    let back = mirror(&fleet, &west, &east).await;
    let orphan = eventually("the orphan tail", async || {
        east.status().await["orphans"].as_array()?.first().cloned()
    })
    .await;
    assert!(orphan["from_offset"].as_i64().unwrap() <= 10, "{orphan}");
    assert_eq!(orphan["to_offset"], 20, "{orphan}");
    until_end(&east, "t", 16).await;
    let mut reader = Client::connect(west.handle.kafka).await;
    assert_eq!(reader.consume("t", 0, 14).await, ["new 14", "new 15"]);
    eventually("both the same", async || {
        let mut ends = Vec::new();
        for broker in [&east, &west] {
            let placed = broker.partition("t", 0).await?;
            ends.push((placed["log_start"].clone(), placed["durable_end"].clone()));
        }
        (ends[0] == ends[1]).then_some(())
    })
    .await;
    drop(back);
    east.stop().await;
    west.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_while_a_switchover_runs_is_missing_afterwards() {
    let fleet = Fleet::start().await;
    let (east, west) = (fleet.broker(1, EAST).await, fleet.broker(2, WEST).await);
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let carried = mirror(&fleet, &east, &west).await;
    client.produce_ok("t", 0, batch(&["first"])).await;
    until_end(&west, "t", 1).await;
    let brokers = [east.handle.kafka, west.handle.kafka];
    let writing = async {
        let mut acked = Vec::new();
        let mut clients = [
            Client::connect(brokers[0]).await,
            Client::connect(brokers[1]).await,
        ];
        let mut at = 0;
        for n in 0..400 {
            let value = format!("v{n}");
            eventually("an ack", async || {
                let answer = clients[at].produce("t", 0, batch(&[&value])).await;
                if answer.error_code.is_none() {
                    return Some(());
                }
                at = 1 - at;
                None
            })
            .await;
            acked.push(value);
        }
        acked
    };
    let moving = apply(&fleet, WEST, MoveMode::Switchover, AcceptLoss::None);
    let (acked, _) = tokio::join!(writing, moving);
    drop(carried);
    let mut reader = Client::connect(west.handle.kafka).await;
    let found = reader.consume("t", 0, 0).await;
    let missing: Vec<_> = acked
        .iter()
        .filter(|value| !found.contains(value))
        .collect();
    assert_eq!(missing, [""; 0], "acknowledged and missing");
    east.stop().await;
    west.stop().await;
}
