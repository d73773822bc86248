//! Lossy moves of other failover groups than the one that the coordinator moves with (design: "Moves").
//!
//! Positions in what moved stand here in a log that was not cut. When such a move is in the view, each partition of
//! `__consumer_offsets` is read again, and before anything more is answered: the members of groups that read what moved are
//! let go, positions above the promotion offsets are set back, and a record says so ([`Entry::Move`](super::super::records::Entry)).
//! Below that record all is of before; where it stands, nothing is done again, by whoever leads; where a home was lost with it,
//! everything is.
//!
//! What moved does not wait for this. A position of the leader epoch that the move opened, or of a later one, is of what came
//! after it and stays. Of a client that tells no leader epochs, what it read after the move and committed before the move was
//! heard of here comes again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    super::{
        embedded::{CONSUMER, Subscription},
        machine::{GroupRecord, Now},
        records::Entry,
    },
    Clamped, Limits, MoveId,
    load::{Loaded, emptied},
    shard::{Progress, Shard},
};

/// Where the log says which moves positions were set back to.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeMap<MoveId, i64>);

impl Marks {
    pub(super) fn add(&mut self, id: MoveId, log_offset: i64) {
        self.0.insert(id, log_offset);
    }

    /// Where it says so of this move, or of a later one of its group: compaction leaves the latest.
    pub(super) fn covering(&self, id: &MoveId) -> Option<i64> {
        let (found, at) = self.0.range(id..).next()?;
        (found.group == id.group).then_some(*at)
    }
}

/// A move that the positions of a partition were set back to.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) limits: Arc<Limits>,
    /// Where the log says so.
    pub(super) at: i64,
    /// What was set back just now.
    pub(super) clamped: Vec<Clamped>,
}

/// What became of the moves that a partition followed, while it is led here.
pub(super) type Report = BTreeMap<MoveId, Vec<Clamped>>;

impl Shard {
    /// Waits until positions were set back to this move of another failover group, and tells which. None: the leadership
    /// is over.
    pub(super) async fn followed(&self, id: &MoveId) -> Option<Vec<Clamped>> {
        let mut progress = self.progress.subscribe();
        let done = progress
            .wait_for(|progress| match progress {
                Progress::Loading => false,
                Progress::Loaded(_, report) => report.contains_key(id),
                Progress::Closed => true,
            })
            .await
            .ok()?;
        match &*done {
            Progress::Loaded(_, report) => report.get(id).cloned(),
            Progress::Loading | Progress::Closed => None,
        }
    }

    /// These are the lossy moves of other failover groups. If one is new, nothing is answered until it was followed.
    pub(super) fn follow(&self, moves: &[Arc<Limits>]) {
        let mut state = self.state.lock();
        let is_known = |new: &Arc<Limits>| state.moves.iter().any(|m| m.id() == new.id());
        if state.closed || moves.iter().all(is_known) {
            return;
        }
        state.moves = moves.to_vec();
        state.again = true;
        state.active = false;
        drop(state);
        self.stirred.notify_one();
    }

    /// What the beginning that is about to be made follows.
    pub(super) fn to_follow(&self) -> Vec<Arc<Limits>> {
        let mut state = self.state.lock();
        state.again = false;
        state.moves.clone()
    }

    pub(super) fn begins_again(&self) -> bool {
        self.state.lock().again
    }
}

impl Loaded {
    /// Takes out the members of groups that read what a move cut, and tells what says so.
    pub(super) fn let_readers_go(&mut self, limits: &Limits, now: Now) -> Vec<Entry> {
        let positions = self.offsets.iter().chain(self.undecided.iter());
        let with_positions: HashSet<String> = positions
            .filter(|(_, at, _)| limits.concerns(&at.topic))
            .map(|(group, _, _)| group.to_owned())
            .collect();
        let mut entries = Vec::new();
        for (id, record) in &mut self.groups {
            let reads = with_positions.contains(id) || subscribes(record, limits);
            if reads && !record.members.is_empty() {
                entries.push(emptied(id, record, now));
            }
        }
        for (id, stored) in &mut self.consumers {
            if with_positions.contains(id) || stored.reads(|topic| limits.concerns(topic)) {
                let changes = stored.let_go(|_| true).into_iter();
                entries.extend(changes.map(|change| Entry::Consumer {
                    group: id.clone(),
                    change,
                }));
            }
        }
        entries
    }
}

/// Whether members of a classic group read what moved. A consumer's subscription that cannot be read counts as reading
/// all; what other kinds of members say is theirs.
fn subscribes(record: &GroupRecord, limits: &Limits) -> bool {
    let topics: BTreeSet<_> = record
        .members
        .iter()
        .map(|member| Subscription::read(&member.subscription).map(|s| s.topics))
        .collect();
    let reads = |topics: &Option<Vec<String>>| match topics {
        Some(topics) => topics.iter().any(|topic| limits.concerns(topic)),
        None => true,
    };
    record.protocol_type == CONSUMER && topics.iter().any(reads)
}
