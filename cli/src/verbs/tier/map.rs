//! `tier map`: where the records of each topic are: on local disks, in the bucket, or both.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use whimbrel_dev::admin;
use whimbrel_fleet::RegionName;

use super::{At, Daemons, plain};
use crate::{exit::Exit, output};

/// Offsets of a topic in a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Split {
    /// On local disk only.
    hot: i64,
    both: i64,
    /// In the bucket only.
    cold: i64,
    /// In neither: lost.
    nowhere: i64,
    bucket_bytes: u64,
}

pub(super) async fn run(at: &At, all: &Daemons, topic: Option<&str>) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let mut lines = Vec::new();
    for (region, daemon) in all {
        let bucket = admin::get(daemon, "/status").await?;
        let mut brokers = Vec::new();
        let name = RegionName::from(region.as_str());
        for broker in view.nodes.values().filter(|n| n.region == name) {
            brokers.push(admin::get(&broker.admin, "/status").await?);
        }
        let mut topics = split(&bucket, &brokers);
        topics.retain(|name, _| topic.is_none_or(|only| only == name));
        for (topic, s) in topics {
            lines.push(json!({
                "region": region, "topic": topic, "hot": s.hot, "both": s.both, "cold": s.cold, "nowhere": s.nowhere,
                "bucket_bytes": s.bucket_bytes,
            }));
        }
    }
    let lost = lines.iter().any(|l| l["nowhere"] != 0);
    output::print(at.format, &json!({ "topics": lines }), text)?;
    Ok(if lost { Exit::Unhealthy } else { Exit::Ok })
}

/// By topic. Of a partition with several copies the one that reaches farthest down counts.
fn split(bucket: &Value, brokers: &[Value]) -> BTreeMap<String, Split> {
    let number = |v: &Value| v.as_i64().unwrap_or(0);
    let mut logs: BTreeMap<(String, i64), (i64, i64, i64)> = BTreeMap::new();
    for p in brokers
        .iter()
        .flat_map(|b| b["partitions"].as_array().into_iter().flatten())
    {
        let found = (
            number(&p["log_start"]),
            number(&p["local_log_start"]),
            number(&p["durable_end"]),
        );
        let log = logs
            .entry((plain(&p["topic"]), number(&p["partition"])))
            .or_insert(found);
        *log = (log.0.max(found.0), log.1.min(found.1), log.2.max(found.2));
    }
    let mut tiered: BTreeMap<(String, i64), (i64, i64, u64)> = BTreeMap::new();
    for p in bucket["partitions"].as_array().into_iter().flatten() {
        let extent = (
            number(&p["start_offset"]),
            number(&p["end_offset"]),
            p["bytes"].as_u64().unwrap_or(0),
        );
        tiered.insert((plain(&p["topic"]), number(&p["partition"])), extent);
    }
    let mut topics: BTreeMap<String, Split> = BTreeMap::new();
    for ((topic, partition), (start, local, end)) in logs {
        let at = (topic, partition);
        let (from, to, bytes) = tiered.get(&at).copied().unwrap_or((start, start, 0));
        let split = topics.entry(at.0).or_default();
        let (from, to) = (from.max(start).min(end), to.max(start).min(end));
        let local = local.clamp(start, end);
        split.cold += (to.min(local) - from).max(0);
        split.both += (to - from.max(local)).max(0);
        split.hot += (end - local) - (to - from.max(local)).max(0);
        split.nowhere += (local - start) - (to.min(local) - from).max(0);
        split.bucket_bytes += bytes;
    }
    topics
}

fn text(value: &Value) -> String {
    let rows = value["topics"].as_array().into_iter().flatten().map(|l| {
        [
            plain(&l["region"]),
            plain(&l["topic"]),
            plain(&l["hot"]),
            plain(&l["both"]),
            plain(&l["cold"]),
            plain(&l["nowhere"]),
            plain(&l["bucket_bytes"]),
        ]
    });
    output::table(
        [
            "REGION",
            "TOPIC",
            "HOT",
            "BOTH",
            "COLD",
            "NOWHERE",
            "BUCKET(B)",
        ],
        rows,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(log: (i64, i64, i64), tiered: Option<(i64, i64)>) -> Split {
        let broker = json!({"partitions": [{"topic": "t", "partition": 0, "log_start": log.0, "local_log_start": log.1, "durable_end": log.2}]});
        let extents: Vec<_> = tiered
            .iter()
            .map(|(from, to)| json!({"topic": "t", "partition": 0, "start_offset": from, "end_offset": to, "bytes": 7}))
            .collect();
        split(&json!({"partitions": extents}), &[broker])["t"]
    }

    fn parts(s: Split) -> (i64, i64, i64, i64) {
        (s.hot, s.both, s.cold, s.nowhere)
    }

    #[test]
    fn every_offset_is_in_one_place() {
        assert_eq!(parts(one((0, 0, 100), None)), (100, 0, 0, 0));
        assert_eq!(parts(one((0, 40, 100), Some((0, 70)))), (30, 30, 40, 0));
        assert_eq!(parts(one((0, 70, 100), Some((0, 70)))), (30, 0, 70, 0));
        assert_eq!(parts(one((10, 70, 100), Some((0, 60)))), (30, 0, 50, 10));
        assert_eq!(parts(one((0, 50, 100), Some((20, 80)))), (20, 30, 30, 20));
        assert_eq!(parts(one((0, 50, 100), Some((60, 80)))), (30, 20, 0, 50));
    }
}
