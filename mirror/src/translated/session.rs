//! One run of a flow, from taking the transactional id to the first error.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::sync::mpsc;
use whimbrel_client::{Client, Outgoing, Producer};
use whimbrel_runtime::{Clock, Shutdown, Tasks};
use whimbrel_wire::Record;

use super::{
    error::FlowError,
    options::FlowOptions,
    reader::{Reader, Reading},
    state::{At, Health, Shared},
    stored_map::{self, Stored},
    topics,
};
use crate::{
    codes,
    offset_map::{OffsetMap, Run},
};

/// Answers of readers that wait for the next transaction.
const READINGS: usize = 16;
/// Records of one transaction.
const TRANSACTION_RECORDS: usize = 50_000;
/// The target ends a transaction after this by itself.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// What a flow works with.
#[derive(Clone, Debug)]
pub struct Flow {
    pub options: FlowOptions,
    pub source: Client,
    pub target: Client,
    pub shared: Shared,
    pub tasks: Tasks,
    pub clock: Clock,
}

struct Session<'a> {
    flow: &'a Flow,
    producer: Producer,
    map_topic: String,
    stored: BTreeMap<At, Stored>,
    readings: mpsc::Sender<Reading>,
    readers: Shutdown,
    /// Partitions that this session reads, or has found anomalous.
    begun: BTreeSet<At>,
}

impl Flow {
    /// Copies until shutdown or the first error. Nothing is kept from one session to the next but what
    /// the target has.
    pub async fn session(&self) -> Result<(), FlowError> {
        let map_topic = self.options.map_topic();
        let id = format!("whimbrel-{}", self.options.name);
        let producer = Producer::transactional(&self.target, &id, TRANSACTION_TIMEOUT);
        let producer = producer.await.map_err(FlowError::Producer)?;
        stored_map::ensure(&self.target, &map_topic, self.options.replication_factor).await?;
        let stored = stored_map::load(&self.target, &map_topic, &self.clock).await?;
        let (readings, inbox) = mpsc::channel(READINGS);
        let readers = self.tasks.shutdown().child();
        let mut session = Session {
            flow: self,
            producer,
            map_topic,
            stored,
            readings,
            readers: readers.clone(),
            begun: BTreeSet::new(),
        };
        let ended = session.run(inbox).await;
        readers.request();
        ended
    }
}

impl Session<'_> {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Reading>) -> Result<(), FlowError> {
        let clock = &self.flow.clock;
        self.discover().await?;
        self.flow
            .shared
            .with(|state| state.health = Health::Running);
        let shutdown = self.flow.tasks.shutdown();
        let interval: Duration = self.flow.options.topic_interval.0;
        let mut look = Box::pin(clock.sleep(interval));
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                Some(first) = inbox.recv() => self.copy(first, &mut inbox).await?,
                () = &mut look => {
                    self.discover().await?;
                    look = Box::pin(clock.sleep(interval));
                }
            }
        }
    }

    /// Starts a reader for every partition that has none.
    async fn discover(&mut self) -> Result<(), FlowError> {
        let Flow {
            options,
            source,
            target,
            shared,
            tasks,
            clock,
        } = self.flow;
        for topic in topics::discover(options, source, target).await? {
            for partition in topic.partitions {
                let at = (topic.name.clone(), partition);
                if !self.begun.insert(at.clone()) {
                    continue;
                }
                let stored = self.stored.remove(&at);
                let other = stored
                    .as_ref()
                    .map(|s| s.topic_id)
                    .filter(|id| *id != topic.id);
                let map = stored.map(|s| s.map).unwrap_or_default();
                let resume = map.resume();
                shared.begin(&at, topic.id, map, clock.boot_ms());
                if let Some(other) = other {
                    let code = codes::TRANSLATED_SOURCE;
                    shared.stop(
                        &at,
                        format!(
                            "{code}: the source topic is {} now, {other} was copied",
                            topic.id
                        ),
                    );
                    continue;
                }
                let reader = Reader {
                    at: at.clone(),
                    offset: resume.unwrap_or(0),
                    fresh: resume.is_none(),
                    source: source.clone(),
                    shared: shared.clone(),
                    clock: clock.clone(),
                };
                let (readings, life) = (self.readings.clone(), self.readers.clone());
                let name = format!("flow {} reads {}-{partition}", options.name, topic.name);
                tasks.spawn_ok(name, async move {
                    let _ = life.unless(reader.run(readings)).await;
                });
            }
        }
        Ok(())
    }

    /// One transaction: what is there now, up to the limits.
    async fn copy(
        &mut self,
        first: Reading,
        inbox: &mut mpsc::Receiver<Reading>,
    ) -> Result<(), FlowError> {
        let limit = usize::try_from(self.flow.options.transaction_bytes.0).unwrap_or(usize::MAX);
        let (mut bytes, mut records) = (size(&first), first.records.len());
        let mut readings = vec![first];
        while bytes < limit && records < TRANSACTION_RECORDS {
            let Ok(next) = inbox.try_recv() else {
                break;
            };
            bytes += size(&next);
            records += next.records.len();
            readings.push(next);
        }
        let mut copied = BTreeMap::new();
        if records > 0 {
            copied = self.write(&readings).await?;
            // An error leaves the outcome open: only the committed map tells.
            let committed = self.producer.commit().await;
            committed.map_err(FlowError::Producer)?;
        }
        self.settle(copied, &readings);
        Ok(())
    }

    /// Writes the records and then what is now known of their offsets. Returns the new maps.
    async fn write(&mut self, readings: &[Reading]) -> Result<BTreeMap<At, OffsetMap>, FlowError> {
        let of = |reading: &'_ Reading| reading.records.len();
        let mut outgoing = Vec::with_capacity(readings.iter().map(of).sum());
        for reading in readings {
            outgoing.extend(reading.records.iter().map(|record| Outgoing {
                topic: &reading.at.0,
                partition: reading.at.1,
                record,
            }));
        }
        let offsets = self.producer.send(&outgoing).await;
        let offsets = offsets.map_err(FlowError::Producer)?;
        let mut maps = BTreeMap::new();
        let mut offsets = offsets.into_iter();
        for reading in readings {
            let known = self
                .flow
                .shared
                .with(|state| state.partitions.get(&reading.at).cloned());
            let Some(known) = known else { continue };
            let before = known.map.runs().len();
            let (_, _, map) =
                maps.entry(reading.at.clone())
                    .or_insert((known.topic_id, before, known.map));
            for (record, target) in reading.records.iter().zip(offsets.by_ref()) {
                map.push(Run {
                    source: record.offset,
                    target,
                    length: 1,
                })?;
            }
        }
        let mut entries = Vec::new();
        for (at, (topic_id, before, map)) in &maps {
            entries.extend(stored_map::changed(at, *topic_id, map, *before));
        }
        let entries: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| self.entry(key, value))
            .collect();
        let entries: Vec<_> = entries
            .iter()
            .map(|record| Outgoing {
                topic: &self.map_topic,
                partition: 0,
                record,
            })
            .collect();
        let stored = self.producer.send(&entries).await;
        stored.map_err(FlowError::Producer)?;
        Ok(maps
            .into_iter()
            .map(|(at, (_, _, map))| (at, map))
            .collect())
    }

    fn entry(&self, key: bytes::Bytes, value: bytes::Bytes) -> Record {
        Record {
            timestamp_ms: self.flow.clock.wall_ms(),
            key: Some(key),
            value: Some(value),
            ..Record::default()
        }
    }

    /// The transaction is committed: what it says is true now.
    fn settle(&self, copied: BTreeMap<At, OffsetMap>, readings: &[Reading]) {
        let boot_ms = self.flow.clock.boot_ms();
        self.flow.shared.with(|state| {
            for (at, map) in copied {
                if let Some(partition) = state.partitions.get_mut(&at) {
                    partition.map = map;
                }
            }
            for reading in readings {
                if let Some(partition) = state.partitions.get_mut(&reading.at) {
                    partition.scanned = reading.scanned;
                    if partition.scanned >= partition.source_end {
                        partition.whole_boot_ms = boot_ms;
                    }
                }
            }
        });
    }
}

fn size(reading: &Reading) -> usize {
    let of = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
    reading
        .records
        .iter()
        .map(|r| of(&r.key) + of(&r.value))
        .sum()
}
