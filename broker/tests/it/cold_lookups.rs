//! What is asked of a log whose beginning is only in the bucket: epochs and special offsets.

use std::sync::atomic::Ordering;

use whimbrel_broker::Options;
use whimbrel_rpc::proto::node::broker_client::BrokerClient;
use whimbrel_wire::{
    ErrorCode,
    messages::{list_offsets, offset_for_leader_epoch as epochs},
};

use crate::{
    client::{Client, batch},
    daemon::Daemon,
    fleet::{Broker, EAST, Fleet, eventually},
};

/// Where an epoch ended, by the broker that leads.
async fn end_of(client: &mut Client, leader_epoch: i32) -> (ErrorCode, i32, i64) {
    let partition = epochs::OffsetForLeaderPartition {
        partition: 0,
        leader_epoch,
        ..epochs::OffsetForLeaderPartition::default()
    };
    let topic = epochs::OffsetForLeaderTopic {
        topic: "t".into(),
        partitions: vec![partition],
    };
    let request = epochs::Request {
        topics: vec![topic],
        ..epochs::Request::default()
    };
    let answer = client.call(4, request).await;
    let end = &answer.topics[0].partitions[0];
    (end.error_code, end.leader_epoch, end.end_offset)
}

/// What is uploaded is freed, and nothing is deleted.
pub const FREED_EARLY: [(&str, &str); 3] = [
    ("segment.bytes", "1024"),
    ("local.retention.bytes", "1"),
    ("retention.ms", "-1"),
];

/// Where an epoch ended, by a broker that may still be on its way to lead.
async fn end_at_a_leader(client: &mut Client, leader_epoch: i32) -> (ErrorCode, i32, i64) {
    eventually("a leader", async || {
        let found = end_of(client, leader_epoch).await;
        (found.0 != ErrorCode::NOT_LEADER_OR_FOLLOWER).then_some(found)
    })
    .await
}

/// Twenty records, some segments of them.
pub async fn produce(client: &mut Client) {
    let text = "x".repeat(200);
    for _ in 0..20 {
        client.produce_ok("t", 0, batch(&[&text])).await;
    }
}

pub async fn local_start(broker: &Broker, above: i64) -> i64 {
    eventually("freed segments", async || {
        let partition = broker.partition("t", 0).await?;
        partition["local_log_start"]
            .as_i64()
            .filter(|start| *start > above)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_below_the_local_log_are_known_even_if_its_checkpoint_is_lost() {
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
    // Every start is an epoch of its own.
    produce(&mut client).await;
    let (_, first, _) = end_at_a_leader(&mut client, i32::MAX).await;
    broker.stop().await;
    let broker = fleet.try_broker(options.clone()).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    produce(&mut client).await;
    let (_, second, _) = end_at_a_leader(&mut client, i32::MAX).await;
    assert!(second > first);
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    let start = local_start(&broker, 25).await;
    let known = (ErrorCode::NONE, first, 20);
    assert_eq!(end_at_a_leader(&mut client, first).await, known);
    assert_eq!(client.offset_at("t", 0, -4).await.offset, start);
    let tiered = client.offset_at("t", 0, -5).await.offset;
    broker.stop().await;
    let folder = data_dir.join("t-0");
    std::fs::remove_file(folder.join("leader-epoch-checkpoint")).unwrap();
    let broker = fleet.try_broker(options.clone()).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let found = end_at_a_leader(&mut client, first).await;
    assert_eq!(found, known, "as the bucket knows it");
    // The daemon has not told what it holds; what is not here any more is there.
    assert_eq!(client.offset_at("t", 0, -4).await.offset, start);
    let told = client.offset_at("t", 0, -5).await.offset;
    assert!((start - 1..=tiered).contains(&told), "{told} of {tiered}");
    assert_eq!(end_at_a_leader(&mut client, second).await.1, second);
    a_flipped_bit_is_not_told(&fleet, &daemon, broker, &options, (first, second)).await;
}

/// The bucket tells again what no checksum proves any more; before it has, nothing is said.
async fn a_flipped_bit_is_not_told(
    fleet: &Fleet,
    daemon: &Daemon,
    broker: Broker,
    options: &Options,
    (first, second): (i32, i32),
) {
    let learnt = async |broker: &Broker| {
        eventually("the bucket's lineage", async || {
            let partition = broker.partition("t", 0).await?;
            (partition["role"] == "leader" && partition["lineage_known_from"].is_null())
                .then_some(())
        })
        .await;
    };
    learnt(&broker).await;
    broker.stop().await;
    let path = options.data_dir.join("t-0/leader-epoch-checkpoint");
    let text = std::fs::read_to_string(&path).unwrap();
    let bad = text.replace(&format!("{second} 20\n"), &format!("{second} 24\n"));
    assert_ne!(text, bad);
    std::fs::write(path, bad).unwrap();
    daemon.away.store(true, Ordering::SeqCst);
    let broker = fleet.try_broker(options.clone()).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let found = end_at_a_leader(&mut client, first).await;
    assert_eq!(found.0, ErrorCode::OFFSET_NOT_AVAILABLE, "{found:?}");
    daemon.away.store(false, Ordering::SeqCst);
    learnt(&broker).await;
    daemon.away.store(true, Ordering::SeqCst);
    assert_eq!(
        end_at_a_leader(&mut client, first).await,
        (ErrorCode::NONE, first, 20)
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_stalls_holds_up_a_lookup_once_and_not_for_every_partition() {
    const PARTITIONS: i32 = 8;
    let fleet = Fleet::start().await;
    let (daemon, broker, data_dir) = Daemon::beside_a_broker(&fleet).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let settings = [
        ("segment.bytes", "1024"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
    ];
    client.create_topic("t", PARTITIONS, &settings).await;
    let text = "x".repeat(600);
    for partition in 0..PARTITIONS {
        for _ in 0..4 {
            client.produce_ok("t", partition, batch(&[&text])).await;
        }
    }
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    daemon.upload(&mut rpc, &data_dir).await;
    for partition in 0..PARTITIONS {
        eventually("freed segments", async || {
            let found = broker.partition("t", partition.into()).await?;
            (found["local_log_start"].as_i64() > Some(0)).then_some(())
        })
        .await;
    }
    daemon.hung.store(true, Ordering::SeqCst);
    let partitions = (0..PARTITIONS).map(|partition_index| list_offsets::ListOffsetsPartition {
        partition_index,
        timestamp: 1_000,
        ..list_offsets::ListOffsetsPartition::default()
    });
    let request = list_offsets::Request {
        replica_id: -1,
        topics: vec![list_offsets::ListOffsetsTopic {
            name: "t".into(),
            partitions: partitions.collect(),
        }],
        ..list_offsets::Request::default()
    };
    // One partition after the other would take longer than this.
    let patience = std::time::Duration::from_secs(60);
    let asked = tokio::time::timeout(patience, client.call(11, request));
    let answer = asked.await.expect("an answer in time");
    let codes = answer.topics[0].partitions.iter().map(|p| p.error_code);
    assert!(codes.eq([ErrorCode::LEADER_NOT_AVAILABLE; PARTITIONS as usize]));
    broker.stop().await;
}
