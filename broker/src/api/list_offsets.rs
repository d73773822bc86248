//! ListOffsets: special timestamps -1 to -6, and lookups by time, in the log or in the bucket.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesOrdered};
use whimbrel_wire::{
    ErrorCode,
    messages::list_offsets::{
        ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request,
        Response,
    },
};

use super::refusal;
use crate::{broker::Broker, cold::LOOKUP_WAIT, partition::Partition};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// First offset that is on local disk (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// Last offset in the bucket (KIP-1005).
const LATEST_TIERED: i64 = -5;
/// First offset not yet in the bucket (KIP-1023).
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// First version that knows OFFSET_NOT_AVAILABLE.
const NOT_AVAILABLE: i16 = 5;

/// Partitions looked up at once: a bucket that stalls for one must not hold up the others.
const SIDE_BY_SIDE: usize = 32;

/// What is the same for every partition of a request.
#[derive(Clone, Copy)]
struct Ask {
    committed_only: bool,
    version: i16,
    /// On the broker's clock: nothing is waited for after it.
    until_ns: u64,
}

impl Ask {
    fn left(self, broker: &Broker) -> Duration {
        Duration::from_nanos(self.until_ns.saturating_sub(broker.clock.boot_ns()))
    }
}

/// Timestamp, offset, leader epoch; -1 where there is none.
type Found = (i64, i64, i32);

const NOTHING: Found = (-1, -1, -1);

/// How far the asker sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sight {
    /// Of the first record that it does not see.
    end: i64,
    /// Of a leader whose high watermark has not reached its epoch: more may have been seen elsewhere before.
    lags: Option<ErrorCode>,
}

impl Sight {
    fn of(partition: &Partition, ask: Ask) -> Self {
        let lags = partition
            .leads()
            .is_some_and(|terms| partition.high_watermark() < terms.epoch_start);
        let error = if ask.version >= NOT_AVAILABLE {
            ErrorCode::OFFSET_NOT_AVAILABLE
        } else {
            ErrorCode::LEADER_NOT_AVAILABLE
        };
        Self {
            end: if ask.committed_only {
                partition.last_stable_offset()
            } else {
                partition.high_watermark()
            },
            lags: lags.then_some(error),
        }
    }

    /// The end. An older, lower one would make a consumer that begins at the end read again.
    fn latest(self) -> Result<i64, ErrorCode> {
        self.lags.map_or(Ok(self.end), Err)
    }

    /// What a lookup came upon, if the asker sees it.
    fn filter(self, found: Option<Found>) -> Result<Found, ErrorCode> {
        match (found, self.lags) {
            (Some(found), _) if found.1 < self.end => Ok(found),
            (Some(_), Some(error)) => Err(error),
            _ => Ok(NOTHING),
        }
    }
}

pub async fn handle(broker: &Arc<Broker>, request: Request, version: i16) -> Response {
    let ask = Ask {
        committed_only: request.isolation_level == 1,
        version,
        until_ns: (broker.clock.boot_ns())
            .saturating_add(u64::try_from(LOOKUP_WAIT.as_nanos()).unwrap_or(u64::MAX)),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let mut left = topic.partitions.iter();
        // A lookup weighs kilobytes, and a request may ask for a great many.
        let mut under_way = FuturesOrdered::new();
        loop {
            let free = SIDE_BY_SIDE.saturating_sub(under_way.len());
            let next = left.by_ref().take(free);
            under_way.extend(next.map(|partition| one(broker, &topic.name, partition, ask)));
            match under_way.next().await {
                Some(answer) => partitions.push(answer),
                None => break,
            }
        }
        drop(under_way);
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn one(
    broker: &Arc<Broker>,
    name: &str,
    asked: &ListOffsetsPartition,
    ask: Ask,
) -> ListOffsetsPartitionResponse {
    let partition_index = asked.partition_index;
    match find(broker, name, asked, ask).await {
        Ok((timestamp, offset, leader_epoch)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp,
            offset,
            leader_epoch,
            ..ListOffsetsPartitionResponse::default()
        },
        Err(error_code) => ListOffsetsPartitionResponse {
            partition_index,
            error_code,
            ..ListOffsetsPartitionResponse::default()
        },
    }
}

async fn find(
    broker: &Arc<Broker>,
    name: &str,
    asked: &ListOffsetsPartition,
    ask: Ask,
) -> Result<Found, ErrorCode> {
    let catalog = broker.catalog();
    let topic = refusal::topic(&catalog, name, uuid::Uuid::nil(), false)?;
    let (partition, leader_epoch) = refusal::leader(&catalog, topic, asked.partition_index)?;
    refusal::fence(asked.current_leader_epoch, leader_epoch)?;
    let offsets = partition.log.offsets();
    let sight = Sight::of(partition, ask);
    // Before the daemon has told anything: what is not local any more was verified there.
    let tiered_end = if offsets.local_log_start > offsets.log_start {
        partition.tiered_end().max(offsets.local_log_start)
    } else {
        partition.tiered_end()
    };
    let at = |offset: i64| (-1, offset, epoch_of(partition, offset));
    Ok(match asked.timestamp {
        LATEST => (-1, sight.latest()?, leader_epoch),
        EARLIEST => at(offsets.log_start),
        EARLIEST_LOCAL => at(offsets.local_log_start),
        LATEST_TIERED if tiered_end > offsets.log_start => at(tiered_end - 1),
        LATEST_TIERED => NOTHING,
        EARLIEST_PENDING_UPLOAD => at(tiered_end.max(offsets.log_start)),
        MAX_TIMESTAMP => {
            let found = broker
                .open(|| partition.log.max_timestamp())
                .await
                .map_err(|e| e.error_code())?;
            sight.filter(found.map(|f| (f.timestamp_ms, f.offset, f.leader_epoch)))?
        }
        ..0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp_ms => {
            let found = by_time(broker, partition, timestamp_ms, ask.left(broker)).await?;
            sight.filter(found)?
        }
    })
}

/// The tiered part first: it is the older one.
async fn by_time(
    broker: &Broker,
    partition: &Partition,
    timestamp_ms: i64,
    wait: Duration,
) -> Result<Option<Found>, ErrorCode> {
    let offsets = partition.log.offsets();
    if offsets.local_log_start > offsets.log_start && broker.cold.is_configured() {
        let found = broker.cold.offset_for_timestamp(partition.at, timestamp_ms, wait).await.map_err(|error| {
            tracing::debug!(at = %partition.at, %error, "a lookup by time did not reach the tiering daemon");
            ErrorCode::LEADER_NOT_AVAILABLE
        })?;
        if let Some((offset, timestamp_ms, leader_epoch)) = found
            && offset < offsets.local_log_start
        {
            return Ok(Some((timestamp_ms, offset, leader_epoch)));
        }
    }
    let found = broker
        .open(|| partition.log.offset_for_timestamp(timestamp_ms))
        .await
        .map_err(|e| e.error_code())?;
    Ok(found.map(|f| (f.timestamp_ms, f.offset, f.leader_epoch)))
}

fn epoch_of(partition: &Partition, offset: i64) -> i32 {
    let epochs = partition.log.lineage();
    epochs
        .iter()
        .rev()
        .find(|e| e.start_offset <= offset)
        .map_or(-1, |e| e.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_beyond_sight_is_not_told_and_is_not_known_while_the_leader_catches_up() {
        let found = |offset: i64| Some((7, offset, 3));
        let mut sight = Sight { end: 5, lags: None };
        assert_eq!(sight.latest(), Ok(5));
        assert_eq!(sight.filter(found(4)), Ok((7, 4, 3)));
        assert_eq!(sight.filter(found(5)), Ok(NOTHING));
        assert_eq!(sight.filter(None), Ok(NOTHING));
        let later = ErrorCode::OFFSET_NOT_AVAILABLE;
        sight.lags = Some(later);
        assert_eq!(sight.latest(), Err(later));
        assert_eq!(sight.filter(found(4)), Ok((7, 4, 3)));
        assert_eq!(sight.filter(found(5)), Err(later));
        assert_eq!(sight.filter(None), Ok(NOTHING));
    }
}
