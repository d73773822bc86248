//! Where a log begins, whatever happens to what is local: once its disk has lost it it is told to nobody before the
//! bucket has said it again, and a cut below the local log leaves it where it was.

use std::sync::atomic::Ordering;

use whimbrel_broker::Options;
use whimbrel_fleet::{AcceptLoss, MoveMode, TopicPartition};
use whimbrel_rpc::proto::node::{
    LogStartProposal, LogStartReply, LogState, LogsRequest, PartitionId,
    broker_client::BrokerClient,
};

use crate::{
    client::{Client, batch},
    cold_lookups::{FREED_EARLY, local_start, produce},
    daemon::Daemon,
    fleet::{Broker, EAST, Fleet, WEST, eventually},
    moves::{apply, mirror, until_end},
};

async fn said(broker: &Broker, at: &PartitionId) -> (LogStartReply, LogState) {
    let address = format!("http://{}", broker.handle.rpc);
    let mut rpc = BrokerClient::connect(address).await.unwrap();
    let proposal = LogStartProposal {
        at: Some(at.clone()),
        log_start: 0,
        reason: "retention".to_owned(),
    };
    let reply = rpc.propose_log_start(proposal).await.unwrap().into_inner();
    let asked = LogsRequest {
        at: vec![at.clone()],
        cleaned: false,
    };
    let mut logs = rpc.logs(asked).await.unwrap().into_inner().logs;
    (reply, logs.remove(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_log_start_is_told_to_nobody_and_learnt_from_the_bucket() {
    let fleet = Fleet::start().await;
    let daemon = Daemon::start(fleet.dir.path().join("kept")).await;
    daemon.thawed.store(true, Ordering::SeqCst);
    let options = Options {
        tiering: Some(daemon.address.clone()),
        ..fleet.options(1, EAST)
    };
    let data_dir = options.data_dir.clone();
    let broker = fleet.try_broker(options.clone()).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &FREED_EARLY).await;
    produce(&mut client).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    let local_start = local_start(&broker, 0).await;
    let at: PartitionId = TopicPartition::new(fleet.view().topics["t"].id, 0).into();
    let (reply, log) = said(&broker, &at).await;
    assert!(reply.stands && reply.log_start == 0, "{reply:?}");
    assert!(log.log_start_stands && !log.log_start_lost, "{log:?}");
    broker.stop().await;

    std::fs::write(data_dir.join("durable-points"), "junk").unwrap();
    daemon.away.store(true, Ordering::SeqCst);
    let broker = fleet.try_broker(options).await.unwrap();
    eventually("a leader", async || {
        let partition = broker.partition("t", 0).await?;
        (partition["role"] == "leader").then_some(())
    })
    .await;
    let (reply, log) = said(&broker, &at).await;
    assert!(!reply.stands, "{reply:?}");
    assert!(log.log_start_lost && !log.log_start_stands, "{log:?}");
    assert_eq!(log.local_log_start, local_start);

    daemon.away.store(false, Ordering::SeqCst);
    let reply = eventually("the bucket's word", async || {
        let (reply, _) = said(&broker, &at).await;
        reply.stands.then_some(reply)
    })
    .await;
    assert_eq!(reply.log_start, 0);
    let mut client = Client::connect(broker.handle.kafka).await;
    assert_eq!(client.offset_at("t", 0, -2).await.offset, 0);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_that_returns_is_cut_below_its_local_log_and_begins_where_it_did() {
    let fleet = Fleet::start().await;
    let daemon = Daemon::start(fleet.dir.path().join("kept")).await;
    daemon.thawed.store(true, Ordering::SeqCst);
    daemon.takes_tails.store(true, Ordering::SeqCst);
    let options = Options {
        tiering: Some(daemon.address.clone()),
        ..fleet.options(1, EAST)
    };
    let data_dir = options.data_dir.clone();
    let east = fleet.try_broker(options.clone()).await.unwrap();
    let west = fleet.broker(2, WEST).await;
    let mut client = Client::connect(east.handle.kafka).await;
    client.create_topic("t", 1, &FREED_EARLY).await;
    let carried = mirror(&fleet, &east, &west).await;
    let text = "x".repeat(200);
    for _ in 0..10 {
        client.produce_ok("t", 0, batch(&[&text])).await;
    }
    until_end(&west, "t", 10).await;
    drop(carried);
    produce(&mut client).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", east.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    // Beyond the other region's end.
    local_start(&east, 10).await;
    east.kill().await;
    apply(&fleet, WEST, MoveMode::Failover, AcceptLoss::Unknown).await;
    let mut moved = Client::connect(west.handle.kafka).await;
    for _ in 0..3 {
        moved.produce_ok("t", 0, batch(&["new"])).await;
    }
    let east = fleet.try_broker(options).await.unwrap();
    eventually("a follower", async || {
        east.partition("t", 0)
            .await
            .filter(|p| p["role"] == "follower" && p["durable_end"] == 30)
    })
    .await;
    let back = mirror(&fleet, &west, &east).await;
    until_end(&east, "t", 13).await;
    let cut = daemon.cuts.lock().unwrap().remove(0);
    assert_eq!((cut.offset, cut.tail_epoch), (10, Some(cut.epoch)));
    let partition = east.partition("t", 0).await.unwrap();
    assert_eq!(partition["local_log_start"], 10, "{partition}");
    assert_eq!(partition["log_start"], 0, "the bucket has what is below");
    let at: PartitionId = TopicPartition::new(fleet.view().topics["t"].id, 0).into();
    let (reply, _) = said(&east, &at).await;
    assert!(!reply.stands || reply.log_start == 0, "{reply:?}");
    drop(back);
    east.stop().await;
    west.stop().await;
}
