//! A history, indexed: what the final log says, and which records belong to a lineage that a move ended.

use std::collections::{BTreeMap, HashMap};

use crate::history::{History, Key, Poll, Promotion, Send, Value};

/// Indexes over one history.
pub(super) struct Evidence<'a> {
    pub history: &'a History,
    /// The final log of each partition.
    pub log: BTreeMap<&'a Key, BTreeMap<i64, Vec<Value>>>,
    /// Offsets at which a value stands in the final log.
    pub places: HashMap<(&'a Key, Value), Vec<i64>>,
}

/// Two records that one consumer was given one after the other.
pub(super) struct Step<'a> {
    pub before: &'a Poll,
    pub after: &'a Poll,
    /// The lowest offset that `after` may have.
    pub lowest: i64,
    /// Where reading goes on: whatever is there from here on must have been given.
    pub resume: i64,
    /// `after` belongs to a lineage that ended.
    pub orphan: bool,
}

impl<'a> Evidence<'a> {
    pub fn new(history: &'a History) -> Self {
        let mut log: BTreeMap<&Key, BTreeMap<i64, Vec<Value>>> = BTreeMap::new();
        let mut places: HashMap<(&Key, Value), Vec<i64>> = HashMap::new();
        for record in &history.final_read {
            let values = log
                .entry(&record.key)
                .or_default()
                .entry(record.offset)
                .or_default();
            if !values.contains(&record.value) {
                values.push(record.value);
            }
            let at = places.entry((&record.key, record.value)).or_default();
            if !at.contains(&record.offset) {
                at.push(record.offset);
            }
        }
        Self {
            history,
            log,
            places,
        }
    }

    pub fn is_read(&self, key: &Key, value: Value) -> bool {
        self.places.contains_key(&(key, value))
    }

    fn is_at(&self, key: &Key, offset: i64, value: Value) -> bool {
        self.log
            .get(key)
            .and_then(|log| log.get(&offset))
            .is_some_and(|values| values.contains(&value))
    }

    /// The move that cut off what happened at `offset` and at `at_ns`, if one did.
    pub fn cut_off_by(&self, key: &Key, offset: i64, at_ns: u64) -> Option<(usize, &'a Promotion)> {
        self.history
            .promotions
            .iter()
            .enumerate()
            .find(|(_, p)| at_ns <= p.done_ns && p.cut(key).is_some_and(|cut| offset >= cut))
    }

    /// Acknowledged and not readable.
    pub fn missing(&self) -> impl Iterator<Item = (&'a Send, i64)> {
        self.history
            .acked()
            .filter(|(send, _)| !self.is_read(&send.key, send.value))
    }

    /// The lineage of a record that was seen: `None` is the one that is read at the end. Around the moment of
    /// a move, and until the old home has heard of it, the clock cannot tell old from new; the final log can.
    pub fn lineage(&self, key: &Key, offset: i64, value: Value, at_ns: u64) -> Option<usize> {
        if self.is_at(key, offset, value) {
            None
        } else {
            let promotions = &self.history.promotions;
            promotions
                .iter()
                .position(|p| at_ns <= p.heard_ns && p.cut(key).is_some_and(|cut| offset >= cut))
        }
    }

    /// Where a move went on that may have ended the lineage of `before` by the time of `after`. A record that was
    /// written again at the same offset looks as if it had never been cut off.
    fn cut_between(&self, before: &Poll, after: &Poll) -> Option<i64> {
        let moves = self.history.promotions.iter();
        moves
            .filter(|p| before.at_ns <= p.heard_ns && after.at_ns >= p.asked_ns)
            .filter_map(|p| p.cut(&before.key))
            .filter(|cut| before.offset >= *cut)
            .min()
    }

    /// What every consumer was given, step by step and partition by partition.
    pub fn steps(&self) -> Vec<Step<'a>> {
        let mut last: HashMap<(&str, &Key), &Poll> = HashMap::new();
        let mut steps = Vec::new();
        for after in &self.history.polls {
            if let Some(before) = last.insert((&after.process, &after.key), after) {
                let ended = self.lineage(&before.key, before.offset, before.value, before.at_ns);
                let orphan = self.lineage(&after.key, after.offset, after.value, after.at_ns);
                let next = before.offset.saturating_add(1);
                let cut = self.cut_between(before, after);
                let resume = if ended != orphan {
                    cut.map_or(next, |cut| cut.min(next))
                } else {
                    next
                };
                let lowest = cut.map_or(next, |cut| cut.min(next));
                steps.push(Step {
                    before,
                    after,
                    lowest,
                    resume,
                    orphan: orphan.is_some(),
                });
            }
        }
        steps
    }
}
