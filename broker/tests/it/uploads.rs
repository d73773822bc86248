use std::sync::atomic::Ordering;

use tonic::transport::Channel;
use whimbrel_rpc::proto::node::{
    Extent, ReleaseRequest, TieredReport, UploadableRequest, broker_client::BrokerClient,
};
use whimbrel_wire::{ErrorCode, messages::offset_commit};

use crate::{
    client::{Client, batch},
    daemon::Daemon,
    fleet::{Broker, Fleet, eventually},
    patient::Patient,
};

/// Tells the broker what a bucket is said to have of its one log with something in it, and asks for more.
async fn told(rpc: &mut BrokerClient<Channel>, extent: Extent) -> usize {
    let request = UploadableRequest {
        pending_only: true,
        ..UploadableRequest::default()
    };
    let pending = rpc.uploadable(request).await.unwrap().into_inner().pending;
    assert!(!pending.is_empty());
    let verified = pending.into_iter().map(|pending| Extent {
        at: pending.at,
        ..extent.clone()
    });
    let verified: Vec<_> = verified.collect();
    let tiered = verified.clone();
    rpc.tiered(TieredReport { verified }).await.unwrap();
    let request = UploadableRequest {
        tiered,
        max_slices: 100,
        ..UploadableRequest::default()
    };
    let reply = rpc.uploadable(request).await.unwrap().into_inner();
    assert!(!reply.pending.is_empty());
    let tokens = reply.slices.iter().map(|slice| slice.token).collect();
    rpc.release(ReleaseRequest { tokens }).await.unwrap();
    reply.slices.len()
}

/// A bucket that begins above the log, one of another lineage, and one that has the first record alone.
async fn what_another_log_left_frees_nothing(rpc: &mut BrokerClient<Channel>, broker: &Broker) {
    let partition = broker.partition("t", 0).await.unwrap();
    let epoch = partition["leader_epoch"].as_i64().unwrap();
    let epoch = i32::try_from(epoch).unwrap();
    for (start_offset, end_offset, end_epoch, differs, held) in [
        (10, 30, None, false, 0),
        (0, 30, Some(epoch + 1), true, 0),
        (0, 1, Some(epoch), false, 1),
    ] {
        let extent = Extent {
            start_offset,
            end_offset,
            end_epoch,
            ..Extent::default()
        };
        let slices = told(rpc, extent).await;
        assert_eq!(slices > 0, !differs, "{slices}");
        let told = broker.partition("t", 0).await.unwrap();
        assert_eq!(told["bucket_differs"], differs, "{told}");
        let ends = (&told["local_log_start"], &told["tiered_end"]);
        assert_eq!(ends, (&0.into(), &held.into()), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story from the upload to the cold read"
)]
async fn local_segments_go_only_once_verified_and_are_then_read_from_the_daemon() {
    let fleet = Fleet::start().await;
    let (daemon, broker, data_dir) = Daemon::beside_a_broker(&fleet).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client
        .create_topic(
            "t",
            1,
            &[
                ("segment.bytes", "1024"),
                ("local.retention.bytes", "1"),
                ("retention.ms", "-1"),
            ],
        )
        .await;
    client.create_topic("other", 1, &[]).await;
    let text = "x".repeat(200);
    for n in 0..40 {
        client
            .produce_ok("t", 0, batch(&[&format!("{n} {text}")]))
            .await;
    }
    client.produce_ok("other", 0, batch(&["hot"])).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    assert_eq!(
        broker.partition("t", 0).await.unwrap()["local_log_start"],
        0,
        "nothing is verified yet"
    );
    what_another_log_left_frees_nothing(&mut rpc, &broker).await;
    let uploaded = daemon.upload(&mut rpc, &data_dir).await;
    assert!(
        (30..40).contains(&uploaded),
        "{uploaded} records of closed segments"
    );
    let freed = eventually("freed segments", async || {
        broker
            .partition("t", 0)
            .await
            .filter(|p| p["local_log_start"].as_i64() > Some(20))
    })
    .await;
    assert_eq!(
        (&freed["log_start"], &freed["tiered_end"]),
        (&0.into(), &uploaded.into())
    );
    assert_eq!(daemon.pinned(&data_dir), 0, "released");
    // Not in the cache yet: empty, no error, and no delay for others.
    let pending = client.fetch("t", 0, 0, 100).await;
    assert_eq!(
        (pending.error_code, pending.records.unwrap().len()),
        (ErrorCode::NONE, 0)
    );
    assert_eq!(client.consume("other", 0, 0).await, ["hot"]);
    let waiting = broker.partition("t", 0).await.unwrap()["cold_wait"].clone();
    assert_eq!(
        (&waiting["offset"], &waiting["reason"]),
        (&0.into(), &"503 SlowDown".into())
    );
    // A daemon that does not even answer: a long poll ends, and one with something to tell ends at once.
    daemon.hung.store(true, Ordering::SeqCst);
    let deadline = std::time::Duration::from_secs(60);
    let both = async {
        for _ in 0..3 {
            assert_eq!(client.fetch("t", 0, 0, 300).await.records.unwrap().len(), 0);
            let hot = client.fetch_both(("t", 0), ("other", 0), 600_000).await;
            assert!(!hot.records.unwrap().is_empty());
        }
    };
    tokio::time::timeout(deadline, both).await.unwrap();
    let waiting = eventually("a reason", async || {
        let partition = broker.partition("t", 0).await?;
        let reason = partition["cold_wait"]["reason"].as_str()?.to_owned();
        reason.contains("does not answer").then_some(partition)
    })
    .await;
    assert!(waiting["cold_wait"]["asked"].as_i64() >= Some(3));
    daemon.hung.store(false, Ordering::SeqCst);
    daemon.thawed.store(true, Ordering::SeqCst);
    let all = client.consume("t", 0, 0).await;
    assert_eq!(
        all,
        (0..40).map(|n| format!("{n} {text}")).collect::<Vec<_>>()
    );
    assert_eq!(
        broker.partition("t", 0).await.unwrap()["cold_wait"],
        serde_json::Value::Null
    );
    assert_eq!(
        client.offset_at("t", 0, -4).await.offset,
        freed["local_log_start"].as_i64().unwrap()
    );
    assert_eq!(
        client.offset_at("t", 0, -5).await.offset,
        i64::try_from(uploaded).unwrap() - 1
    );
    assert_eq!(
        client.offset_at("t", 0, -6).await.offset,
        i64::try_from(uploaded).unwrap()
    );
    assert_eq!(
        client.offset_at("t", 0, 1_000).await.offset,
        3,
        "by time, from the daemon"
    );
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_segment_goes_up_in_its_time_and_the_next_slice_begins_where_it_ended() {
    let fleet = Fleet::start().await;
    let (daemon, broker, data_dir) = Daemon::beside_a_broker(&fleet).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    let within = ("whimbrel.upload.within.ms", "1");
    client
        .create_topic("t", 1, &[("segment.bytes", "1024"), within])
        .await;
    client.create_topic("patient", 1, &[]).await;
    client.create_topic("large", 1, &[within]).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    client.produce_ok("patient", 0, batch(&["hot"])).await;
    client
        .produce_ok("large", 0, batch(&[&"x".repeat(400_000)]))
        .await;
    let (text, mut uploaded) = ("x".repeat(200), 0);
    for n in 1..=12 {
        for _ in 0..n % 4 {
            client.produce_ok("t", 0, batch(&[&text])).await;
        }
        uploaded += daemon.upload(&mut rpc, &data_dir).await;
    }
    assert_eq!(uploaded, 3 * 6 + 1, "all of both, nothing of the third");
    assert_eq!(daemon.pinned(&data_dir), 0);
    let ranges = daemon.ranges();
    assert_eq!(ranges.len(), 2);
    let of_t = ranges.iter().max_by_key(|r| r.len()).unwrap();
    assert!(of_t.len() >= 9 && of_t[0].0 == 0 && of_t[of_t.len() - 1].1 == 18);
    assert!(of_t.is_sorted_by(|a, b| a.1 == b.0), "{of_t:?}");
}

/// Where the group `g` is in the topic `t`.
fn position(offset: i64) -> offset_commit::Request {
    let partition = offset_commit::OffsetCommitRequestPartition {
        committed_offset: offset,
        ..offset_commit::OffsetCommitRequestPartition::default()
    };
    let topic = offset_commit::OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
        ..offset_commit::OffsetCommitRequestTopic::default()
    };
    offset_commit::Request {
        group_id: "g".into(),
        topics: vec![topic],
        ..offset_commit::Request::default()
    }
}

/// A restore goes back to a cut below which positions and transactions are there, too.
#[tokio::test(flavor = "multi_thread")]
async fn positions_go_up_no_later_than_the_soonest_of_the_records_that_they_count() {
    let fleet = Fleet::start().await;
    let (daemon, broker, data_dir) = Daemon::beside_a_broker(&fleet).await;
    let mut client = Client::connect(broker.handle.kafka).await;
    client.create_topic("t", 1, &[]).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    let code = |answer: &offset_commit::Response| answer.topics[0].partitions[0].error_code;
    let mut patient = Patient::new(broker.handle.kafka);
    let answer = patient.settled(7, &position(5), code).await;
    assert_eq!(code(&answer), ErrorCode::NONE);
    // Nobody bounds anything: not before an hour.
    assert_eq!(daemon.upload(&mut rpc, &data_dir).await, 0);
    let within = ("whimbrel.upload.within.ms", "1");
    client.create_topic("bound", 1, &[within]).await;
    let (mut uploaded, mut expected) = (0, 1);
    eventually("the position in the bucket", async || {
        uploaded += daemon.upload(&mut rpc, &data_dir).await;
        (uploaded == expected).then_some(())
    })
    .await;
    let answer = patient.settled(7, &position(6), code).await;
    assert_eq!(code(&answer), ErrorCode::NONE);
    expected += 1;
    eventually("the next one", async || {
        uploaded += daemon.upload(&mut rpc, &data_dir).await;
        (uploaded == expected).then_some(())
    })
    .await;
    assert_eq!(daemon.ranges(), [[(0, 1), (1, 2)]]);
    broker.stop().await;
}
