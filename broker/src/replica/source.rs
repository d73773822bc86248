//! The source's end of a replica stream: pushes what is fsynced and covered, within the follower's credit,
//! in turn among its partitions.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use whimbrel_fleet::{Lineage, NodeId, TopicPartition};
use whimbrel_rpc::replica::{FromSource, Hello, SourceServer, StopReason, StreamError, ToSource};

use super::{
    SEND, read_ahead,
    subscription::{Step, Subscription},
};
use crate::{
    broker::Broker,
    catalog::Catalog,
    cold::ColdRead,
    partition::{Feed, Partition, Role},
};

/// Progress is looked after this often when nothing is written.
const TICK: Duration = Duration::from_millis(250);
/// Records asked of the tiering daemon at a time.
const COLD_BYTES: usize = 4 << 20;
const COLD_WAIT: Duration = Duration::from_secs(5);

struct Stream {
    broker: Arc<Broker>,
    hello: Hello,
    /// The broker of this region that follows; `None` for a mirror.
    follower: Option<NodeId>,
    /// Held as long as this stream feeds anybody.
    alive: Arc<()>,
    server: Box<dyn whimbrel_rpc::replica::FrameTx<FromSource>>,
    subscriptions: HashMap<TopicPartition, Subscription>,
    order: Vec<TopicPartition>,
    turn: usize,
    credit: u64,
    cold: FuturesUnordered<BoxFuture<'static, (TopicPartition, ColdRead)>>,
}

pub async fn serve(
    broker: &Arc<Broker>,
    hello: &Hello,
    server: SourceServer,
) -> Result<(), StreamError> {
    let mut frames = read_ahead(broker, "replica source", server.rx);
    let mut stream = Stream {
        broker: Arc::clone(broker),
        hello: hello.clone(),
        follower: None,
        alive: Arc::default(),
        server: server.tx,
        subscriptions: HashMap::new(),
        order: Vec::new(),
        turn: 0,
        credit: 0,
        cold: FuturesUnordered::new(),
    };
    let (mut rounds, mut applied) = (broker.flusher.rounds(), broker.applied());
    loop {
        stream.push().await?;
        tokio::select! {
            biased;
            frame = frames.recv() => stream.hear(frame.ok_or(StreamError::Closed)??).await?,
            Some((at, read)) = stream.cold.next() => stream.thaw(at, read).await?,
            _ = rounds.changed() => {}
            _ = applied.changed() => {}
            () = broker.clock.sleep(TICK) => {}
        }
        // What came together is heard together, before anything is pushed.
        while let Ok(frame) = frames.try_recv() {
            stream.hear(frame?).await?;
        }
    }
}

impl Stream {
    async fn send(&mut self, frame: FromSource) -> Result<(), StreamError> {
        let clock = self.broker.clock.clone();
        clock
            .within(SEND, self.server.send(frame))
            .await
            .ok_or(StreamError::Closed)?
    }

    async fn hear(&mut self, frame: ToSource) -> Result<(), StreamError> {
        match frame {
            ToSource::Credit { bytes } => self.credit = self.credit.saturating_add(bytes),
            ToSource::Unsubscribe { at } => self.forget(at),
            ToSource::Durable { at, end_offset } => self.durable(at, end_offset),
            ToSource::Subscribe { at, lineage } => self.subscribe(at, &lineage).await?,
        }
        Ok(())
    }

    fn durable(&self, at: TopicPartition, end_offset: i64) {
        let Some(subscription) = self.subscriptions.get(&at).filter(|s| s.terms().is_some()) else {
            return;
        };
        let partition = &subscription.partition;
        let (acks, joins) = match self.follower {
            Some(node) => partition.set_follower(node, end_offset, self.broker.clock.boot_ns()),
            None => (
                partition.set_remote(
                    &self.hello.region,
                    end_offset,
                    &self.alive,
                    self.broker.clock.boot_ns(),
                ),
                false,
            ),
        };
        if acks {
            self.broker.flusher.advance(partition);
        }
        if joins {
            self.broker.isr.notify_one();
        }
    }

    /// Brokers of this region are known by their incarnations, and only as registered.
    fn is_known(&mut self, catalog: &Catalog) -> bool {
        if self.hello.region != self.broker.region {
            return true;
        }
        let view = &catalog.view;
        let mut here = view.nodes.values();
        self.follower = here
            .find(|n| n.incarnation == self.hello.incarnation && n.region == self.broker.region)
            .map(|n| n.id);
        self.follower.is_some()
    }

    async fn subscribe(
        &mut self,
        at: TopicPartition,
        lineage: &Lineage,
    ) -> Result<(), StreamError> {
        self.forget(at);
        let catalog = self.broker.catalog();
        let begun = match catalog.local(at) {
            None if catalog.view.partition(at).is_none() => Err(Box::new(FromSource::Stopped {
                at,
                reason: StopReason::UnknownPartition,
            })),
            Some(partition) if self.is_known(&catalog) && self.serves(partition) => {
                match self.left(&catalog, partition, lineage) {
                    Some(reason) => Err(Box::new(FromSource::Stopped { at, reason })),
                    None => Subscription::begin(Arc::clone(partition), lineage),
                }
            }
            _ => Err(Box::new(FromSource::Stopped {
                at,
                reason: StopReason::NotLeader,
            })),
        };
        match begun {
            Err(refusal) => self.send(*refusal).await,
            Ok(subscription) => {
                tracing::debug!(%at, region = %self.hello.region, from = lineage.end_offset, "follower subscribed");
                self.subscriptions.insert(at, subscription);
                self.order.push(at);
                Ok(())
            }
        }
    }

    /// Leaders serve everybody. A head passes on within its region what it knows to be the home's.
    fn serves(&self, partition: &Partition) -> bool {
        match partition.role() {
            Role::Leader(_) => true,
            Role::Follower {
                feed: Feed::Home, ..
            } => self.follower.is_some() && partition.following.is_confirmed(),
            _ => false,
        }
    }

    /// Why another region's copy is not filled on: compaction went past its end.
    fn left(
        &self,
        catalog: &Catalog,
        partition: &Partition,
        lineage: &Lineage,
    ) -> Option<StopReason> {
        let (end, empty) = (lineage.end_offset, lineage.epochs.is_empty());
        let region = Some(&self.hello.region).filter(|_| self.follower.is_none())?;
        let (_, placed) = catalog.placed(partition.at)?;
        let recorded = placed.standing.get(region).and_then(|told| told.left_at);
        let upto = partition.passed_by(region, end, empty, recorded)?;
        Some(StopReason::Cleaned { upto })
    }

    fn forget(&mut self, at: TopicPartition) {
        if let Some(subscription) = self.subscriptions.remove(&at) {
            subscription.partition.unfed(&self.hello.region);
            self.order.retain(|known| *known != at);
        }
    }

    /// Sends, one chunk a turn, until nobody has anything more or the credit is used up.
    async fn push(&mut self) -> Result<(), StreamError> {
        let mut idle = 0;
        while idle < self.order.len() {
            self.turn = (self.turn + 1) % self.order.len();
            let Some(at) = self.order.get(self.turn).copied() else {
                break;
            };
            let Some(subscription) = self.subscriptions.get_mut(&at) else {
                break;
            };
            let step = subscription.step(&self.broker, self.credit);
            idle += 1;
            match step {
                Step::Nothing => {}
                Step::Stop(reason) => {
                    self.forget(at);
                    self.send(FromSource::Stopped { at, reason }).await?;
                }
                Step::Cold { offset } => self.fetch(at, offset),
                Step::Send(batches) => {
                    let bytes = batches.records.len() as u64;
                    if bytes > 0 {
                        idle = 0;
                        self.credit = self.credit.saturating_sub(bytes);
                        self.broker.meters.replica_sent_bytes.increment(bytes);
                    }
                    self.send(FromSource::Batches(*batches)).await?;
                }
            }
        }
        Ok(())
    }

    fn fetch(&mut self, at: TopicPartition, offset: i64) {
        let Some(subscription) = self.subscriptions.get_mut(&at) else {
            return;
        };
        subscription.waits = true;
        let (broker, lineage) = (
            Arc::clone(&self.broker),
            subscription.partition.log.lineage(),
        );
        self.cold.push(Box::pin(async move {
            (
                at,
                broker
                    .cold
                    .read(at, offset, COLD_BYTES, COLD_WAIT, &lineage)
                    .await,
            )
        }));
    }

    async fn thaw(&mut self, at: TopicPartition, read: ColdRead) -> Result<(), StreamError> {
        let Some(subscription) = self.subscriptions.get_mut(&at).filter(|s| s.waits) else {
            return Ok(());
        };
        subscription.waits = false;
        match (read, subscription.terms()) {
            (_, None) | (ColdRead::Pending, _) => Ok(()),
            (ColdRead::Failed(error), _) => {
                tracing::error!(%at, %error, "a follower needs records that cannot be read from the bucket");
                self.forget(at);
                self.send(FromSource::Stopped {
                    at,
                    reason: StopReason::Unreadable,
                })
                .await
            }
            (ColdRead::Records(read), Some((region_epoch, leader_epoch))) => {
                self.credit = self.credit.saturating_sub(read.bytes.len() as u64);
                match subscription.send(
                    &self.broker,
                    region_epoch,
                    leader_epoch,
                    read.bytes,
                    read.next_offset,
                ) {
                    Step::Send(batches) => self.send(FromSource::Batches(*batches)).await,
                    _ => Ok(()),
                }
            }
        }
    }
}
