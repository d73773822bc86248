//! What the daemon tells: `/status` as JSON, lag as metrics. Computed when asked.

use metrics::gauge;
use serde::Serialize;
use serde_json::{Value, json};
use whimbrel_fleet::RegionName;

use crate::{
    replica::{PartitionStatus, Region},
    translated::Worker,
};

/// A failover group's flow into this region.
#[derive(Debug, Serialize)]
struct FlowStatus {
    group: String,
    source: String,
    target: String,
    /// `streaming`, or `stopped` where an anomaly stopped a partition, or `waiting`.
    state: &'static str,
    behind_ms: u64,
    lag_records: u64,
    lag_bytes: u64,
    partitions: Vec<PartitionStatus>,
}

impl FlowStatus {
    fn new(group: String, target: &RegionName, partitions: Vec<PartitionStatus>) -> Self {
        let any = |state| partitions.iter().any(|p| p.state == state);
        let all_stream = partitions.iter().all(|p| p.state == "streaming");
        let state = match (any("stopped"), all_stream) {
            (true, _) => "stopped",
            (false, true) => "streaming",
            (false, false) => "waiting",
        };
        let sum = |of: fn(&PartitionStatus) -> u64| {
            partitions.iter().map(of).fold(0_u64, u64::saturating_add)
        };
        Self {
            group,
            source: partitions
                .first()
                .map(|p| p.source.to_string())
                .unwrap_or_default(),
            target: target.to_string(),
            state,
            behind_ms: partitions.iter().map(|p| p.behind_ms).max().unwrap_or(0),
            lag_records: sum(|p| p.lag_records),
            lag_bytes: sum(|p| p.lag_bytes),
            partitions,
        }
    }
}

/// The answer of `/status`.
pub fn json(name: &RegionName, region: &Region, workers: &[Worker], boot_ms: u64) -> Value {
    let flows = region.status().into_iter();
    let flows: Vec<_> = flows
        .map(|(group, partitions)| FlowStatus::new(group.to_string(), name, partitions))
        .collect();
    let translated: Vec<_> = workers.iter().map(|w| w.view(boot_ms)).collect();
    json!({ "region": name, "flows": flows, "translated": translated })
}

/// Sets the lag gauges, just before they are read.
pub fn scrape(name: &RegionName, node: i32, region: &Region, workers: &[Worker], boot_ms: u64) {
    let common = [
        ("region", name.to_string()),
        ("node", node.to_string()),
        ("role", "mirror".to_owned()),
    ];
    for (group, partitions) in region.status() {
        for p in partitions {
            let mut labels = common.to_vec();
            labels.push(("group", group.to_string()));
            labels.push(("topic", p.topic));
            labels.push(("partition", p.partition.to_string()));
            gauge!("whimbrel_mirror_lag_records", &labels).set(float(p.lag_records));
            gauge!("whimbrel_mirror_lag_bytes", &labels).set(float(p.lag_bytes));
            gauge!("whimbrel_mirror_lag_seconds", &labels).set(float(p.behind_ms) / 1_000.0);
            let stopped = if p.anomaly.is_some() { 1.0 } else { 0.0 };
            gauge!("whimbrel_mirror_partition_stopped", &labels).set(stopped);
        }
    }
    for flow in workers.iter().map(|w| w.view(boot_ms)) {
        for p in flow.partitions {
            let mut labels = common.to_vec();
            labels.push(("flow", flow.flow.clone()));
            labels.push(("topic", p.topic));
            labels.push(("partition", p.partition.to_string()));
            gauge!("whimbrel_mirror_flow_lag_records", &labels).set(float(p.lag_records));
            gauge!("whimbrel_mirror_flow_lag_seconds", &labels).set(float(p.behind_ms) / 1_000.0);
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; 2^53 is precise enough"
)]
fn float(value: u64) -> f64 {
    value as f64
}
