//! Records in: idempotent, or as part of transactions.
//!
//! One batch of a partition is under way at a time, partitions beside each other. A batch is sent again with the same
//! sequence until its outcome is known, so it is there once. After an error the outcome of what was sent is open and
//! the producer is done with: a new one begins (of a transactional id: ends what the old one left).

mod transaction;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture, stream};
use whimbrel_wire::{
    BatchBuilder, Codec, Record,
    messages::produce::{PartitionProduceData, Request, TopicProduceData},
};

use crate::{client::Client, error::ClientError};

/// Topics by name, partitions of a transaction added by the client; later versions do neither.
const MOST: i16 = 11;
/// Records of one batch before compression: what brokers take unless told otherwise is 1,048,588 bytes with all around.
const BATCH_BYTES: usize = 1_000_000;
/// Partitions that are written to beside each other.
const BESIDE: usize = 64;
/// How long a broker may wait for its replicas.
const ACK: Duration = Duration::from_secs(10);

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub record: &'a Record,
}

/// Who writes, and what comes next in each partition.
#[derive(Debug)]
pub struct Producer {
    client: Client,
    /// Of a transactional producer.
    id: Option<String>,
    producer_id: i64,
    epoch: i16,
    sequences: BTreeMap<(String, i32), i32>,
    /// Partitions of the transaction that is open.
    added: BTreeSet<(String, i32)>,
}

/// One batch, and the places of its records in what was asked for.
struct Batch {
    bytes: Bytes,
    places: Vec<usize>,
}

impl Producer {
    /// Sends and waits until all are durable. Returns their offsets, in the same order.
    pub async fn send(&mut self, records: &[Outgoing<'_>]) -> Result<Vec<i64>, ClientError> {
        let mut by_partition: BTreeMap<(&str, i32), Vec<usize>> = BTreeMap::new();
        for (place, outgoing) in records.iter().enumerate() {
            let at = (outgoing.topic, outgoing.partition);
            by_partition.entry(at).or_default().push(place);
        }
        self.add(by_partition.keys().copied()).await?;
        let mut lanes = Vec::with_capacity(by_partition.len());
        for ((topic, partition), places) in by_partition {
            lanes.push((topic, partition, self.batches(records, &places)?));
        }
        let mut sent = Vec::with_capacity(lanes.len());
        for (topic, partition, batches) in lanes {
            let to = To {
                client: self.client.clone(),
                id: self.id.clone(),
                topic: topic.to_owned(),
                partition,
            };
            sent.push(to.all(batches));
        }
        let mut sent = stream::iter(sent).buffer_unordered(BESIDE);
        let mut offsets = vec![-1; records.len()];
        while let Some(lane) = sent.next().await {
            for (place, offset) in lane? {
                if let Some(slot) = offsets.get_mut(place) {
                    *slot = offset;
                }
            }
        }
        Ok(offsets)
    }

    /// The records of one partition, in batches that carry on its sequence.
    fn batches(
        &mut self,
        records: &[Outgoing<'_>],
        places: &[usize],
    ) -> Result<Vec<Batch>, ClientError> {
        let mut batches = Vec::new();
        let mut open: Option<(BatchBuilder, Vec<usize>)> = None;
        for place in places {
            let Some(Outgoing {
                topic,
                partition,
                record,
            }) = records.get(*place)
            else {
                continue;
            };
            let unsound = |source| ClientError::Unbuilt {
                topic: (*topic).to_owned(),
                partition: *partition,
                source,
            };
            let weight = weight(record);
            let full = |(builder, _): &mut (BatchBuilder, _)| {
                builder.uncompressed_size().saturating_add(weight) > BATCH_BYTES
            };
            if let Some((builder, places)) = open.take_if(full) {
                let bytes = builder.finish().map_err(unsound)?;
                batches.push(Batch { bytes, places });
            }
            let next = self.sequences.entry(((*topic).to_owned(), *partition));
            let sequence = next.or_insert(0);
            let (builder, places) = open.get_or_insert_with(|| {
                let builder = BatchBuilder::new(0)
                    .codec(Codec::Lz4)
                    .producer(self.producer_id, self.epoch, *sequence)
                    .transactional(self.id.is_some());
                (builder, Vec::new())
            });
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            let added = builder.add(record.timestamp_ms, key, value, &record.headers);
            added.map_err(unsound)?;
            places.push(*place);
            // After the highest comes 0.
            *sequence = sequence.checked_add(1).unwrap_or(0);
        }
        if let Some((builder, places)) = open {
            let at = places.first().and_then(|place| records.get(*place));
            let bytes = builder.finish().map_err(|source| ClientError::Unbuilt {
                topic: at.map_or_else(String::new, |at| at.topic.to_owned()),
                partition: at.map_or(-1, |at| at.partition),
                source,
            })?;
            batches.push(Batch { bytes, places });
        }
        Ok(batches)
    }
}

/// What a record weighs in a batch, at most.
fn weight(record: &Record) -> usize {
    /// Lengths, deltas and counts.
    const AROUND: usize = 32;
    let of = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter();
    headers
        .map(|header| header.key.len() + of(&header.value) + AROUND)
        .sum::<usize>()
        .saturating_add(of(&record.key) + of(&record.value) + AROUND)
}

/// One partition, and as whom it is written to.
struct To {
    client: Client,
    id: Option<String>,
    topic: String,
    partition: i32,
}

/// Places with their offsets.
type Placed = Result<Vec<(usize, i64)>, ClientError>;

impl To {
    /// Batches one after another.
    fn all(self, batches: Vec<Batch>) -> BoxFuture<'static, Placed> {
        Box::pin(async move {
            let mut offsets = Vec::new();
            for Batch { bytes, places } in batches {
                let base = self.one(bytes).await?;
                offsets.extend(places.into_iter().zip(base..));
            }
            Ok(offsets)
        })
    }

    async fn one(&self, batch: Bytes) -> Result<i64, ClientError> {
        let request = Request {
            transactional_id: self.id.clone(),
            acks: -1,
            timeout_ms: i32::try_from(ACK.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: self.topic.clone(),
                partition_data: vec![PartitionProduceData {
                    index: self.partition,
                    records: Some(batch),
                }],
                ..TopicProduceData::default()
            }],
        };
        let (client, request) = (&self.client, &request);
        client
            .keep_trying(|| async move {
                let done = self.once(request).await;
                if done.as_ref().is_err_and(ClientError::is_retryable) {
                    client.forget_leader(&self.topic, self.partition);
                }
                done
            })
            .await
    }

    /// The base offset that the leader gave.
    async fn once(&self, request: &Request) -> Result<i64, ClientError> {
        let deadline = self.client.request_timeout().saturating_add(ACK);
        let leader = self.client.leader(&self.topic, self.partition).await?;
        let response = leader.call_upto(request, MOST, deadline).await?;
        let what = || format!("produce to {}-{}", self.topic, self.partition);
        let mut all = response
            .responses
            .into_iter()
            .flat_map(|of| of.partition_responses);
        let found = all.find(|found| found.index == self.partition);
        let found = found.ok_or_else(|| ClientError::Missing { what: what() })?;
        ClientError::check(what, found.error_code, found.error_message)?;
        Ok(found.base_offset)
    }
}
