//! What the flow can tell about itself, computed when asked.

use serde::Serialize;
use whimbrel_fleet::{GroupName, RegionName};

use super::Flow;
use crate::replica::{anomaly::Anomaly, lag::Lag, partition::State, places::Place};

/// One partition, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct PartitionStatus {
    #[serde(skip)]
    pub group: GroupName,
    #[serde(skip)]
    pub source: RegionName,
    pub topic: String,
    pub partition: i32,
    /// Fsynced end of the source in its last frame; null until one came.
    pub source_end: Option<i64>,
    /// Fsynced end of the copy here.
    pub target_end: i64,
    pub behind_ms: u64,
    pub lag_records: u64,
    pub lag_bytes: u64,
    pub state: &'static str,
    pub anomaly: Option<Anomaly>,
}

impl Flow {
    /// All partitions that flow, or should flow, into this sink.
    pub fn status(&self, now_ms: u64) -> Vec<PartitionStatus> {
        let known = self.partitions.iter();
        let placed = known.filter_map(|(at, p)| Some((at, p, self.places.get(*at)?)));
        placed
            .map(|(at, p, place)| {
                let Place {
                    topic, group, home, ..
                } = place;
                let Lag {
                    records,
                    bytes,
                    behind_ms,
                } = p.progress.lag(now_ms);
                let anomaly = match p.state {
                    State::Stopped(anomaly) => Some(anomaly),
                    _ => None,
                };
                PartitionStatus {
                    group: group.clone(),
                    source: home.clone(),
                    topic: topic.clone(),
                    partition: at.partition,
                    source_end: p.progress.source_end(),
                    target_end: p.progress.target_end(),
                    behind_ms,
                    lag_records: records,
                    lag_bytes: bytes,
                    state: p.state.name(),
                    anomaly,
                }
            })
            .collect()
    }
}
