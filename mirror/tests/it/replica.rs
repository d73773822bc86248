//! The replica flow over TCP, between a source and a sink that speak the stream's protocol.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch};
use uuid::Uuid;
use whimbrel_fleet::{
    FailoverGroup, GroupName, HostPort, LeaderEpoch, Lineage, Node, NodeId, Partition, RegionEpoch,
    Topic, TopicPartition, View,
};
use whimbrel_mirror::replica::Region;
use whimbrel_rpc::replica::{
    Accepted, Batches, FromSink, FromSource, SinkPosition, SinkServer, SourceServer, ToSink,
    ToSource, accept,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_wire::{BatchBuilder, BatchHeader};

const WINDOW: u64 = 4 << 20;

fn at() -> TopicPartition {
    TopicPartition::new(Uuid::from_u128(1), 0)
}

fn batch(base: i64, records: i64) -> Bytes {
    let mut builder = BatchBuilder::new(base).leader_epoch(1);
    for n in 0..records {
        builder.add(n, None, Some(&[b'x'; 1_000]), &[]).unwrap();
    }
    builder.finish().unwrap()
}

fn view(source: &HostPort, sink: &HostPort) -> View {
    let mut view = View {
        version: 1,
        fleet_id: "fleet".into(),
        ..View::default()
    };
    for (id, region, replica) in [(1, "east", source), (2, "west", sink)] {
        let node = Node {
            id: NodeId(id),
            region: region.into(),
            rack: None,
            incarnation: Uuid::nil(),
            kafka: replica.clone(),
            replica: replica.clone(),
            rpc: replica.clone(),
            admin: replica.clone(),
        };
        view.nodes.insert(node.id, node);
    }
    let group = FailoverGroup::new(GroupName::default_group(), "east".into());
    view.groups.insert(group.name.clone(), group);
    let partition = Partition {
        leader: Some(NodeId(1)),
        leader_epoch: LeaderEpoch(1),
        replicas: BTreeMap::from([
            ("east".into(), vec![NodeId(1)]),
            ("west".into(), vec![NodeId(2)]),
        ]),
        isr: vec![NodeId(1)],
        ..Partition::default()
    };
    let topic = Topic {
        name: "t".into(),
        id: at().topic_id,
        group: GroupName::default_group(),
        partitions: vec![partition],
        configs: BTreeMap::new(),
        replication_factor: 1,
        internal: false,
    };
    view.topics.insert("t".into(), topic);
    view
}

/// Serves `batches` within its credit; cuts the stream after every `cut_after` of them.
async fn source(mut stream: SourceServer, batches: Arc<Vec<Bytes>>, cut_after: usize) {
    let (mut credit, mut next, mut sent) = (0_u64, None::<i64>, 0);
    loop {
        let due = next.and_then(|n| batches.iter().find(|b| base(b) >= n));
        match due.filter(|b| b.len() as u64 <= credit) {
            Some(batch) => {
                if sent == cut_after {
                    return;
                }
                sent += 1;
                credit -= batch.len() as u64;
                next = Some(end(batch));
                let end_offset = batches.last().map_or(0, end);
                let frame = FromSource::Batches(Batches {
                    at: at(),
                    region_epoch: RegionEpoch(1),
                    leader_epoch: 1,
                    log_start: 0,
                    log_end: end_offset,
                    log_bytes: 0,
                    high_watermark: end_offset,
                    last_stable_offset: end_offset,
                    held_end: end_offset,
                    source_clock_ms: 0,
                    next_append_time_ms: -1,
                    records: batch.clone(),
                });
                if stream.tx.send(frame).await.is_err() {
                    return;
                }
            }
            None => match stream.rx.recv().await {
                Ok(Some(ToSource::Credit { bytes })) => credit += bytes,
                Ok(Some(ToSource::Subscribe { lineage, .. })) => next = Some(lineage.end_offset),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return,
            },
        }
    }
}

fn base(batch: &Bytes) -> i64 {
    BatchHeader::parse(batch).unwrap().base_offset
}

fn end(batch: &Bytes) -> i64 {
    BatchHeader::parse(batch).unwrap().next_offset()
}

type Log = Arc<Mutex<Vec<Bytes>>>;

fn lineage(log: &Log) -> Lineage {
    let log = log.lock();
    Lineage {
        epochs: log
            .first()
            .map(|_| whimbrel_fleet::EpochStart {
                epoch: 1,
                start_offset: 0,
            })
            .into_iter()
            .collect(),
        end_offset: log.last().map_or(0, end),
    }
}

async fn sink(mut stream: SinkServer, log: Log) {
    let position = SinkPosition {
        at: at(),
        lineage: lineage(&log),
        log_bytes: 0,
    };
    let hello = [
        FromSink::Credit { bytes: WINDOW },
        FromSink::Positions(vec![position]),
    ];
    for frame in hello {
        if stream.tx.send(frame).await.is_err() {
            return;
        }
    }
    while let Ok(Some(frame)) = stream.rx.recv().await {
        let ToSink::Batches(frame) = frame else {
            continue;
        };
        let bytes = frame.records.len() as u64;
        if bytes > 0 {
            assert_eq!(
                base(&frame.records),
                log.lock().last().map_or(0, end),
                "order"
            );
            log.lock().push(frame.records);
        }
        let end_offset = log.lock().last().map_or(0, end);
        let durable = FromSink::Durable {
            at: at(),
            end_offset,
        };
        if stream.tx.send(durable).await.is_err()
            || stream.tx.send(FromSink::Credit { bytes }).await.is_err()
        {
            return;
        }
    }
}

async fn listen() -> (TcpListener, HostPort) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, HostPort::new("127.0.0.1", port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_arrive_unchanged_and_once_although_the_source_keeps_cutting() {
    let batches: Arc<Vec<_>> = Arc::new((0..200).map(|n| batch(n * 100, 100)).collect());
    let log: Log = Arc::default();
    let tasks = Tasks::new(Shutdown::new());
    let (source_listener, source_at) = listen().await;
    let (sink_listener, sink_at) = listen().await;
    for listener in [source_listener, sink_listener] {
        let (batches, log, inner) = (Arc::clone(&batches), Arc::clone(&log), tasks.clone());
        tasks.spawn_ok("accept", async move {
            while let Some(Ok((stream, _))) = inner.shutdown().unless(listener.accept()).await {
                match accept(stream, "fleet").await {
                    Ok(Accepted::Source(_, stream)) => {
                        inner.spawn_ok("source", source(stream, Arc::clone(&batches), 60))
                    }
                    Ok(Accepted::Sink(_, stream)) => {
                        inner.spawn_ok("sink", sink(stream, Arc::clone(&log)))
                    }
                    Err(_) => {}
                }
            }
        });
    }
    let clock = Clock::system();
    let (_keep, view) = watch::channel(Arc::new(view(&source_at, &sink_at)));
    let region = Region::start(
        "west".into(),
        Uuid::nil(),
        1 << 20,
        view,
        &tasks,
        clock.clone(),
    );
    let all = clock.within(Duration::from_secs(30), async {
        while log.lock().len() < batches.len() {
            clock.sleep(Duration::from_millis(10)).await;
        }
    });
    all.await.unwrap();
    assert_eq!(*log.lock(), *batches);
    let status = region.status();
    let partition = &status[&GroupName::default_group()][0];
    assert_eq!(
        (partition.topic.as_str(), partition.source_end),
        ("t", Some(20_000))
    );
    drop(log);
    tasks.stop(Duration::from_millis(500)).await;
}
