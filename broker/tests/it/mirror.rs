//! The smallest mirror: carries frames from one source broker to one sink broker.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use whimbrel_fleet::{HostPort, RegionEpoch, RegionName, TopicPartition};
use whimbrel_rpc::replica::{
    Batches, FromSink, FromSource, Hello, Purpose, Sink, Source, StopReason, ToSink, ToSource,
    connect_sink, connect_source,
};
use whimbrel_runtime::{Clock, Shutdown, Tasks, random};
use whimbrel_wire::Batches as Parsed;

/// Where it stops carrying partitions, as if it had been cut off there.
pub type Ends = HashMap<TopicPartition, i64>;

/// Ends when it is dropped.
pub struct Mirror {
    tasks: Tasks,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.tasks.shutdown().request();
    }
}

impl Mirror {
    pub async fn start(
        source: SocketAddr,
        sink: SocketAddr,
        fleet_id: &str,
        region: RegionName,
        epoch: RegionEpoch,
    ) -> Self {
        Self::start_until(source, sink, fleet_id, region, epoch, Ends::new()).await
    }

    pub async fn start_until(
        source: SocketAddr,
        sink: SocketAddr,
        fleet_id: &str,
        region: RegionName,
        epoch: RegionEpoch,
        ends: Ends,
    ) -> Self {
        let hello = |purpose| Hello {
            purpose,
            fleet_id: fleet_id.into(),
            region: region.clone(),
            incarnation: random::uuid(),
        };
        let at = |address: SocketAddr| HostPort::new("127.0.0.1", address.port());
        let source = connect_source(&at(source), &hello(Purpose::Pull))
            .await
            .unwrap();
        let sink = connect_sink(&at(sink), &hello(Purpose::Push))
            .await
            .unwrap();
        let tasks = Tasks::new(Shutdown::new());
        let shutdown = tasks.shutdown();
        tasks.spawn_ok("mirror", async move {
            let _ = shutdown.unless(carry(source, sink, epoch, ends)).await;
        });
        Self { tasks }
    }
}

/// Leaves out what is at `end` or above.
fn cut(frame: &mut Batches, end: i64) {
    let all = frame.records.clone();
    let below = Parsed::new(all.clone())
        .map(Result::unwrap)
        .take_while(|batch| batch.header.base_offset < end)
        .map(|batch| batch.bytes.len());
    let bytes: usize = below.sum();
    frame.records = all.slice(..bytes);
}

async fn carry(
    mut source: Source,
    mut sink: Sink,
    region_epoch: RegionEpoch,
    ends: Ends,
) -> Option<()> {
    let mut lineages = HashMap::new();
    loop {
        tokio::select! {
            frame = sink.rx.recv() => match frame.ok()?? {
                FromSink::Positions(positions) => for p in positions {
                    lineages.insert(p.at, p.lineage.clone());
                    let end_offset = p.lineage.end_offset;
                    source.tx.send(ToSource::Subscribe { at: p.at, lineage: p.lineage }).await.ok()?;
                    source.tx.send(ToSource::Durable { at: p.at, end_offset }).await.ok()?;
                },
                FromSink::Truncated { at, lineage, .. } => {
                    lineages.insert(at, lineage.clone());
                    source.tx.send(ToSource::Subscribe { at, lineage }).await.ok()?;
                }
                FromSink::Credit { bytes } => source.tx.send(ToSource::Credit { bytes }).await.ok()?,
                FromSink::Durable { at, end_offset } => source.tx.send(ToSource::Durable { at, end_offset }).await.ok()?,
                FromSink::Gone(_) | FromSink::Refused { .. } => {}
            },
            frame = source.rx.recv() => match frame.ok()?? {
                FromSource::Batches(mut batches) => {
                    if let Some(end) = ends.get(&batches.at) {
                        cut(&mut batches, *end);
                    }
                    sink.tx.send(ToSink::Batches(batches)).await.ok()?
                }
                FromSource::Diverged { at, epoch, offset } => sink.tx.send(ToSink::Truncate { at, region_epoch, epoch, offset }).await.ok()?,
                // The source hears of a topic or a move later than the sink: asked again.
                FromSource::Stopped { at, reason: StopReason::NotLeader | StopReason::UnknownPartition } => {
                    Clock::system().sleep(Duration::from_millis(20)).await;
                    let lineage = lineages.get(&at)?.clone();
                    source.tx.send(ToSource::Subscribe { at, lineage }).await.ok()?;
                }
                FromSource::Stopped { .. } => {}
            },
        }
    }
}
