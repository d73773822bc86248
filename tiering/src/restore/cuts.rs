//! Which cut: the newest that is wholly there, of those at or before the time that was asked for.

use std::collections::BTreeMap;

use whimbrel_fleet::{
    GroupName, TopicPartition,
    cut::{Cut, Known, Standing, format},
};
use whimbrel_wire::Record;

use super::{Described, Extent};

/// What the bucket holds of every partition, up to where it is there, and up to where the roots say.
#[derive(Debug)]
pub struct Ends<'a> {
    described: &'a Described,
    partitions: BTreeMap<TopicPartition, (Standing, Standing)>,
}

impl<'a> Ends<'a> {
    pub fn new(described: &'a Described, extents: &BTreeMap<TopicPartition, Extent>) -> Self {
        let partitions = extents
            .iter()
            .map(|(at, extent)| (*at, (extent.there(), extent.named())))
            .collect();
        Self {
            described,
            partitions,
        }
    }

    /// The first partition of `cut` that is not wholly there.
    fn lacks(&self, cut: &Cut, named: bool) -> Option<TopicPartition> {
        let known = |at: TopicPartition| match self.partitions.get(&at) {
            _ if self.described.is_deleted(at.topic_id, cut.view_version) => Known::Deleted,
            Some((there, root)) => Known::Stands(if named { root } else { there }),
            None => Known::Unknown,
        };
        let lacks = |(at, end): (&TopicPartition, &whimbrel_fleet::cut::End)| match known(*at) {
            Known::Stands(standing) => (!standing.holds(*end)).then_some(*at),
            Known::Deleted => None,
            Known::Unknown => (end.offset > 0).then_some(*at),
        };
        cut.ends.iter().find_map(lacks)
    }
}

/// A cut, and where it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    pub offset: i64,
    pub cut: Cut,
}

/// Looks at the cuts of one group in the order of their log and keeps the newest of each kind.
#[derive(Debug)]
pub struct Picker<'a> {
    ends: &'a Ends<'a>,
    pub group: &'a GroupName,
    asked_ms: Option<i64>,
    /// All below it is there.
    pub whole: Option<Picked>,
    /// All below it is named by roots, and the first partition of which something is lost.
    pub named: Option<(Picked, Option<TopicPartition>)>,
    /// The newest that was looked at, and the first partition that it lacks.
    pub lacking: Option<(i64, TopicPartition)>,
    pub oldest_ms: Option<i64>,
    pub seen: u64,
}

impl<'a> Picker<'a> {
    pub fn new(ends: &'a Ends<'a>, group: &'a GroupName, asked_ms: Option<i64>) -> Self {
        Self {
            ends,
            group,
            asked_ms,
            whole: None,
            named: None,
            lacking: None,
            oldest_ms: None,
            seen: 0,
        }
    }

    /// For an older part of the same log.
    pub fn beside(&self) -> Self {
        Self::new(self.ends, self.group, self.asked_ms)
    }

    /// A record that is no cut of the group is passed over.
    pub fn offer(&mut self, record: &Record) {
        let (Some(key), Some(value)) = (&record.key, &record.value) else {
            return;
        };
        let Ok(cut) = format::decode(key, value) else {
            return;
        };
        if cut.group != *self.group {
            return;
        }
        self.seen += 1;
        let oldest = self.oldest_ms.map_or(cut.taken_ms, |o| o.min(cut.taken_ms));
        self.oldest_ms = Some(oldest);
        if self.asked_ms.is_some_and(|asked| cut.taken_ms > asked) {
            return;
        }
        let lacks = self.ends.lacks(&cut, false);
        let named = lacks.is_none() || self.ends.lacks(&cut, true).is_none();
        self.lacking = lacks.map(|at| (cut.taken_ms, at));
        let picked = Picked {
            offset: record.offset,
            cut,
        };
        if lacks.is_none() {
            self.whole = Some(picked.clone());
        }
        if named {
            self.named = Some((picked, lacks));
        }
    }

    /// Takes up what was found in an older part of the log, where nothing newer was.
    pub fn or(&mut self, older: Self) {
        self.seen += older.seen;
        self.oldest_ms = older.oldest_ms.or(self.oldest_ms);
        self.whole = self.whole.take().or(older.whole);
        self.named = self.named.take().or(older.named);
        self.lacking = self.lacking.or(older.lacking);
    }
}
