//! Looks for each group's cut, from the newest object of its partition of `__whimbrel_cuts` back.

use whimbrel_fleet::{
    GroupName, TopicPartition,
    naming::{self, CONSUMER_OFFSETS, CUTS, TRANSACTION_STATE},
};
use whimbrel_wire::{codec, record};

use super::{Read, Survey};
use crate::{
    meta,
    restore::{Chosen, Described, Ends, Extent, Picker, Refused, Request, slice::Fault},
    store::utc,
};

impl Survey {
    pub(super) async fn choose(&self, read: &mut Read, request: &Request) -> Result<(), Refused> {
        let to_ms = request.to_ms;
        let ends = Ends::new(&read.described, &read.extents);
        for group in &read.described.base().fleet.groups {
            let extent = extent_of(&read.described, &read.extents, group);
            let mut picker = Picker::new(&ends, &group.name, to_ms);
            if let Some((at, extent)) = extent {
                self.look(at, extent, to_ms, &mut picker, &mut read.remarks)
                    .await?;
            }
            let needs_one = picker.seen > 0
                || to_ms.is_some()
                || has_state(&read.described, &read.extents, &group.name);
            let chosen = decide(&read.described, picker, needs_one, request.newest_cut)?;
            match &chosen.cut {
                Some(picked) => self.say(&format!(
                    "group {}: the cut of {}",
                    group.name,
                    utc(picked.cut.taken_ms)
                )),
                None => self.say(&format!("group {}: no cut is needed", group.name)),
            }
            read.chosen.insert(group.name.clone(), chosen);
        }
        Ok(())
    }

    /// Ends at the first object that has a cut of which all is there.
    async fn look(
        &self,
        at: TopicPartition,
        extent: &Extent,
        to_ms: Option<i64>,
        picker: &mut Picker<'_>,
        remarks: &mut Vec<String>,
    ) -> Result<(), Refused> {
        for piece in extent.pieces.iter().rev() {
            if picker.whole.is_some() {
                break;
            }
            let Some(entry) = piece.slice() else { continue };
            // The records carry the time at which the cut was taken. The oldest is read all the same: it says how far
            // back there are cuts.
            let is_oldest = Some(piece) == extent.pieces.first();
            let is_later = to_ms.is_some_and(|ms| entry.first_timestamp_ms > ms);
            if is_later && !is_oldest {
                continue;
            }
            let mut older = picker.beside();
            let read = self
                .slices
                .read(extent.shard, at, entry, entry.end, |batch| {
                    let records = record::records(batch, codec::Limits::default());
                    for found in records.map_err(|e| e.to_string())? {
                        older.offer(&found.map_err(|e| e.to_string())?);
                    }
                    Ok(())
                });
            match read.await {
                Ok(()) => {}
                // What was read until then are cuts all the same.
                Err(Fault::Damaged { key, reason }) => {
                    remarks.push(format!("some cuts cannot be read: {key}: {reason}"));
                }
                Err(Fault::Store(error)) => return Err(error.into()),
            }
            picker.or(older);
        }
        Ok(())
    }
}

fn extent_of<'a>(
    described: &Described,
    extents: &'a std::collections::BTreeMap<TopicPartition, Extent>,
    group: &meta::Group,
) -> Option<(TopicPartition, &'a Extent)> {
    let topic = described.topic_named(CUTS)?;
    let at = TopicPartition::new(topic.id, naming::cuts_partition(group.offsets));
    Some((at, extents.get(&at)?))
}

/// Whether the group has transactions or positions, which only a cut keeps whole.
fn has_state(
    described: &Described,
    extents: &std::collections::BTreeMap<TopicPartition, Extent>,
    group: &GroupName,
) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE].iter().any(|name| {
        let topic = described.topic_named(name).filter(|t| t.group == *group);
        topic.is_some_and(|topic| {
            let all = extents.range(TopicPartition::new(topic.id, 0)..);
            let mut of_topic = all.take_while(|(at, _)| at.topic_id == topic.id);
            of_topic.any(|(_, extent)| extent.end > 0)
        })
    })
}

/// The newest of which nothing is lost; where none is, or it is asked for, the newest that the roots have whole.
fn decide(
    described: &Described,
    picker: Picker<'_>,
    needs_one: bool,
    newest: bool,
) -> Result<Chosen, Refused> {
    let (newer, lost) = (picker.lacking, picker.named.as_ref());
    let lost = lost.and_then(|(picked, lacks)| Some((picked.cut.taken_ms, (*lacks)?)));
    let named = picker.named.map(|(picked, _)| picked);
    let cut = if newest {
        named.or(picker.whole)
    } else {
        picker.whole.or(named)
    };
    let Some(cut) = cut else {
        if !needs_one {
            return Ok(Chosen::default());
        }
        let name = |at: TopicPartition| match described.topic(at.topic_id) {
            Some(topic) => format!("{}-{}", topic.name, at.partition),
            None => at.to_string(),
        };
        let reason = match (newer, picker.oldest_ms) {
            (Some((taken_ms, at)), _) => format!(
                "none of {} cuts is wholly in the bucket; that of {} lacks {}",
                picker.seen,
                utc(taken_ms),
                name(at)
            ),
            (None, Some(oldest)) => format!("the oldest cut is of {}", utc(oldest)),
            (None, None) => "the bucket has no cut of it".to_owned(),
        };
        let group = picker.group.to_string();
        return Err(Refused::NoCut { group, reason });
    };
    let is_newer = |(taken_ms, _): &(i64, TopicPartition)| *taken_ms > cut.cut.taken_ms;
    let lost = lost.filter(is_newer);
    Ok(Chosen {
        // Told once.
        newer: newer.filter(is_newer).filter(|newer| lost != Some(*newer)),
        lost,
        cut: Some(cut),
    })
}
