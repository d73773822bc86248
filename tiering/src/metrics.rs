//! Names of our metrics. Gauges are set at scrape from stored instants and positions, never by the task
//! they describe.

use std::sync::Arc;

use metrics::{Label, counter};

/// Requests to the store by `op` and `outcome`.
pub const STORE_REQUESTS: &str = "whimbrel_tiering_store_requests_total";
/// What re-reads after conditional writes found, by `verdict`.
pub const ROOT_VERDICTS: &str = "whimbrel_tiering_root_verdicts_total";
/// The same for the head of what describes the fleet.
pub const META_VERDICTS: &str = "whimbrel_tiering_meta_verdicts_total";
/// Since when the bucket was last known to describe the fleet as it is; missing where another daemon writes that.
pub const META_AGE: &str = "whimbrel_tiering_meta_age_seconds";
/// Bytes of data objects uploaded and verified.
pub const UPLOADED_BYTES: &str = "whimbrel_tiering_uploaded_bytes_total";
pub const UPLOADED_OBJECTS: &str = "whimbrel_tiering_uploaded_objects_total";
pub const DELETED_OBJECTS: &str = "whimbrel_tiering_deleted_objects_total";
/// Bytes fetched from the store for readers, read-ahead included.
pub const FETCHED_BYTES: &str = "whimbrel_tiering_fetched_bytes_total";
pub const CACHE_HITS: &str = "whimbrel_tiering_cache_hits_total";
pub const CACHE_MISSES: &str = "whimbrel_tiering_cache_misses_total";
/// Objects found missing or damaged while the root names them.
pub const DAMAGE: &str = "whimbrel_tiering_damage_total";
pub const REPAIRED_OBJECTS: &str = "whimbrel_tiering_repaired_objects_total";
/// Objects that are quarantined now.
pub const QUARANTINED: &str = "whimbrel_tiering_quarantined_objects";
/// Compacted logs that the bucket keeps as they were written; why is in the status.
pub const COMPACTION_HELD: &str = "whimbrel_tiering_compaction_held_partitions";
/// Shards whose root is not believed.
pub const QUARANTINED_SHARDS: &str = "whimbrel_tiering_quarantined_shards";
/// Age of the newest complete verification; missing before the first.
pub const VERIFIED_AGE: &str = "whimbrel_tiering_verified_age_seconds";
/// What the newest complete verification found and looked at.
pub const VERIFY_PROBLEMS: &str = "whimbrel_tiering_verify_problems";
pub const VERIFIED_OBJECTS: &str = "whimbrel_tiering_verified_objects";
pub const CACHE_BYTES: &str = "whimbrel_tiering_cache_bytes";
pub const CACHE_LIMIT: &str = "whimbrel_tiering_cache_limit_bytes";
/// By `topic`.
pub const TIERED_BYTES: &str = "whimbrel_tiering_tiered_bytes";
/// Age of the oldest record below the high watermark that is in no bucket.
pub const UNUPLOADED_AGE: &str = "whimbrel_tiering_oldest_unuploaded_age_seconds";
pub const STUCK: &str = "whimbrel_tiering_stuck_operations";
/// Objects that Object Lock keeps from being deleted.
pub const LOCKED: &str = "whimbrel_tiering_locked_deletions";
/// For how long the store has refused every request; zero while it does not.
pub const REFUSED: &str = "whimbrel_tiering_store_refused_seconds";
pub const ORPHANS: &str = "whimbrel_tiering_orphans";

/// Counts with the labels that every metric of a daemon carries: region, node and role.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    region: Arc<str>,
    node: Arc<str>,
}

impl Meter {
    pub fn new(region: &str, node: i32) -> Self {
        Self {
            region: region.into(),
            node: node.to_string().into(),
        }
    }

    pub(crate) fn labels(&self) -> Vec<Label> {
        vec![
            Label::new("region", Arc::clone(&self.region)),
            Label::new("node", Arc::clone(&self.node)),
            Label::from_static_parts("role", "tiering"),
        ]
    }

    pub(crate) fn count(&self, name: &'static str, by: u64) {
        counter!(name, self.labels()).increment(by);
    }

    /// One more, of the kind that `more` says.
    pub(crate) fn count_one(&self, name: &'static str, more: &[(&'static str, &'static str)]) {
        let mut labels = self.labels();
        labels.extend(more.iter().map(|(k, v)| Label::from_static_parts(k, v)));
        counter!(name, labels).increment(1);
    }
}
