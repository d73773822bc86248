//! What the steps measured.

/// Filled in step by step; `None` = not reached, which never counts as held.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub records_produced: u64,
    pub bytes_produced: u64,
    pub mirror_batches_compared: Option<u64>,
    pub mirror_differences: Option<u64>,
    pub segments_freed_records: Option<u64>,
    pub bucket_verified: Option<bool>,
    pub cold_records: Option<u64>,
    pub cold_mismatches: Option<u64>,
    pub group_position_error: Option<i64>,
    pub killed_pids: Vec<u32>,
    pub records_lost_bound: Option<u64>,
    pub rpo_reported_ms: Option<u64>,
    pub rpo_actual_ms: Option<u64>,
    pub records_lost: Option<u64>,
    pub records_repeated: Option<u64>,
    pub rto_ms: Option<u64>,
    pub old_home_fenced: Option<bool>,
    pub orphans_exported: Option<u64>,
    pub failback_lost: Option<u64>,
    pub final_batches_compared: Option<u64>,
    pub final_differences: Option<u64>,
    /// Next offset to read and last commit of the group, per partition.
    pub group_committed: Vec<i64>,
    /// Boot clock at the kill and when the failover was asked for.
    pub killed_at_ms: u64,
    pub applied_at_ms: u64,
}
