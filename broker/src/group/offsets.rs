//! Committed positions of the groups of one partition of `__consumer_offsets`.
//!
//! Only what is durable stands here: the host applies a position after its record was acknowledged. Every position
//! remembers where in the log its record stands, so that after a move those written before can be told from those
//! written after. No clock and no IO.

use std::collections::{BTreeMap, HashMap};

use whimbrel_wire::ErrorCode;

/// `offset.metadata.max.bytes`: longest text beside a position, counted in UTF-16 as Kafka does whatever its name says.
pub const METADATA_MAX_BYTES: usize = 4096;

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset the group wants.
    pub offset: i64,
    /// Leader epoch of the last record consumed; -1 if the client did not say.
    pub leader_epoch: i32,
    /// The client's text, no longer than [`METADATA_MAX_BYTES`].
    pub metadata: String,
    /// Wall clock of the commit, ms.
    pub commit_ms: i64,
    /// When it lapses whatever the group does (v1 of the record), ms.
    pub expire_ms: Option<i64>,
    /// Offset of its record in the log.
    pub log_offset: i64,
}

/// A position's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: i32,
}

/// When positions lapse.
#[derive(Clone, Copy)]
pub enum Lapse<'a> {
    /// A group without members: its retention counts from when it lost them.
    EmptySince(i64),
    /// A group that never had members: from each commit.
    SinceCommit,
    /// A group with members: from each commit, for topics nobody reads any more.
    Unless(&'a dyn Fn(&str) -> bool),
}

impl std::fmt::Debug for Lapse<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Lapse::EmptySince(_) => "EmptySince",
            Lapse::SinceCommit => "SinceCommit",
            Lapse::Unless(_) => "Unless",
        })
    }
}

fn is_too_long(text: &str) -> bool {
    text.len() > METADATA_MAX_BYTES && text.encode_utf16().count() > METADATA_MAX_BYTES
}

type Positions = BTreeMap<TopicPartition, Committed>;

/// Positions by group.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    groups: HashMap<String, Positions>,
}

impl Offsets {
    /// Whether a commit may be written.
    ///
    /// # Errors
    /// OFFSET_METADATA_TOO_LARGE, or INVALID_COMMIT_OFFSET_SIZE for a negative position.
    pub fn check(offset: i64, metadata: Option<&str>) -> Result<(), ErrorCode> {
        if metadata.is_some_and(is_too_long) {
            return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
        }
        if offset < 0 {
            Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
        } else {
            Ok(())
        }
    }

    /// A position's record is durable. An older record never replaces a newer one.
    pub fn apply(&mut self, group: &str, at: TopicPartition, committed: Committed) {
        let positions = match self.groups.get_mut(group) {
            Some(positions) => positions,
            None => self.groups.entry(group.to_owned()).or_default(),
        };
        if positions
            .get(&at)
            .is_none_or(|held| held.log_offset <= committed.log_offset)
        {
            positions.insert(at, committed);
        }
    }

    /// A tombstone is durable.
    pub fn remove(&mut self, group: &str, at: &TopicPartition) {
        if let Some(positions) = self.groups.get_mut(group) {
            positions.remove(at);
            if positions.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// One position.
    #[must_use]
    pub fn get(&self, group: &str, at: &TopicPartition) -> Option<&Committed> {
        self.groups.get(group)?.get(at)
    }

    /// All positions of a group, by topic and partition.
    pub fn of(&self, group: &str) -> impl Iterator<Item = (&TopicPartition, &Committed)> {
        self.groups.get(group).into_iter().flatten()
    }

    /// Whether the group has any position.
    #[must_use]
    pub fn contains(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// The groups that have positions.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }

    /// Every position of every group.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &TopicPartition, &Committed)> {
        self.groups.iter().flat_map(|(group, positions)| {
            positions
                .iter()
                .map(move |(at, committed)| (group.as_str(), at, committed))
        })
    }

    /// The positions of a group that have lapsed.
    #[must_use]
    pub fn lapsed(
        &self,
        group: &str,
        now_ms: i64,
        retention_ms: i64,
        rule: Lapse<'_>,
    ) -> Vec<TopicPartition> {
        let over = |since_ms: i64| now_ms.saturating_sub(since_ms) >= retention_ms;
        let lapsed = |at: &TopicPartition, committed: &Committed| match (committed.expire_ms, rule)
        {
            (Some(expire_ms), Lapse::EmptySince(_) | Lapse::SinceCommit) => now_ms >= expire_ms,
            // A position committed after the group emptied (a tool did it) counts from its commit.
            (None, Lapse::EmptySince(since_ms)) => over(since_ms.max(committed.commit_ms)),
            (None, Lapse::SinceCommit) => over(committed.commit_ms),
            (_, Lapse::Unless(reads)) => !reads(&at.topic) && over(committed.commit_ms),
        };
        self.of(group)
            .filter(|(at, committed)| lapsed(at, committed))
            .map(|(at, _)| at.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: topic.to_owned(),
            partition,
        }
    }

    fn position(offset: i64, log_offset: i64, commit_ms: i64) -> Committed {
        Committed {
            offset,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms,
            expire_ms: None,
            log_offset,
        }
    }

    #[test]
    fn metadata_up_to_its_limit_is_kept_and_beyond_refused() {
        let text = "x".repeat(METADATA_MAX_BYTES);
        assert_eq!(Offsets::check(0, Some(&text)), Ok(()));
        assert_eq!(
            Offsets::check(0, Some(&format!("{text}x"))),
            Err(ErrorCode::OFFSET_METADATA_TOO_LARGE)
        );
        let wide = "é".repeat(METADATA_MAX_BYTES);
        assert_eq!(Offsets::check(0, Some(&wide)), Ok(()));
        assert_eq!(
            Offsets::check(0, Some(&format!("{wide}é"))),
            Err(ErrorCode::OFFSET_METADATA_TOO_LARGE)
        );
        assert_eq!(
            Offsets::check(-1, None),
            Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE)
        );
    }

    #[test]
    fn an_older_record_does_not_replace_a_newer_one() {
        let mut offsets = Offsets::default();
        offsets.apply("g", at("t", 0), position(10, 5, 0));
        offsets.apply("g", at("t", 0), position(7, 4, 0));
        assert_eq!(offsets.get("g", &at("t", 0)).unwrap().offset, 10);
        offsets.remove("g", &at("t", 0));
        assert!(!offsets.contains("g"));
    }

    #[test]
    fn an_empty_groups_positions_lapse_from_when_it_emptied() {
        let mut offsets = Offsets::default();
        offsets.apply("g", at("t", 0), position(1, 0, 100));
        assert!(
            offsets
                .lapsed("g", 1_000, 500, Lapse::EmptySince(600))
                .is_empty()
        );
        assert_eq!(
            offsets.lapsed("g", 1_100, 500, Lapse::EmptySince(600)),
            [at("t", 0)]
        );
    }

    #[test]
    fn a_group_with_members_keeps_what_it_reads() {
        let mut offsets = Offsets::default();
        offsets.apply("g", at("read", 0), position(1, 0, 0));
        offsets.apply("g", at("left", 0), position(1, 1, 0));
        let reads = |topic: &str| topic == "read";
        assert_eq!(
            offsets.lapsed("g", 1_000, 500, Lapse::Unless(&reads)),
            [at("left", 0)]
        );
    }

    #[test]
    fn a_position_with_its_own_end_lapses_then() {
        let mut offsets = Offsets::default();
        let own = Committed {
            expire_ms: Some(50),
            ..position(1, 0, 0)
        };
        offsets.apply("g", at("t", 0), own);
        assert!(offsets.lapsed("g", 49, 10, Lapse::SinceCommit).is_empty());
        assert_eq!(offsets.lapsed("g", 50, 1_000, Lapse::SinceCommit).len(), 1);
    }

    proptest! {
        /// In whatever order acknowledgements are applied, the record furthest in the log wins.
        #[test]
        fn the_newest_record_wins_in_any_order(order in Just((0..20_i64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut offsets = Offsets::default();
            for log_offset in order {
                offsets.apply("g", at("t", 0), position(log_offset * 3, log_offset, 0));
            }
            prop_assert_eq!(offsets.get("g", &at("t", 0)).unwrap().offset, 57);
        }
    }
}
