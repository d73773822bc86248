//! Compares what two regions hold, offset by offset and byte by byte.
//!
//! Both sides are read as a consumer would, by plain Fetch, so what is compared is what would be served.
//! The client checks every batch's CRC; here the whole batches are compared, epochs included.

mod compare;
mod plan;

use std::time::Duration;

use serde::Serialize;
use whimbrel_client::{Client, ClientError, Endpoint, Fetch, Fetched};
use whimbrel_fleet::{RegionName, View};

use compare::Comparison;
pub use plan::{Pair, pairs};

const MAX_WAIT: Duration = Duration::from_millis(200);
/// Answers in a row that bring nothing although the high watermark promises more.
const MAX_EMPTY: u32 = 50;

/// What was compared of one partition.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionReport {
    pub topic: String,
    pub partition: i32,
    pub source: RegionName,
    pub target: RegionName,
    /// First offset compared: the higher log start.
    pub from: i64,
    /// Exclusive: the lower high watermark when the comparison began.
    pub to: i64,
    pub batches: u64,
    pub bytes: u64,
    pub equal: bool,
    pub first_difference: Option<Difference>,
    /// Why it could not be compared to its end.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub offset: i64,
    pub what: String,
}

/// The answer of `POST /verify`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All partitions were compared to their end and none differs.
    pub equal: bool,
    pub batches: u64,
    pub bytes: u64,
    pub partitions: Vec<PartitionReport>,
}

/// Compares the copies in `region` (or, where `region` is home, the copies elsewhere) with the home's.
pub async fn verify(
    client: &Client,
    view: &View,
    region: &RegionName,
    topic: Option<&str>,
) -> Report {
    let mut partitions = Vec::new();
    for pair in pairs(view, region, topic) {
        partitions.push(partition(client, pair).await);
    }
    Report {
        equal: partitions.iter().all(|p| p.equal),
        batches: partitions.iter().map(|p| p.batches).sum(),
        bytes: partitions.iter().map(|p| p.bytes).sum(),
        partitions,
    }
}

async fn partition(client: &Client, pair: Pair) -> PartitionReport {
    let mut comparison = Comparison::default();
    let compared = walk(client, &pair, &mut comparison).await;
    let finished = compared.is_ok() && comparison.finished();
    PartitionReport {
        from: comparison.from(),
        to: comparison.to(),
        batches: comparison.batches(),
        bytes: comparison.bytes(),
        equal: finished && comparison.difference().is_none(),
        first_difference: comparison.difference().cloned(),
        error: compared.err().map(|error| error.to_string()),
        topic: pair.topic,
        partition: pair.partition,
        source: pair.source,
        target: pair.target,
    }
}

/// Reads both sides step by step until the comparison has what it needs.
async fn walk(
    client: &Client,
    pair: &Pair,
    comparison: &mut Comparison,
) -> Result<(), ClientError> {
    let left = bounds(client, pair, (&pair.source, &pair.source_broker)).await?;
    let right = bounds(client, pair, (&pair.target, &pair.target_broker)).await?;
    comparison.begin(left, right);
    let mut empty = 0;
    while let Some((left_at, right_at)) = comparison.wants() {
        let left = read(client, pair, (&pair.source, &pair.source_broker), left_at).await?;
        let right = read(client, pair, (&pair.target, &pair.target_broker), right_at).await?;
        let nothing = left.iter().chain(&right).all(|f| f.batches.is_empty());
        empty = if nothing { empty + 1 } else { 0 };
        if empty > MAX_EMPTY {
            return Err(ClientError::Missing {
                what: format!(
                    "records of {}-{} below the high watermark",
                    pair.topic, pair.partition
                ),
            });
        }
        comparison.feed(
            left.map(|f| f.batches).unwrap_or_default(),
            right.map(|f| f.batches).unwrap_or_default(),
        );
    }
    Ok(())
}

/// Log start and high watermark of one side, which are in every answer, also where the offset is out of range.
async fn bounds(
    client: &Client,
    pair: &Pair,
    (region, broker): (&RegionName, &Endpoint),
) -> Result<(i64, i64), ClientError> {
    let mut fetch = fetch(pair, region, 0);
    fetch.max_wait = Duration::ZERO;
    fetch.max_bytes = 1;
    let bounds = client.bounds_on(broker, &fetch).await?;
    Ok((bounds.0.max(0), bounds.1.max(0)))
}

async fn read(
    client: &Client,
    pair: &Pair,
    (region, broker): (&RegionName, &Endpoint),
    at: Option<i64>,
) -> Result<Option<Fetched>, ClientError> {
    let Some(offset) = at else {
        return Ok(None);
    };
    let mut fetch = fetch(pair, region, offset);
    fetch.max_wait = MAX_WAIT;
    client.fetch_from(broker, &fetch).await.map(Some)
}

/// A broker serves what it follows to readers of its own region only, so the audit stands in each.
fn fetch(pair: &Pair, region: &RegionName, offset: i64) -> Fetch {
    let mut fetch = Fetch::new(pair.topic.clone(), pair.partition, offset);
    region.as_str().clone_into(&mut fetch.rack);
    fetch
}
