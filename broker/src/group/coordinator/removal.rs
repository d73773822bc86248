//! What leaves a partition: groups that are deleted, positions of topics that are gone, and what has lapsed.

use whimbrel_wire::ErrorCode;

use super::{
    super::{
        consumer,
        machine::{Now, State},
        offsets::{Lapse, TopicPartition},
        records::Entry,
    },
    shard::Contents,
};

impl Contents {
    /// The records that delete a group.
    pub(super) fn deletion(&mut self, id: &str) -> Result<Vec<Entry>, ErrorCode> {
        if let Some(group) = self.consumers.get(id) {
            if group.state() != consumer::State::Empty {
                return Err(ErrorCode::NON_EMPTY_GROUP);
            }
            let places = self.offsets.of(id).map(|(at, _)| at.clone()).collect();
            let mut entries = tombstones(id, places);
            entries.extend(self.consumer_tombstones(id));
            return Ok(entries);
        }
        match self.groups.get(id) {
            None if !self.offsets.contains(id) => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
            Some(group) if group.state() != State::Empty => return Err(ErrorCode::NON_EMPTY_GROUP),
            _ => {}
        }
        let places = self.offsets.of(id).map(|(at, _)| at.clone()).collect();
        let mut entries = tombstones(id, places);
        entries.extend(self.group_tombstone(id));
        Ok(entries)
    }

    /// The tombstone of a group's own record, if it ever had one; the group is gone from here on.
    fn group_tombstone(&mut self, id: &str) -> Option<Entry> {
        let mut group = self.groups.remove(id)?;
        for effect in group.close(ErrorCode::COORDINATOR_NOT_AVAILABLE) {
            self.answer(effect);
        }
        Some(Entry::Group {
            group: id.to_owned(),
            record: None,
        })
    }

    /// The tombstones of a consumer group without members; it is gone from here on.
    fn consumer_tombstones(&mut self, id: &str) -> Vec<Entry> {
        let removal = self.consumers.remove(id).map(|group| group.removal());
        let entry = |change| Entry::Consumer {
            group: id.to_owned(),
            change,
        };
        removal.into_iter().flatten().map(entry).collect()
    }

    /// The records that remove these positions of a group, as far as it has them.
    pub(super) fn removal_of(&self, id: &str, places: Vec<TopicPartition>) -> Vec<Entry> {
        let held = places
            .into_iter()
            .filter(|at| self.offsets.get(id, at).is_some());
        tombstones(id, held.collect())
    }

    /// The records that remove the positions of these topics.
    pub(super) fn forget(&self, topics: &[String]) -> Vec<Entry> {
        let of_topic = self
            .offsets
            .iter()
            .filter(|(_, at, _)| topics.contains(&at.topic));
        of_topic
            .map(|(group, at, _)| Entry::Position {
                group: group.to_owned(),
                at: at.clone(),
                committed: None,
            })
            .collect()
    }

    /// The records that remove what has lapsed, up to about `max`.
    pub(super) fn lapsed(&mut self, retention_ms: i64, now: Now, max: usize) -> Vec<Entry> {
        let mut ids: Vec<_> = self.offsets.groups().map(str::to_owned).collect();
        ids.extend(
            self.groups
                .keys()
                .chain(self.consumers.keys())
                .filter(|id| !self.offsets.contains(id))
                .cloned(),
        );
        let mut entries = Vec::new();
        for id in ids {
            if entries.len() >= max {
                break;
            }
            if let Some(group) = self.consumers.get(&id) {
                let reads = |topic: &str| group.subscribes(topic);
                let rule = Lapse::Unless(&reads);
                let places = self.offsets.lapsed(&id, now.wall_ms, retention_ms, rule);
                let all = places.len() == self.offsets.of(&id).count();
                let empty = group.state() == consumer::State::Empty;
                entries.extend(tombstones(&id, places));
                if all && empty {
                    entries.extend(self.consumer_tombstones(&id));
                }
                continue;
            }
            let group = self.groups.get(&id);
            let reads = |topic: &str| group.is_none_or(|group| group.subscribes(topic));
            let rule = match group {
                Some(group) if group.state() != State::Empty => Lapse::Unless(&reads),
                Some(group) if group.protocol_type().is_some() => {
                    Lapse::EmptySince(group.state_since_ms())
                }
                _ => Lapse::SinceCommit,
            };
            let places = self.offsets.lapsed(&id, now.wall_ms, retention_ms, rule);
            let all = places.len() == self.offsets.of(&id).count();
            entries.extend(tombstones(&id, places));
            if all
                && group.is_some_and(|group| group.state() == State::Empty && !group.has_pending())
            {
                entries.extend(self.group_tombstone(&id));
            }
        }
        entries
    }
}

fn tombstones(group: &str, places: Vec<TopicPartition>) -> Vec<Entry> {
    places
        .into_iter()
        .map(|at| Entry::Position {
            group: group.to_owned(),
            at,
            committed: None,
        })
        .collect()
}
