//! Byte credit of one sink, dealt out to the sources that feed it.
//!
//! What a source may send was granted by the sink before, so a frame that arrives can always be passed
//! on: this process needs no buffer of its own, and a slow sink slows its sources. On top of that stands
//! a budget of our own over what is promised to sources and what the sink has not fsynced yet.
//!
//! `pool + promised` is what the sink still takes; it changes only when the sink grants more and when a
//! frame is passed on.

use std::collections::BTreeMap;

use whimbrel_fleet::NodeId;

/// A grant smaller than this waits for more, unless the source has nothing left.
const GRANT_BYTES: i64 = 1 << 20;

#[derive(Debug)]
pub struct Credit {
    budget: i64,
    /// Granted by the sink, promised to nobody.
    pool: i64,
    /// Passed on, not yet fsynced.
    unsynced: i64,
    /// The most that was ever granted and not used up: what the sink lets stand open.
    window: i64,
    /// Sources that will share, connected or not: a share must not grow while one of them reconnects.
    sharing: usize,
    promised: BTreeMap<NodeId, i64>,
}

/// A source sends on although it has no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdrawn;

impl Credit {
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            budget: signed(budget_bytes).max(1),
            pool: 0,
            unsynced: 0,
            window: 0,
            sharing: 1,
            promised: BTreeMap::new(),
        }
    }

    /// The stream to the sink is gone, and with it everything it granted.
    pub fn reset(&mut self) {
        *self = Self::new(u64::try_from(self.budget).unwrap_or(1));
    }

    /// How many sources there are to share, connected or not.
    pub fn share_among(&mut self, sources: usize) {
        self.sharing = sources.max(1);
    }

    pub fn granted(&mut self, bytes: u64) {
        self.pool = self.pool.saturating_add(signed(bytes));
        self.window = self.window.max(self.open());
    }

    /// Bytes that the sink still takes.
    pub fn open(&self) -> i64 {
        self.promised
            .values()
            .fold(self.pool, |sum, promised| sum.saturating_add(*promised))
    }

    pub fn unsynced(&self) -> i64 {
        self.unsynced
    }

    pub fn join(&mut self, source: NodeId) {
        self.leave(source);
        self.promised.insert(source, 0);
    }

    /// What was promised to the source can be promised again: its stream is gone.
    pub fn leave(&mut self, source: NodeId) {
        if let Some(promised) = self.promised.remove(&source) {
            self.pool = self.pool.saturating_add(promised);
        }
    }

    /// Records came from `source`. A source may end beyond its credit, by a batch larger than what was
    /// left or by reads it had begun before: that is taken from the pool. Only one that goes on without
    /// measure has overdrawn.
    pub fn received(&mut self, source: NodeId, bytes: usize) -> Result<(), Overdrawn> {
        let open = self.open();
        let promised = self.promised.get_mut(&source).ok_or(Overdrawn)?;
        if bytes > 0 && open <= self.budget.saturating_neg() {
            return Err(Overdrawn);
        }
        let covered = size(bytes).min(*promised);
        *promised -= covered;
        self.pool = self
            .pool
            .saturating_sub(size(bytes).saturating_sub(covered));
        Ok(())
    }

    /// Received records that are not passed on.
    pub fn dropped(&mut self, bytes: usize) {
        self.pool = self.pool.saturating_add(size(bytes));
    }

    pub fn forwarded(&mut self, bytes: usize) {
        self.unsynced = self.unsynced.saturating_add(size(bytes));
    }

    pub fn synced(&mut self, bytes: u64) {
        self.unsynced = self.unsynced.saturating_sub(signed(bytes)).max(0);
    }

    /// What each source may hold when all hold the same.
    fn share(&self) -> i64 {
        let sources = self.sharing.max(self.promised.len());
        (self.budget.min(self.window) / size(sources)).max(1)
    }

    /// Sources that hold more than their share: they joined when there were fewer.
    pub fn hoarders(&self) -> Vec<NodeId> {
        let share = self.share();
        let over = self.promised.iter().filter(|(_, held)| **held > share);
        over.map(|(source, _)| *source).collect()
    }

    /// Promises what may be promised now: source and additional bytes.
    pub fn deal(&mut self) -> Vec<(NodeId, u64)> {
        let share = self.share();
        let mut held = self.unsynced;
        for promised in self.promised.values() {
            held = held.saturating_add((*promised).max(0));
        }
        let mut left = self.pool.min(self.budget.saturating_sub(held));
        let mut grants = Vec::new();
        for (source, promised) in &mut self.promised {
            let grant = share.saturating_sub(*promised).min(left);
            if grant <= 0 || (*promised > 0 && grant < GRANT_BYTES.min(share / 4)) {
                continue;
            }
            *promised = promised.saturating_add(grant);
            self.pool -= grant;
            left -= grant;
            grants.push((*source, u64::try_from(grant).unwrap_or(0)));
        }
        grants
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    #[test]
    fn a_lone_source_gets_what_the_sink_granted_up_to_the_budget() {
        let mut credit = Credit::new(10 << 20);
        credit.join(A);
        credit.granted(4 << 20);
        assert_eq!(credit.deal(), [(A, 4 << 20)]);
        credit.granted(20 << 20);
        assert_eq!(credit.deal(), [(A, 6 << 20)]);
        assert_eq!(credit.deal(), []);
        assert_eq!(credit.open(), 24 << 20);
    }

    #[test]
    fn unsynced_bytes_count_against_the_budget_until_the_sink_has_them() {
        let mut credit = Credit::new(100);
        credit.join(A);
        credit.granted(1000);
        assert_eq!(credit.deal(), [(A, 100)]);
        credit.received(A, 100).unwrap();
        credit.forwarded(100);
        assert_eq!(credit.deal(), []);
        credit.synced(100);
        assert_eq!(credit.deal(), [(A, 100)]);
    }

    #[test]
    fn a_source_that_left_gives_its_promise_back_and_a_hoarder_is_named() {
        let mut credit = Credit::new(1 << 20);
        credit.join(A);
        credit.granted(1 << 20);
        assert_eq!(credit.deal(), [(A, 1 << 20)]);
        credit.join(B);
        assert_eq!(credit.deal(), []);
        assert_eq!(credit.hoarders(), [A]);
        credit.share_among(2);
        credit.leave(A);
        assert_eq!(credit.deal(), [(B, 1 << 19)]);
        credit.join(A);
        assert_eq!(credit.deal(), [(A, 1 << 19)]);
    }

    #[test]
    fn what_goes_beyond_the_credit_is_taken_from_the_pool_and_has_an_end() {
        let mut credit = Credit::new(100);
        credit.join(A);
        credit.granted(10);
        credit.deal();
        assert_eq!(credit.received(A, 15), Ok(()));
        assert_eq!(credit.open(), -5);
        assert_eq!(credit.received(A, 95), Ok(()));
        assert_eq!(credit.received(A, 1), Err(Overdrawn));
        assert_eq!(credit.received(A, 0), Ok(()));
        credit.granted(120);
        assert_eq!(credit.deal(), [(A, 20)]);
    }
}
