//! What a flow knows and shows. Maps in here are committed ones, never ahead of the target.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use uuid::Uuid;

use crate::offset_map::OffsetMap;

/// A partition by name, the same on both sides.
pub type At = (String, i32);

#[derive(Clone, Debug)]
pub struct Partition {
    pub topic_id: Uuid,
    pub map: OffsetMap,
    /// Everything below was looked through, and copied where there was something to copy.
    pub scanned: i64,
    /// What a read_committed reader sees of the source.
    pub source_end: i64,
    /// When nothing was missing last.
    pub whole_boot_ms: u64,
    pub anomaly: Option<String>,
}

/// How the flow is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Health {
    #[default]
    Starting,
    Running,
    /// Tries again by itself.
    Waiting(String),
    /// Does not try again.
    Stopped(String),
}

#[derive(Debug, Default)]
pub struct State {
    pub health: Health,
    pub partitions: BTreeMap<At, Partition>,
    /// Groups whose positions could not be carried over, and why.
    pub groups: BTreeMap<String, String>,
}

/// Clones share the state.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<State>>);

#[derive(Debug, Serialize)]
pub struct PartitionView {
    pub topic: String,
    pub partition: i32,
    pub source_end: i64,
    /// Source offset up to which everything is on the target.
    pub copied_to: i64,
    pub lag_records: u64,
    pub behind_ms: u64,
    pub runs: usize,
    pub anomaly: Option<String>,
}

/// A translated flow, as `/status` shows it.
#[derive(Debug, Serialize)]
pub struct FlowView {
    pub flow: String,
    #[serde(flatten)]
    pub health: Health,
    pub behind_ms: u64,
    pub lag_records: u64,
    pub partitions: Vec<PartitionView>,
    pub groups_not_carried: BTreeMap<String, String>,
}

impl Shared {
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock())
    }

    /// A session begins with a partition. How long it has been behind is not forgotten over that.
    pub fn begin(&self, at: &At, topic_id: Uuid, map: OffsetMap, boot_ms: u64) {
        let resume = map.resume().unwrap_or(0);
        self.with(|state| {
            let before = state.partitions.get(at);
            let partition = Partition {
                topic_id,
                map,
                scanned: resume,
                source_end: before.map_or(resume, |p| p.source_end),
                whole_boot_ms: before.map_or(boot_ms, |p| p.whole_boot_ms),
                anomaly: None,
            };
            state.partitions.insert(at.clone(), partition);
        });
    }

    /// The source was looked at: where it ends.
    pub fn seen(&self, at: &At, source_end: i64, boot_ms: u64) {
        self.with(|state| {
            if let Some(partition) = state.partitions.get_mut(at) {
                partition.source_end = source_end;
                if partition.scanned >= source_end {
                    partition.whole_boot_ms = boot_ms;
                }
            }
        });
    }

    pub fn stop(&self, at: &At, anomaly: String) {
        tracing::error!(
            topic = at.0,
            partition = at.1,
            anomaly,
            "copying of this partition is stopped"
        );
        self.with(|state| {
            if let Some(partition) = state.partitions.get_mut(at) {
                partition.anomaly = Some(anomaly);
            }
        });
    }

    pub fn view(&self, flow: &str, boot_ms: u64) -> FlowView {
        self.with(|state| {
            let partitions: Vec<_> = state
                .partitions
                .iter()
                .map(|(at, p)| view(at, p, boot_ms))
                .collect();
            FlowView {
                flow: flow.to_owned(),
                health: state.health.clone(),
                behind_ms: partitions.iter().map(|p| p.behind_ms).max().unwrap_or(0),
                lag_records: partitions
                    .iter()
                    .map(|p| p.lag_records)
                    .fold(0, u64::saturating_add),
                partitions,
                groups_not_carried: state.groups.clone(),
            }
        })
    }
}

fn view(at: &At, partition: &Partition, boot_ms: u64) -> PartitionView {
    PartitionView {
        topic: at.0.clone(),
        partition: at.1,
        source_end: partition.source_end,
        copied_to: partition.scanned,
        lag_records: u64::try_from(partition.source_end.saturating_sub(partition.scanned))
            .unwrap_or(0),
        behind_ms: boot_ms.saturating_sub(partition.whole_boot_ms),
        runs: partition.map.runs().len(),
        anomaly: partition.anomaly.clone(),
    }
}
