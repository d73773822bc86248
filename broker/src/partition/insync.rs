//! The ack set of a led partition: who is in it, how far each follower of the region is, and who should
//! join or leave.
//!
//! A leaver counts until its leaving is committed; a joiner counts from before the proposal is sent, since
//! it may be committed at any time from then on. So what is waited for always includes the committed set,
//! and whoever is elected from that holds what was acknowledged.
//!
//! Arithmetic only: instants come in as CLOCK_BOOTTIME nanoseconds.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::NodeId;

use super::progress::{Progress, keeps_up};

/// What the view says of a led partition's copies. This broker is left out of the sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AckSet {
    /// The committed ack set.
    pub isr: BTreeSet<NodeId>,
    /// Live replicas of the region.
    pub candidates: BTreeSet<NodeId>,
    /// The partition's version in the view.
    pub version: u32,
    /// `min.insync.replicas`.
    pub min: usize,
}

#[derive(Debug, Default)]
pub(super) struct Insync {
    set: AckSet,
    /// Proposed to join; the outcome is not known.
    joining: BTreeSet<NodeId>,
    followers: BTreeMap<NodeId, Progress>,
    /// When this broker began to lead.
    since_ns: u64,
}

impl Insync {
    /// Leads from now on; nothing is known of anybody.
    pub(super) fn begin(&mut self, now_ns: u64) {
        *self = Self {
            set: std::mem::take(&mut self.set),
            since_ns: now_ns,
            ..Self::default()
        };
    }

    /// A new view. True when something is different.
    pub(super) fn set(&mut self, set: AckSet) -> bool {
        if self.set == set {
            return false;
        }
        if self.set.version != set.version {
            // Committed, or overtaken by what was committed instead.
            self.joining.clear();
        }
        // A fence in the view refuses every proposal with that broker that is not in the view yet.
        self.joining.retain(|n| set.candidates.contains(n));
        self.followers.retain(|n, _| set.candidates.contains(n));
        self.set = set;
        true
    }

    /// The follower holds everything below `end` fsynced; ours ends at `log_end`.
    pub(super) fn note(&mut self, node: NodeId, end: i64, log_end: i64, now_ns: u64) {
        self.followers
            .entry(node)
            .or_insert_with(|| Progress::new(end, log_end, now_ns))
            .note(end, log_end, now_ns);
    }

    /// The lowest end that is waited for, this broker's own left out; `None` when it is alone.
    pub(super) fn held(&self) -> Option<i64> {
        let waited = self.set.isr.union(&self.joining);
        waited
            .map(|n| self.followers.get(n).map_or(0, |f| f.end))
            .min()
    }

    /// How far a follower is that is in the committed set.
    pub(super) fn end_of(&self, node: NodeId) -> Option<i64> {
        let follower = self
            .followers
            .get(&node)
            .filter(|_| self.set.isr.contains(&node))?;
        Some(follower.end)
    }

    pub(super) fn is_enough(&self) -> bool {
        self.set.isr.len().saturating_add(1) >= self.set.min
    }

    /// Any follower of the region may be waited for or wait to join.
    pub(super) fn is_shared(&self) -> bool {
        !self.set.candidates.is_empty() || !self.set.isr.is_empty()
    }

    /// True when the follower has just reached what a joiner needs.
    pub(super) fn may_join(&self, node: NodeId, needed: i64) -> bool {
        !self.set.isr.contains(&node)
            && !self.joining.contains(&node)
            && self.set.candidates.contains(&node)
            && self.followers.get(&node).is_some_and(|f| f.end >= needed)
    }

    /// The set to propose, with the version it is proposed for; `None` when the present one is right.
    /// Who joins counts from now on.
    pub(super) fn propose(
        &mut self,
        needed: i64,
        log_end: i64,
        now_ns: u64,
        lag_ns: u64,
    ) -> Option<(u32, BTreeSet<NodeId>)> {
        let since_ns = Some(self.since_ns);
        let stays = |n: &&NodeId| {
            let follower = self.followers.get(n);
            keeps_up(follower, since_ns, log_end, now_ns, lag_ns)
        };
        let joins = |n: &&NodeId| self.joining.contains(n) || self.may_join(**n, needed);
        let mut wanted: BTreeSet<NodeId> = self.set.isr.iter().filter(stays).copied().collect();
        wanted.extend(self.set.candidates.iter().filter(joins));
        if wanted == self.set.isr {
            return None;
        }
        self.joining
            .extend(wanted.difference(&self.set.isr).copied());
        Some((self.set.version, wanted))
    }

    /// When this broker began to lead.
    pub(super) fn since_ns(&self) -> u64 {
        self.since_ns
    }

    pub(super) fn size(&self) -> usize {
        self.set.isr.len().saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const LAG: u64 = 100;

    fn set(isr: &[NodeId], version: u32) -> AckSet {
        AckSet {
            isr: isr.iter().copied().collect(),
            candidates: BTreeSet::from([B, C]),
            version,
            min: 2,
        }
    }

    fn leader(isr: &[NodeId]) -> Insync {
        let mut insync = Insync::default();
        insync.set(set(isr, 1));
        insync.begin(0);
        insync
    }

    #[test]
    fn nothing_is_held_before_every_member_has_spoken_and_the_lowest_counts() {
        let mut i = leader(&[B, C]);
        assert_eq!(i.held(), Some(0));
        i.note(B, 10, 10, 1);
        assert_eq!(i.held(), Some(0));
        i.note(C, 7, 10, 1);
        assert_eq!(i.held(), Some(7));
        assert_eq!(leader(&[]).held(), None, "alone");
    }

    #[test]
    fn a_laggard_counts_until_its_leaving_is_committed() {
        let mut i = leader(&[B, C]);
        i.note(B, 10, 10, 50);
        i.note(C, 4, 10, 50);
        assert_eq!(
            i.propose(10, 10, 100, LAG),
            None,
            "it may lag for this long"
        );
        let proposed = i.propose(10, 10, 101, LAG);
        assert_eq!(proposed, Some((1, BTreeSet::from([B]))));
        assert_eq!(i.held(), Some(4));
        i.set(set(&[B], 2));
        assert_eq!(i.held(), Some(10));
    }

    #[test]
    fn a_slow_follower_that_keeps_reaching_earlier_ends_stays() {
        let mut i = leader(&[B]);
        i.note(B, 0, 10, 10);
        i.note(B, 10, 50, 90);
        i.note(B, 50, 90, 170);
        assert_eq!(
            i.propose(90, 90, 180, LAG),
            None,
            "it was caught up at 90 and lags since"
        );
        assert!(i.propose(90, 90, 191, LAG).is_some());
    }

    #[test]
    fn an_idle_partition_keeps_who_has_everything() {
        let mut i = leader(&[B]);
        i.note(B, 10, 10, 1);
        assert_eq!(i.propose(10, 10, 1_000_000, LAG), None);
    }

    #[test]
    fn a_joiner_counts_before_it_is_committed_and_no_more_once_it_is_fenced() {
        let mut i = leader(&[B]);
        i.note(B, 10, 10, 1);
        i.note(C, 8, 10, 1);
        assert_eq!(
            i.propose(9, 10, 2, LAG),
            None,
            "it has not reached what was acknowledged"
        );
        i.note(C, 9, 10, 3);
        assert!(i.may_join(C, 9));
        assert_eq!(i.propose(9, 10, 3, LAG), Some((1, BTreeSet::from([B, C]))));
        assert_eq!(i.held(), Some(9));
        assert_eq!(
            i.propose(9, 10, 4, LAG),
            Some((1, BTreeSet::from([B, C]))),
            "asked again until the view answers"
        );
        let fenced = AckSet {
            candidates: BTreeSet::from([B]),
            ..set(&[B], 1)
        };
        i.set(fenced);
        assert_eq!(i.held(), Some(10));
    }

    #[test]
    fn the_committed_set_decides_what_is_enough() {
        let mut i = leader(&[]);
        assert!(!i.is_enough());
        i.note(B, 10, 10, 1);
        i.propose(0, 10, 2, LAG);
        assert!(!i.is_enough(), "a proposal is no copy to count on");
        i.set(set(&[B], 2));
        assert!(i.is_enough());
    }
}
