//! Raw batches of a partition.

use std::time::Duration;

use bytes::Bytes;
use whimbrel_wire::{
    Batch, BatchError, Batches, ErrorCode,
    messages::fetch::{FetchPartition, FetchTopic, PartitionData, Request},
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
    /// Whole batches; the first may begin below the offset asked for. CRCs are checked.
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
        let mut partitions = response.responses.into_iter().flat_map(|t| t.partitions);
        let data = partitions.find(|p| p.partition_index == fetch.partition);
        data.ok_or_else(|| ClientError::Missing { what: what(fetch) })
    }
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
    for batch in &batches {
        batch.verify_crc().map_err(unsound)?;
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
