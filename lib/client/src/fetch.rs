//! Raw batches of a partition.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_wire::{
    Batch, BatchError, Batches, ErrorCode,
    messages::fetch::{FetchPartition, FetchTopic, PartitionData, Request, Response},
};

use crate::{client::Client, connection::Connection, endpoint::Endpoint, error::ClientError};

/// Topics by name; later versions name them by id.
const MOST: i16 = 12;

/// Which records may be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset, with the aborted transactions named.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn level(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// What to read.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub topic: String,
    pub partition: i32,
    /// The first batch returned contains it.
    pub offset: i64,
    pub max_wait: Duration,
    pub min_bytes: i32,
    pub max_bytes: i32,
    pub isolation: Isolation,
    /// Where the reader stands (KIP-392): a broker there may serve it as a follower.
    pub rack: String,
}

impl Fetch {
    /// Up to 8 MiB, waiting up to half a second for the first byte.
    pub fn new(topic: impl Into<String>, partition: i32, offset: i64) -> Self {
        Self {
            topic: topic.into(),
            partition,
            offset,
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 8 << 20,
            isolation: Isolation::default(),
            rack: String::new(),
        }
    }
}

/// An aborted transaction: the producer's records from this offset to its next abort marker are void.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Whole batches; the first may begin below the offset asked for and does not end there. CRCs are checked, and that
    /// offsets rise.
    pub batches: Vec<Batch>,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start: i64,
    pub aborted: Vec<Aborted>,
}

impl Client {
    /// Reads from the leader, found again when it moved.
    pub async fn fetch(&self, fetch: &Fetch) -> Result<Fetched, ClientError> {
        self.keep_trying(|| async move {
            let leader = self.leader(&fetch.topic, fetch.partition).await?;
            let fetched = self.fetch_on(&leader, fetch).await;
            if fetched.as_ref().is_err_and(ClientError::is_retryable) {
                self.forget_leader(&fetch.topic, fetch.partition);
            }
            fetched
        })
        .await
    }

    /// Reads from this very broker, leader or not.
    pub async fn fetch_from(
        &self,
        broker: &Endpoint,
        fetch: &Fetch,
    ) -> Result<Fetched, ClientError> {
        self.keep_trying(|| async move {
            let connection = self.connection(broker).await?;
            self.fetch_on(&connection, fetch).await
        })
        .await
    }

    /// Log start and high watermark on this very broker, also where the offset is out of range.
    pub async fn bounds_on(
        &self,
        broker: &Endpoint,
        fetch: &Fetch,
    ) -> Result<(i64, i64), ClientError> {
        let data = self.keep_trying(|| async move {
            let connection = self.connection(broker).await?;
            let data = self.ask(&connection, fetch).await?;
            if data.error_code != ErrorCode::OFFSET_OUT_OF_RANGE {
                ClientError::check(|| what(fetch), data.error_code, None)?;
            }
            Ok(data)
        });
        data.await
            .map(|data| (data.log_start_offset, data.high_watermark))
    }

    async fn fetch_on(
        &self,
        connection: &Connection,
        fetch: &Fetch,
    ) -> Result<Fetched, ClientError> {
        let data = self.ask(connection, fetch).await?;
        ClientError::check(|| what(fetch), data.error_code, None)?;
        read(fetch, data)
    }

    /// The partition's part of the answer, its error not looked at.
    async fn ask(
        &self,
        connection: &Connection,
        fetch: &Fetch,
    ) -> Result<PartitionData, ClientError> {
        let request = Request {
            max_wait_ms: i32::try_from(fetch.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: fetch.min_bytes,
            max_bytes: fetch.max_bytes,
            isolation_level: fetch.isolation.level(),
            rack_id: fetch.rack.clone(),
            topics: vec![FetchTopic {
                topic: fetch.topic.clone(),
                partitions: vec![FetchPartition {
                    partition: fetch.partition,
                    fetch_offset: fetch.offset,
                    partition_max_bytes: fetch.max_bytes,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..Request::default()
        };
        let deadline = self.request_timeout().saturating_add(fetch.max_wait);
        let response = connection.call_upto(&request, MOST, deadline).await?;
        ClientError::check(|| what(fetch), response.error_code, None)?;
        part_of(response, fetch)
    }
}

/// What the answer says of the partition that was asked for, and of no other.
fn part_of(response: Response, fetch: &Fetch) -> Result<PartitionData, ClientError> {
    let of_topic = response
        .responses
        .into_iter()
        .filter(|topic| topic.topic == fetch.topic);
    of_topic
        .flat_map(|topic| topic.partitions)
        .find(|part| part.partition_index == fetch.partition)
        .ok_or_else(|| ClientError::Missing { what: what(fetch) })
}

fn what(fetch: &Fetch) -> String {
    format!(
        "fetch {}-{} at {}",
        fetch.topic, fetch.partition, fetch.offset
    )
}

fn read(fetch: &Fetch, data: PartitionData) -> Result<Fetched, ClientError> {
    let unsound = |source| ClientError::Batch {
        topic: fetch.topic.clone(),
        partition: fetch.partition,
        source,
    };
    let batches = whole_batches(data.records.unwrap_or_default()).map_err(unsound)?;
    let (mut next, mut first) = (fetch.offset, true);
    for batch in &batches {
        batch.verify_crc().map_err(unsound)?;
        // Offsets stand outside the CRC. The first batch holds the one asked for, where compaction left it.
        let found = batch.header.base_offset;
        let follows = if std::mem::take(&mut first) {
            batch.header.next_offset() > next
        } else {
            found >= next
        };
        if !follows || batch.header.next_offset() <= found {
            return Err(ClientError::Disordered {
                topic: fetch.topic.clone(),
                partition: fetch.partition,
                expected: next,
                found,
            });
        }
        next = batch.header.next_offset();
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let aborted = aborted.into_iter().map(|a| Aborted {
        producer_id: a.producer_id,
        first_offset: a.first_offset,
    });
    Ok(Fetched {
        batches,
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable_offset,
        log_start: data.log_start_offset,
        aborted: aborted.collect(),
    })
}

/// Brokers may cut the last batch off at the size asked for.
fn whole_batches(records: Bytes) -> Result<Vec<Batch>, BatchError> {
    let mut whole = Vec::new();
    for batch in Batches::new(records) {
        match batch {
            Ok(batch) => whole.push(batch),
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}

impl ClientError {
    /// The offset asked for is not (or no longer) in the log.
    pub fn is_out_of_range(&self) -> bool {
        self.code() == Some(ErrorCode::OFFSET_OUT_OF_RANGE)
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::{BatchBuilder, messages::fetch::FetchableTopicResponse};

    use super::*;

    fn batch(base_offset: i64, records: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new(base_offset);
        for _ in 0..records {
            builder.add(5, None, Some(b"v"), &[]).unwrap();
        }
        builder.finish().unwrap().to_vec()
    }

    fn answer(batches: &[Vec<u8>]) -> PartitionData {
        PartitionData {
            records: Some(Bytes::from(batches.concat())),
            ..PartitionData::default()
        }
    }

    fn fetched(from: i64, batches: &[Vec<u8>]) -> Result<usize, ClientError> {
        read(&Fetch::new("t", 0, from), answer(batches)).map(|fetched| fetched.batches.len())
    }

    #[test]
    fn offsets_rise_from_the_one_that_was_asked_for() {
        assert_eq!(fetched(12, &[batch(10, 5), batch(15, 5)]).unwrap(), 2);
        // Compaction leaves gaps.
        assert_eq!(fetched(12, &[batch(20, 5), batch(40, 1)]).unwrap(), 2);
        for (batches, expected, found) in [
            (vec![batch(10, 5), batch(10, 5)], 15, 10),
            (vec![batch(10, 5), batch(14, 5)], 15, 14),
            (vec![batch(10, 5), batch(15, 5), batch(0, 1)], 20, 0),
            (vec![batch(10, 2), batch(12, 5)], 12, 10),
            (vec![batch(0, 5)], 12, 0),
        ] {
            let error = fetched(12, &batches).unwrap_err();
            assert!(error.is_unsound() && !error.is_retryable(), "{error}");
            let text = format!("t-0: offsets {found}.. where {expected} comes next");
            assert_eq!(error.to_string(), text);
        }
        assert!(fetched(12, &[batch(-7, 1)]).unwrap_err().is_unsound());
        let mut flipped = batch(10, 5);
        flipped[70] ^= 1;
        assert!(fetched(12, &[flipped]).unwrap_err().is_unsound());
    }

    #[test]
    fn what_is_said_of_another_partition_is_not_taken() {
        let fetch = Fetch::new("t", 3, 0);
        let about = |topic: &str, partition_index| FetchableTopicResponse {
            topic: topic.to_owned(),
            partitions: vec![PartitionData {
                partition_index,
                high_watermark: 7,
                ..PartitionData::default()
            }],
            ..FetchableTopicResponse::default()
        };
        let response = |responses| Response {
            responses,
            ..Response::default()
        };
        for others in [vec![about("u", 3)], vec![about("t", 2)], vec![]] {
            let refused = part_of(response(others.clone()), &fetch);
            assert!(matches!(refused, Err(ClientError::Missing { .. })));
            let mut with_ours = others;
            with_ours.push(about("t", 3));
            let ours = part_of(response(with_ours), &fetch).unwrap();
            assert_eq!(ours.high_watermark, 7);
        }
    }
}
