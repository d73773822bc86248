//! What a fetch asks for, in its order, and who may answer it.

use std::sync::Arc;

use whimbrel_wire::{ErrorCode, messages::fetch::Request};

use super::{BY_ID, read::Part};
use crate::{
    api::refusal,
    broker::Broker,
    catalog::Catalog,
    fetch_sessions::Wanted,
    partition::{Partition, Role},
    stranded,
    waiters::Waiter,
};

/// First version whose answer has a place for leader and epoch.
pub const EPOCHS_IN_ANSWER: i16 = 12;

#[derive(Debug)]
pub struct Plan {
    pub wanted: Vec<Wanted>,
    pub version: i16,
    pub committed_only: bool,
    max_bytes: usize,
    /// The client names where it stands, so it may read from the replica of that region (KIP-392).
    in_rack: bool,
}

/// Bytes of an answer.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    bytes: usize,
    /// Kept free for what the bucket is asked for.
    kept: usize,
}

impl Taken {
    fn add(&mut self, part: &Part) {
        self.bytes += part.len();
        self.kept += part.cold().map_or(0, |cold| cold.max_bytes);
    }

    fn remove(&mut self, part: &Part) {
        self.bytes -= part.len();
        self.kept -= part.cold().map_or(0, |cold| cold.max_bytes);
    }
}

impl Plan {
    pub fn new(request: &Request, wanted: Vec<Wanted>, max_bytes: usize, version: i16) -> Self {
        Self {
            wanted,
            version,
            committed_only: request.isolation_level == 1,
            max_bytes,
            in_rack: !request.rack_id.is_empty(),
        }
    }

    /// Reads what is local, in the order asked for, and asks to be woken by anything new. The first partition
    /// with data gets at least one batch, however large; the others what is left of `max_bytes`. What is to
    /// come from the bucket keeps its place in that order, but no more than half of the answer where others
    /// are asked for too: a bucket that is away must not keep them from it.
    pub fn read(&self, catalog: &Catalog, waiter: &Waiter) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::with_capacity(self.wanted.len());
        let mut taken = Taken::default();
        for (number, wanted) in self.wanted.iter().enumerate() {
            let part = self.part(catalog, wanted, number, taken, waiter);
            taken.add(&part);
            parts.push(part);
        }
        parts
    }

    /// Reads again what a wake named.
    pub fn read_again(
        &self,
        catalog: &Catalog,
        waiter: &Waiter,
        woken: Vec<usize>,
        parts: &mut [Part],
    ) {
        let mut taken = Taken::default();
        parts.iter().for_each(|part| taken.add(part));
        for number in woken {
            let (Some(wanted), Some(part)) = (self.wanted.get(number), parts.get_mut(number))
            else {
                continue;
            };
            taken.remove(part);
            *part = self.part(catalog, wanted, number, taken, waiter);
            taken.add(part);
        }
    }

    /// `taken` is in the answer already.
    fn part(
        &self,
        catalog: &Catalog,
        wanted: &Wanted,
        number: usize,
        taken: Taken,
        waiter: &Waiter,
    ) -> Part {
        match self.find(catalog, wanted) {
            Ok(partition) => {
                // Parked before reading: what comes between reading and waiting wakes.
                partition.waiters.park(waiter, number);
                let left = self.max_bytes.saturating_sub(taken.bytes + taken.kept);
                let mut part = Part::read(partition, wanted, self, left, taken.bytes == 0);
                let most = if self.wanted.len() > 1 {
                    self.max_bytes / 2
                } else {
                    self.max_bytes
                };
                part.limit_cold(most.saturating_sub(taken.kept), taken.kept == 0);
                part
            }
            Err(error) => Part::error(wanted.partition, error),
        }
    }

    /// Refuses those who have read all that a stranded home has: nothing comes here any more.
    pub fn send_away(&self, broker: &Broker, parts: &mut [Part]) {
        let catalog = broker.catalog();
        for (wanted, part) in self.wanted.iter().zip(parts) {
            let by_id = self.version >= BY_ID;
            let topic = refusal::topic(&catalog, &wanted.topic, wanted.topic_id, by_id);
            let done = part.len() == 0 && part.cold().is_none() && !part.is_news();
            if done
                && topic.is_ok_and(|t| stranded::partition(broker, &catalog, t, wanted.partition))
            {
                part.fail(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            }
        }
    }

    fn find<'a>(
        &self,
        catalog: &'a Catalog,
        wanted: &Wanted,
    ) -> Result<&'a Arc<Partition>, ErrorCode> {
        let topic = refusal::topic(
            catalog,
            &wanted.topic,
            wanted.topic_id,
            self.version >= BY_ID,
        )?;
        let partition = refusal::replica(catalog, topic, wanted.partition)?;
        let epoch = match partition.role() {
            Role::Leader(terms) => terms.leader_epoch,
            // The epoch of the leader elsewhere, which is what a client knows.
            Role::Follower { .. } if self.in_rack => catalog
                .leader(topic, wanted.partition)
                .map_or(-1, |(_, epoch)| epoch),
            _ => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        };
        refusal::fence(wanted.current_leader_epoch, epoch)?;
        Ok(partition)
    }
}
