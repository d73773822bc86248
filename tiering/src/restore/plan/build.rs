//! Goes through groups, topics and partitions.

use std::collections::{BTreeMap, BTreeSet};

use whimbrel_fleet::{
    GroupName, TopicPartition,
    naming::{self, CUTS},
};

use super::{
    ABOVE, CutAt, Epochs, Findings, Group, IDS_ABOVE, LISTED, Missing, NewerCut, Partition, Plan,
    State, Topic, Totals,
};
use crate::{
    format::fnv,
    meta,
    restore::{Extent, Refused},
};

struct Building<'a> {
    found: &'a Findings<'a>,
    totals: Totals,
    /// Shard, writer epoch and random number of every object that is read.
    objects: BTreeSet<(u16, u64, u64)>,
    missing: Vec<Missing>,
}

pub(super) fn plan(found: &Findings<'_>) -> Result<Plan, Refused> {
    let base = found.described.base();
    let mut building = Building {
        found,
        totals: Totals::default(),
        objects: BTreeSet::new(),
        missing: found.unread.to_vec(),
    };
    let groups: Result<Vec<_>, _> = base
        .fleet
        .groups
        .iter()
        .map(|g| building.group(g))
        .collect();
    let groups = groups?;
    let mut topics = Vec::new();
    for topic in building.topics() {
        topics.push(building.topic(topic)?);
    }
    building.undescribed();
    building.totals.topics = topics.len();
    let properties = &base.fleet.properties;
    let mut plan = Plan {
        whole: building.missing.is_empty() && groups.iter().all(|g| g.lost_cut.is_none()),
        fleet_id: found.marker.fleet_id.clone(),
        region: found.marker.region.clone(),
        incarnation: found.marker.incarnation,
        asked_ms: found.asked_ms,
        described_ms: base.written_ms,
        view_version: base.view_version,
        groups,
        totals: building.totals,
        producer_ids: producer_ids(found)?,
        users: properties.credentials.users(),
        acls: properties.acls.len(),
        quotas: properties.quotas.len(),
        state: state(found, &topics),
        topics,
        missing_ranges: building.missing.len(),
        missing_offsets: offsets(&building.missing),
        missing: building.missing,
        remarks: found.remarks.to_vec(),
        hash: String::new(),
    };
    plan.missing.truncate(LISTED);
    plan.remarks.truncate(LISTED);
    // Numbers, texts and lists of them: nothing that JSON could refuse.
    let text = serde_json::to_vec(&plan).unwrap_or_default();
    plan.hash = format!("{:016x}", fnv(&[&text]));
    Ok(plan)
}

impl<'a> Building<'a> {
    fn group(&self, group: &meta::Group) -> Result<Group, Refused> {
        let chosen = self.found.chosen.get(&group.name);
        let cut = chosen.and_then(|chosen| chosen.cut.as_ref());
        let of_roots = self
            .found
            .extents
            .values()
            .map(|extent| extent.region_epoch);
        let of_cut = cut.map(|picked| picked.cut.region_epoch.0);
        let described = self.found.described.region_epoch(&group.name);
        let highest = of_roots.chain(of_cut).max().unwrap_or(0).max(described);
        let at = |(taken_ms, at): (i64, TopicPartition)| NewerCut {
            taken_ms,
            lacks: self.name(at),
        };
        Ok(Group {
            name: group.name.clone(),
            home: group.home.clone(),
            region_epoch: Epochs::above(
                &|| format!("group `{}`", group.name),
                highest.into(),
                ABOVE.into(),
                u32::MAX.into(),
            )?,
            cut: cut.map(|picked| CutAt {
                taken_ms: picked.cut.taken_ms,
                offset: picked.offset,
                region_epoch: picked.cut.region_epoch.0,
                partitions: picked.cut.ends.len(),
            }),
            newer_cut: chosen.and_then(|chosen| chosen.newer).map(at),
            lost_cut: chosen.and_then(|chosen| chosen.lost).map(at),
        })
    }

    /// Those of the description, and those that a cut names and only a later description knows; of two with one name
    /// the cut's. Cuts are not brought back: the restored fleet takes its own.
    fn topics(&self) -> Vec<&'a meta::Topic> {
        let described = self.found.described;
        let base = described.base().fleet.topics.iter();
        let stays = |topic: &&meta::Topic| !self.was_deleted_before(topic);
        let mut topics: BTreeMap<&str, &meta::Topic> = base
            .filter(stays)
            .map(|topic| (topic.name.as_str(), topic))
            .collect();
        for picked in self.found.chosen.values().filter_map(|c| c.cut.as_ref()) {
            let named: BTreeSet<_> = picked.cut.ends.keys().map(|at| at.topic_id).collect();
            for id in named {
                if described.is_in_base(id) || described.is_deleted(id, picked.cut.view_version) {
                    continue;
                }
                if let Some(topic) = described.topic(id) {
                    topics.insert(&topic.name, topic);
                }
            }
        }
        topics.remove(CUTS);
        topics.into_values().collect()
    }

    /// True for a topic of a description that is older than the cut, which a later one lists as deleted and the cut
    /// does not name.
    fn was_deleted_before(&self, topic: &meta::Topic) -> bool {
        let chosen = self.found.chosen.get(&topic.group);
        let Some(picked) = chosen.and_then(|chosen| chosen.cut.as_ref()) else {
            return false;
        };
        let mut from = picked.cut.ends.range(TopicPartition::new(topic.id, 0)..);
        let is_named = from.next().is_some_and(|(at, _)| at.topic_id == topic.id);
        let described = self.found.described;
        !is_named
            && described.base().view_version < picked.cut.view_version
            && described.is_deleted(topic.id, u64::MAX)
    }

    fn topic(&mut self, topic: &meta::Topic) -> Result<Topic, Refused> {
        let chosen = self.found.chosen.get(&topic.group);
        let cut = chosen.and_then(|chosen| chosen.cut.as_ref());
        let named = cut.map_or(0, |picked| {
            let from = TopicPartition::new(topic.id, 0);
            let all = picked.cut.ends.range(from..);
            let of_topic = all.take_while(|(at, _)| at.topic_id == topic.id);
            of_topic
                .map(|(at, _)| at.partition.max(0))
                .max()
                .map_or(0, |last| {
                    usize::try_from(last).unwrap_or(0).saturating_add(1)
                })
        });
        // Partitions may have been added before the cut and after the description.
        let most = self.found.described.partitions(topic.id);
        let count = topic.leader_epochs.len().max(named).min(most);
        if named > most {
            let what = format!("the cut names {named} partitions, {most} are described");
            let at = TopicPartition::new(topic.id, -1);
            self.miss(at, &topic.name, "WB-331", (-1, -1), &what);
        }
        if chosen.is_none() {
            let what = format!("its failover group `{}` is not described", topic.group);
            let at = TopicPartition::new(topic.id, -1);
            self.miss(at, &topic.name, "WB-331", (-1, -1), &what);
        }
        let mut partitions = Vec::new();
        for partition in (0_i32..).take(count.min(MOST_PARTITIONS)) {
            let at = TopicPartition::new(topic.id, partition);
            let end = cut.map(|picked| picked.cut.ends.get(&at).copied());
            partitions.push(self.partition(topic, at, end)?);
        }
        Ok(Topic {
            name: topic.name.clone(),
            id: topic.id,
            group: topic.group.clone(),
            internal: topic.internal,
            replication_factor: topic.replication_factor,
            configs: topic.configs.clone(),
            partitions,
        })
    }

    /// `end`: what the cut says, where there is one; a partition that it does not name had no record.
    fn partition(
        &mut self,
        topic: &meta::Topic,
        at: TopicPartition,
        end: Option<Option<whimbrel_fleet::cut::End>>,
    ) -> Result<Partition, Refused> {
        let extent = self.found.extents.get(&at);
        let named = extent.map_or(0, |extent| extent.end);
        let offset = end.map_or(named, |end| end.map_or(0, |end| end.offset));
        let part = extent.map(|extent| extent.upto(offset)).unwrap_or_default();
        if extent.is_none() && offset > 0 {
            self.miss(at, &topic.name, "WB-316", (0, offset), "no root names it");
        }
        for (from, to, why) in &part.missing {
            self.miss(at, &topic.name, "WB-316", (*from, *to), why);
        }
        let shard = extent.map_or(0, |extent| extent.shard);
        let mut bytes = 0_u64;
        for entry in &part.slices {
            bytes = bytes.saturating_add(entry.data_bytes);
            if self
                .objects
                .insert((shard, entry.writer_epoch, entry.random))
            {
                self.totals.objects += 1;
                self.totals.object_bytes =
                    self.totals.object_bytes.saturating_add(entry.object_bytes);
            }
        }
        self.totals.partitions += 1;
        self.totals.bytes = self.totals.bytes.saturating_add(bytes);
        let offsets = offset.saturating_sub(part.log_start);
        self.totals.offsets = self.totals.offsets.saturating_add(offsets);
        let highest = self
            .found
            .described
            .leader_epoch(at)
            .max(extent.map_or(-1, Extent::last_epoch))
            .max(end.flatten().map_or(-1, |end| end.epoch));
        Ok(Partition {
            partition: at.partition,
            // Without an extent nothing is known of where it began.
            log_start: extent.map_or(offset, |_| part.log_start),
            end: offset,
            leader_epoch: Epochs::above(
                &|| format!("{}-{}", topic.name, at.partition),
                highest.into(),
                ABOVE.into(),
                i32::MAX.into(),
            )?,
            slices: part.slices.len(),
            bytes,
        })
    }

    /// What the cuts and the roots name and no description knows.
    fn undescribed(&mut self) {
        let (found, described) = (self.found, self.found.described);
        for picked in found.chosen.values().filter_map(|c| c.cut.as_ref()) {
            for (at, end) in &picked.cut.ends {
                let is_deleted = described.is_deleted(at.topic_id, picked.cut.view_version);
                if described.topic(at.topic_id).is_none() && !is_deleted {
                    let topic = found.extents.get(at).map_or("", |e| e.topic.as_str());
                    self.miss(
                        *at,
                        topic,
                        "WB-331",
                        (0, end.offset),
                        "nothing describes it",
                    );
                }
            }
        }
        // What a cut does not name had no record then. Where there is no cut, a later description would know the topic, and
        // its deletion too.
        let has_cut = |group: &str| {
            let chosen = found.chosen.get(&GroupName::new(group));
            chosen.is_some_and(|chosen| chosen.cut.is_some())
        };
        for (at, extent) in found.extents {
            let is_known = described.topic(at.topic_id).is_some()
                || described.is_deleted(at.topic_id, u64::MAX);
            if !is_known && !has_cut(&extent.group) {
                let whole = (extent.log_start, extent.end);
                self.miss(*at, &extent.topic, "WB-331", whole, "nothing describes it");
            }
        }
    }

    fn miss(
        &mut self,
        at: TopicPartition,
        topic: &str,
        code: &'static str,
        (from_offset, to_offset): (i64, i64),
        what: &str,
    ) {
        let topic = match topic {
            "" => at.topic_id.simple().to_string(),
            name => name.to_owned(),
        };
        self.missing.push(Missing {
            code,
            topic,
            partition: at.partition,
            from_offset,
            to_offset,
            what: what.to_owned(),
        });
    }

    fn name(&self, at: TopicPartition) -> String {
        match self.found.described.topic(at.topic_id) {
            Some(topic) => format!("{}-{}", topic.name, at.partition),
            None => at.to_string(),
        }
    }
}

const MOST_PARTITIONS: usize = naming::MAX_PARTITIONS.unsigned_abs() as usize;

fn offsets(missing: &[Missing]) -> i64 {
    let length = |m: &Missing| m.to_offset.saturating_sub(m.from_offset).max(0);
    missing
        .iter()
        .fold(0, |sum, m| sum.saturating_add(length(m)))
}

fn producer_ids(found: &Findings<'_>) -> Result<Epochs, Refused> {
    let used = found.state.and_then(|(t, _)| t.highest_producer_id);
    let above = used.map_or(0, |id| id.saturating_add(1));
    let highest = found.described.producer_ids().max(above);
    Epochs::above(&|| "producer ids".to_owned(), highest, IDS_ABOVE, i64::MAX)
}

fn state(found: &Findings<'_>, topics: &[Topic]) -> Option<State> {
    let (transactions, positions) = found.state?;
    let end = |name: &str, partition: i32| {
        let n = topics
            .binary_search_by(|t| t.name.as_str().cmp(name))
            .ok()?;
        let partition = usize::try_from(partition).ok()?;
        Some(topics.get(n)?.partitions.get(partition)?.end)
    };
    let mut state = State {
        transactional_ids: transactions.ids(),
        open: transactions.open().take(LISTED).cloned().collect(),
        open_transactions: transactions.open().count(),
        ..State::default()
    };
    for one in positions {
        state.groups += one.groups().len();
        for (_, topic, partition, offset) in one.all() {
            state.positions += 1;
            // A position on a topic that was deleted is nobody's.
            if end(topic, partition).is_some_and(|end| offset > end) {
                state.positions_ahead += 1;
            }
        }
    }
    Some(state)
}
