//! Lease arithmetic on one machine's CLOCK_BOOTTIME (it counts suspend), in nanoseconds.

use serde::{Deserialize, Serialize};

use crate::{Ceiling, GroupName, Incarnation, NodeId, RegionEpoch, RegionName};

/// What a home broker asks every voter for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub region: RegionName,
    pub group: GroupName,
    pub epoch: RegionEpoch,
    pub ceiling: Ceiling,
    /// Version of the view that the broker works from and that the ceiling's sums were taken over. A voter
    /// that has fenced the broker grants nothing below that fence.
    #[serde(default)]
    pub view_version: u64,
    /// The start of the voter that the broker was told. A voter grants only to its own: it has forgotten
    /// what it granted before, and a request from then could name less.
    #[serde(default)]
    pub voter_start: Option<Incarnation>,
}

/// A voter's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Yes,
    /// The voter's raft log holds a fence or a newer epoch.
    Fenced {
        epoch: RegionEpoch,
    },
    /// The voter does not know this incarnation, group or region as home (yet), is no voter any more, or
    /// was not asked at its present start.
    Unknown,
}

/// A lease held: valid until the instant of *sending* plus the lease's length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Exclusive end on CLOCK_BOOTTIME, nanoseconds.
    pub until_ns: u64,
    pub ceiling: Ceiling,
}

impl Lease {
    /// The lease that a majority granted to a request sent at `sent_ns`.
    pub fn granted(sent_ns: u64, lease_ms: u64, ceiling: Ceiling) -> Self {
        Self {
            until_ns: sent_ns.saturating_add(lease_ms.saturating_mul(1_000_000)),
            ceiling,
        }
    }

    pub fn valid_at(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }
}

/// More than half of the voters.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// How long a move waits after its fence is committed: lease + 10 % + 200 ms, on the waiter's own
/// monotonic clock, so that the slowest clock allowed to the holder has run out.
pub fn fence_wait_ms(lease_ms: u64) -> u64 {
    lease_ms.saturating_add(lease_ms / 10).saturating_add(200)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_sending_and_its_end_is_exclusive() {
        let lease = Lease::granted(5_000_000, 2, Ceiling::default());
        assert!(lease.valid_at(6_999_999));
        assert!(!lease.valid_at(7_000_000));
    }

    #[test]
    fn majorities() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn the_wait_outlasts_the_lease() {
        assert_eq!(fence_wait_ms(1_000), 1_300);
    }
}
