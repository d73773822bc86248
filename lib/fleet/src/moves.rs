//! Moves of a failover group: what is planned, what fences the old home, what was done and what it cost.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    GroupName, LeaderEpoch, LossBound, NodeId, Position, RegionEpoch, RegionName, TopicPartition,
};

/// How a group changes its home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveMode {
    /// Planned: the home parks writes and drains; nothing is lost.
    Switchover,
    /// Unplanned: the home is not asked; what had not arrived is lost within the bound.
    Failover,
    /// The old home takes the group back after it has caught up; otherwise as a switchover.
    Failback,
}

/// The loss that an operator accepts, checked against the bound after the fence's wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceptLoss {
    None,
    /// At most so many records.
    Records(u64),
    /// Whatever it is, also when no surviving majority can name a bound.
    Unknown,
}

impl AcceptLoss {
    pub fn allows(&self, bound: LossBound) -> bool {
        match (self, bound) {
            (Self::Unknown, _) => true,
            (_, LossBound::Unknown) => false,
            (Self::None, LossBound::AtMost(p)) => p.records == 0,
            (Self::Records(most), LossBound::AtMost(p)) => p.records <= *most,
        }
    }
}

/// Committed before anything else of a move: no voter grants a lease below `epoch` from here on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The region epoch that the move will open.
    pub epoch: RegionEpoch,
    pub to: RegionName,
    pub mode: MoveMode,
    pub accept_loss: AcceptLoss,
    /// Hash of the plan that the operator saw.
    pub plan: String,
}

/// Where a partition goes on: the log end of the new home's most advanced in-sync replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// Epoch of the last record below `offset`, -1 for an empty log.
    pub epoch: LeaderEpoch,
    pub offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionMove {
    pub at: TopicPartition,
    pub leader: NodeId,
    pub promotion: Promotion,
    /// The leader epoch that it goes on in: a position of that epoch or a later one is of what came after the move.
    /// Moves of before this was written down do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<LeaderEpoch>,
}

/// A committed move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    pub epoch: RegionEpoch,
    pub from: RegionName,
    pub to: RegionName,
    pub mode: MoveMode,
    /// Records that the old home had acknowledged may be missing here.
    pub lossy: bool,
    /// The old home's brokers leave Metadata until they register again.
    pub declared_lost: bool,
    pub bound: LossBound,
    pub partitions: Vec<PartitionMove>,
    /// Wall clock of the controller leader when it proposed the move; for people only.
    pub at_ms: i64,
}

impl Move {
    pub fn promotion(&self, at: TopicPartition) -> Option<Promotion> {
        self.partitions
            .iter()
            .find(|p| p.at == at)
            .map(|p| p.promotion)
    }
}

/// What a move would do. The hash covers what is done, not the numbers, which move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    pub group: GroupName,
    pub from: RegionName,
    pub to: RegionName,
    pub mode: MoveMode,
    /// Region epoch that the move would open.
    pub epoch: RegionEpoch,
    pub partitions: usize,
    pub topics: usize,
    /// Brokers of the old home that answered the controller within the last lease.
    pub home_alive: bool,
    pub bound: LossBound,
    /// Home's position as last reported, durable position of the target as last reported.
    pub home: Option<Position>,
    pub target: Position,
    /// Age of the target's newest data against the home, as the target's mirror sees it.
    pub behind_ms: Option<u64>,
    /// Why this move cannot be applied now, in words with a code; empty = it can.
    pub refused: Vec<String>,
    pub hash: String,
}

impl MovePlan {
    /// FNV-1a over what will be done: enough to notice that the fleet is no longer the one that was planned for.
    pub fn compute_hash(&self) -> String {
        let text = format!(
            "{}|{}|{}|{:?}|{}",
            self.group, self.from, self.to, self.mode, self.epoch
        );
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{:06x}", hash & 0xff_ffff)
    }
}

/// A group position that pointed past the promotion offset and was set back by an offset record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clamp {
    pub consumer_group: String,
    pub topic: String,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
}

/// A tail of an old home above the common (epoch, offset), exported before it was truncated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReport {
    pub topic: String,
    pub at: TopicPartition,
    pub from_offset: i64,
    /// Exclusive.
    pub to_offset: i64,
    pub records: u64,
    pub bytes: u64,
    /// Same producer id, epoch and sequence also found in the new lineage.
    pub also_in_new: u64,
    pub acked_and_lost: u64,
    pub unknown: u64,
    /// Key of the object that holds the batches.
    pub object: String,
}

/// How a move ended, kept by the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    pub group: GroupName,
    pub outcome: MoveOutcome,
    pub plan: MovePlan,
    /// The bound measured again after the fence's wait.
    pub bound: LossBound,
    pub partitions: Vec<PartitionMove>,
    pub clamps: Vec<Clamp>,
    pub fence_ms: u64,
    pub total_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveOutcome {
    Running {
        step: String,
    },
    Done,
    /// Nothing moved; the home goes on in a new epoch. The reason has a code.
    Aborted {
        reason: String,
    },
}

impl fmt::Display for MoveMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Switchover => "switchover",
            Self::Failover => "failover",
            Self::Failback => "failback",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bound_needs_its_own_consent() {
        let some = LossBound::AtMost(Position {
            records: 5,
            bytes: 1,
        });
        assert!(!AcceptLoss::Records(u64::MAX).allows(LossBound::Unknown));
        assert!(AcceptLoss::Unknown.allows(LossBound::Unknown));
        assert!(AcceptLoss::Records(5).allows(some));
        assert!(!AcceptLoss::Records(4).allows(some));
        assert!(!AcceptLoss::None.allows(some));
    }

    #[test]
    fn the_hash_ignores_numbers_that_move() {
        let mut plan = MovePlan {
            group: "default".into(),
            from: "east".into(),
            to: "west".into(),
            mode: MoveMode::Failover,
            epoch: RegionEpoch(2),
            partitions: 1,
            topics: 1,
            home_alive: false,
            bound: LossBound::Unknown,
            home: None,
            target: Position::default(),
            behind_ms: None,
            refused: vec![],
            hash: String::new(),
        };
        let before = plan.compute_hash();
        plan.target.records = 9;
        assert_eq!(plan.compute_hash(), before);
        plan.epoch = RegionEpoch(3);
        assert_ne!(plan.compute_hash(), before);
    }
}
