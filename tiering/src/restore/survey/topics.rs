//! Reads the internal topics below the cuts.

use whimbrel_fleet::{
    TopicPartition,
    naming::{CONSUMER_OFFSETS, TRANSACTION_STATE},
};
use whimbrel_wire::Batch;

use super::{Read, Survey};
use crate::restore::{Extent, Missing, Positions, Refused, StateError, Transactions, slice::Fault};

impl Survey {
    /// Of all groups: producer ids are the fleet's.
    pub(super) async fn state(
        &self,
        read: &mut Read,
    ) -> Result<(Transactions, Vec<Positions>), Refused> {
        let cuts = read.chosen.values().filter_map(|c| c.cut.as_ref());
        let ends = cuts.flat_map(|picked| &picked.cut.ends);
        let of = |name: &str| {
            let is_it = |at: &TopicPartition| {
                let topic = read.described.topic(at.topic_id);
                topic.is_some_and(|topic| topic.name == name)
            };
            let all = ends.clone().filter(|(at, _)| is_it(at));
            all.filter_map(|(at, end)| Some((*at, read.extents.get(at)?, end.offset)))
                .collect::<Vec<_>>()
        };
        let mut unread = Vec::new();
        let mut transactions = Transactions::default();
        for (at, extent, end) in of(TRANSACTION_STATE) {
            let take = |batch: &Batch| transactions.take(batch, end);
            self.replay(at, extent, end, &mut unread, take).await?;
        }
        let mut all = Vec::new();
        for (at, extent, end) in of(CONSUMER_OFFSETS) {
            let mut positions = Positions::default();
            let take = |batch: &Batch| positions.take(batch, end);
            self.replay(at, extent, end, &mut unread, take).await?;
            positions.finish(&transactions);
            all.push(positions);
        }
        read.unread.append(&mut unread);
        Ok((transactions, all))
    }

    async fn replay(
        &self,
        at: TopicPartition,
        extent: &Extent,
        end: i64,
        unread: &mut Vec<Missing>,
        mut take: impl FnMut(&Batch) -> Result<(), StateError>,
    ) -> Result<(), Refused> {
        let part = extent.upto(end);
        if part.slices.is_empty() {
            return Ok(());
        }
        self.say(&format!(
            "{}-{}: {} objects are read",
            extent.topic,
            at.partition,
            part.slices.len()
        ));
        for entry in part.sound() {
            let each = |batch: &Batch| take(batch).map_err(|error| error.to_string());
            match self.slices.read(extent.shard, at, entry, end, each).await {
                Ok(()) => {}
                Err(Fault::Store(error)) => return Err(error.into()),
                Err(Fault::Damaged { key, reason }) => unread.push(Missing {
                    code: "WB-316",
                    topic: extent.topic.clone(),
                    partition: at.partition,
                    from_offset: entry.base.max(part.log_start),
                    to_offset: entry.end.min(end),
                    what: format!("{key}: {reason}"),
                }),
            }
        }
        Ok(())
    }
}
