//! A fleet that is being filled from a bucket.

use serde::{Deserialize, Serialize};

use crate::RegionName;

/// Stands from the commit that put the description of another fleet into an empty one until all of its logs are there
/// and at home. Meanwhile `region` is lost and the home of every group, and its logs come from whoever serves the
/// bucket at `address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Told apart from every other by it; chosen by whoever began.
    pub job: String,
    /// The region whose part of the bucket is read.
    pub region: RegionName,
    /// Of the plan: what it names is what comes.
    pub hash: String,
    /// Wall clock of its beginning; for people only.
    pub at_ms: i64,
    /// `HOST:PORT` of the replica stream over the bucket. It moves when another process takes the work over.
    pub address: String,
}
