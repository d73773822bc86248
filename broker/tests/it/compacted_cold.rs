//! What compaction has left of a log goes to the bucket at once, and is read back across its gaps.

use std::sync::atomic::Ordering;

use whimbrel_broker::{CleanerOptions, Options};
use whimbrel_rpc::proto::node::{CleanedRequest, LogsRequest, broker_client::BrokerClient};
use whimbrel_runtime::unit::Span;
use whimbrel_wire::{Batches, ErrorCode, messages::incremental_alter_configs as incremental};

use crate::{
    client::Client,
    compaction::{all, answer, write_sixty},
    daemon::Daemon,
    fleet::{EAST, Fleet, eventually},
};

const TOPIC: i8 = 2;

async fn set(client: &mut Client, topic: &str, name: &str, value: &str) {
    let config = incremental::AlterableConfig {
        name: name.into(),
        config_operation: 0,
        value: Some(value.into()),
    };
    let resource = incremental::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: topic.into(),
        configs: vec![config],
    };
    let request = incremental::Request {
        resources: vec![resource],
        validate_only: false,
    };
    let done = client.call(1, request).await.responses.remove(0);
    assert_eq!(done.error_code, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread")]
#[expect(
    clippy::too_many_lines,
    reason = "one story from the cleaning to the cold read"
)]
async fn what_compaction_left_is_handed_out_whole_and_read_back_across_its_gaps() {
    let fleet = Fleet::start().await;
    let daemon = Daemon::start(fleet.dir.path().join("kept")).await;
    let options = Options {
        tiering: Some(daemon.address.clone()),
        cleaner: CleanerOptions {
            backoff: Span::millis(20),
            ..CleanerOptions::default()
        },
        ..fleet.options(1, EAST)
    };
    let data_dir = options.data_dir.clone();
    let broker = fleet.try_broker(options).await.unwrap();
    let mut client = Client::connect(broker.handle.kafka).await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("local.retention.bytes", "1"),
        ("retention.ms", "-1"),
    ];
    assert_eq!(client.create_topic("t", 1, &configs).await, ErrorCode::NONE);
    write_sixty(&mut client, fleet.clock.wall_ms()).await;
    let mut rpc = BrokerClient::connect(format!("http://{}", broker.handle.rpc))
        .await
        .unwrap();
    let mut uploaded = 0;
    eventually("an upload of all closed segments", async || {
        let records = daemon.upload(&mut rpc, &data_dir).await;
        uploaded += i64::try_from(records).unwrap();
        (uploaded >= 40).then_some(())
    })
    .await;
    let at = daemon.partitions().remove(0);
    let segments = eventually("a cleaning of all that is in the bucket", async || {
        let asked = LogsRequest {
            at: vec![at.into()],
            cleaned: true,
        };
        let mut logs = rpc.clone().logs(asked).await.unwrap().into_inner().logs;
        let cleaned = logs.remove(0).cleaned;
        let end = cleaned.last().map(|s| s.end_offset);
        (end == Some(uploaded)).then_some(cleaned)
    })
    .await;
    let left = all(&mut client, "t").await;
    assert!(left.len() < 30, "{} records are left", left.len());
    let whole = CleanedRequest {
        at: Some(at.into()),
        base_offset: 0,
        end_offset: uploaded,
    };
    let inside = segments[0].end_offset - 1;
    for bad in [
        CleanedRequest {
            at: None,
            ..whole.clone()
        },
        CleanedRequest {
            base_offset: uploaded,
            ..whole.clone()
        },
        CleanedRequest {
            base_offset: i64::MAX,
            ..whole.clone()
        },
        CleanedRequest {
            end_offset: inside,
            ..whole.clone()
        },
        CleanedRequest {
            end_offset: i64::MIN,
            ..whole.clone()
        },
    ] {
        assert!(rpc.cleaned(bad.clone()).await.is_err(), "{bad:?}");
    }
    assert_eq!(daemon.pinned(&data_dir), 0);
    let slices = eventually("slices", async || {
        let handed = rpc.clone().cleaned(whole.clone()).await.ok()?;
        Some(handed.into_inner().slices)
    })
    .await;
    assert!(rpc.cleaned(whole).await.is_err(), "it is out already");
    let bases: Vec<_> = slices.iter().map(|s| s.base_offset).collect();
    let ends: Vec<_> = slices.iter().map(|s| s.end_offset).collect();
    assert_eq!((bases[0], *ends.last().unwrap()), (0, uploaded));
    assert_eq!(bases[1..], ends[..ends.len() - 1]);
    assert!(slices[0].sparse && slices.iter().all(|s| s.token == slices[0].token));
    daemon.replace(&mut rpc, slices, &data_dir).await;
    assert_eq!(daemon.pinned(&data_dir), 0, "released");
    // Compacted logs stay whole on the disk; one that is compacted no more does not.
    let partition = broker.partition("t", 0).await.unwrap();
    assert_eq!(partition["local_log_start"], 0);
    set(&mut client, "t", "cleanup.policy", "delete").await;
    eventually("freed segments", async || {
        let partition = broker.partition("t", 0).await?;
        (partition["local_log_start"].as_i64() > Some(20)).then_some(())
    })
    .await;
    daemon.thawed.store(true, Ordering::SeqCst);
    assert_eq!(all(&mut client, "t").await, left);
    // An offset that nothing is left of is answered with what comes next.
    for offset in 0..60 {
        let expected = left.iter().map(|(at, ..)| *at).find(|at| *at >= offset);
        let found = eventually("records", async || {
            let data = answer(&mut client, "t", offset).await?;
            let first = Batches::new(data.records.unwrap()).next()?;
            Some(first.unwrap().header.last_offset())
        })
        .await;
        assert_eq!(Some(found), expected, "from {offset}");
    }
    broker.stop().await;
}
