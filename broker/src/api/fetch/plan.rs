//! What a fetch asks for, in its order, and who may answer it.

use std::sync::Arc;

use whimbrel_fleet::{
    NodeId, Topic,
    acl::{Operation, ResourceType},
};
use whimbrel_wire::{ErrorCode, messages::fetch::Request};

use super::{BY_ID, rack, read::Part};
use crate::{
    api::refusal,
    auth::Caller,
    broker::Broker,
    catalog::Catalog,
    connection::Reading,
    fetch_sessions::{Told, Wanted},
    partition::{Partition, Role},
    stranded,
    waiters::Waiter,
};

/// What a partition of a fetch takes while it waits, or as part of an answer that is made: as it is asked for and read,
/// its place among those who wait there, what its session is told, and what all that is encoded to.
const PARTITION: usize =
    size_of::<Wanted>() + size_of::<Part>() + size_of::<Told>() + 2 * PARKED + ENCODED;
/// Of a list that keeps room for twice as many as it has.
const PARKED: usize = 24;
/// A partition without records and with all tagged fields, and its part of the topic's name.
const ENCODED: usize = 128;

/// First version whose answer has a place for leader and epoch.
pub const EPOCHS_IN_ANSWER: i16 = 12;

#[derive(Debug)]
pub struct Plan {
    pub wanted: Vec<Wanted>,
    pub version: i16,
    pub committed_only: bool,
    reading: Reading,
    min_bytes: usize,
    /// Where the client stands, if it says so: it may read from the copy that stands there (KIP-392).
    rack: Option<String>,
    /// Who reads, where that is asked: each topic at each reading, so that nothing taken away goes out.
    caller: Option<Arc<Caller>>,
}

/// How a client asks.
#[derive(Clone, Copy, Debug)]
pub struct Asks {
    pub reading: Reading,
    pub min_bytes: usize,
    pub version: i16,
}

/// Bytes of an answer.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// There may be.
    most: usize,
    bytes: usize,
    /// Kept free for what the bucket is asked for.
    kept: usize,
}

impl Taken {
    fn new(most: usize) -> Self {
        let (bytes, kept) = (0, 0);
        Self { most, bytes, kept }
    }

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
    pub fn new(
        request: &Request,
        caller: Option<Arc<Caller>>,
        wanted: Vec<Wanted>,
        asks: Asks,
    ) -> Self {
        let Asks {
            reading,
            min_bytes,
            version,
        } = asks;
        Self {
            wanted,
            version,
            reading,
            committed_only: request.isolation_level == 1,
            min_bytes,
            rack: Some(request.rack_id.clone()).filter(|rack| !rack.is_empty()),
            caller,
        }
    }

    /// What it takes while it waits, and what its answer takes besides records: at most.
    pub fn weight(&self) -> usize {
        self.wanted.len().saturating_mul(PARTITION)
    }

    /// Reads what is local, in the order asked for, and asks to be woken by anything new. The first partition
    /// with data gets at least one batch, however large; the others what is left of `most`. What is to
    /// come from the bucket keeps its place in that order, but no more than half of the answer where others
    /// are asked for too: a bucket that is away must not keep them from it.
    pub fn read(&self, catalog: &Catalog, waiter: &Waiter, most: usize) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::with_capacity(self.wanted.len());
        let mut taken = Taken::new(most);
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
        mut woken: Vec<usize>,
        parts: &mut [Part],
        most: usize,
    ) {
        woken.sort_unstable();
        woken.dedup();
        let mut taken = Taken::new(most);
        parts.iter().for_each(|part| taken.add(part));
        let named = woken.iter().filter_map(|number| parts.get(*number));
        named.for_each(|part| taken.remove(part));
        for number in woken {
            let (Some(wanted), Some(part)) = (self.wanted.get(number), parts.get_mut(number))
            else {
                continue;
            };
            *part = self.part(catalog, wanted, number, taken, waiter);
            taken.add(part);
        }
    }

    /// Reads again what was let go.
    pub fn read_anew(&self, catalog: &Catalog, waiter: &Waiter, parts: &mut [Part], most: usize) {
        let numbered = parts.iter().enumerate();
        let gone = numbered.filter_map(|(number, part)| part.is_let_go().then_some(number));
        self.read_again(catalog, waiter, gone.collect(), parts, most);
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
            Ok((topic, partition)) => {
                // Parked before reading: what comes between reading and waiting wakes.
                partition.waiters.park(waiter, number);
                let left = taken.most.saturating_sub(taken.bytes + taken.kept);
                let mut part = Part::read(partition, wanted, self, left, taken.bytes == 0);
                let most = if self.wanted.len() > 1 {
                    taken.most / 2
                } else {
                    taken.most
                };
                part.limit_cold(most.saturating_sub(taken.kept), taken.kept == 0);
                if let Some(node) = self.elsewhere(catalog, topic, partition, wanted) {
                    part.send_to(node);
                }
                part
            }
            Err(error) => Part::error(wanted.partition, error),
        }
    }

    /// Bytes that are read from the log for a partition where its reader allows `max_bytes`.
    pub fn limit(&self, max_bytes: usize) -> usize {
        self.reading.limit(max_bytes, self.min_bytes)
    }

    /// The copy that a reader should turn to instead of this leader.
    fn elsewhere(
        &self,
        catalog: &Catalog,
        topic: &Topic,
        partition: &Partition,
        wanted: &Wanted,
    ) -> Option<NodeId> {
        let rack = self.rack.as_ref()?;
        partition.leads()?;
        rack::preferred(catalog, topic, partition, wanted.offset, rack)
    }

    /// Refuses those who have read all there is where nothing comes any more: at a stranded home, and at a
    /// copy that its source does not feed. The leader knows better, or who leads will be another.
    pub fn send_away(&self, broker: &Broker, parts: &mut [Part]) {
        let catalog = broker.catalog();
        for (wanted, part) in self.wanted.iter().zip(parts) {
            if part.len() > 0 || part.cold().is_some() || part.is_news() {
                continue;
            }
            let by_id = self.version >= BY_ID;
            let topic = refusal::topic(&catalog, &wanted.topic, wanted.topic_id, by_id);
            let idle = |topic: &Topic| {
                stranded::partition(broker, &catalog, topic, wanted.partition)
                    || refusal::replica(&catalog, topic, wanted.partition)
                        .is_ok_and(|p| is_stale(broker, p))
            };
            if topic.is_ok_and(idle) {
                part.fail(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            }
        }
    }

    fn find<'a>(
        &self,
        catalog: &'a Catalog,
        wanted: &Wanted,
    ) -> Result<(&'a Topic, &'a Arc<Partition>), ErrorCode> {
        let by_id = self.version >= BY_ID;
        let topic = refusal::topic(catalog, &wanted.topic, wanted.topic_id, by_id);
        if let Some(caller) = &self.caller {
            // By name it is not told either whether there is such a topic.
            let name = topic.map_or(&*wanted.topic, |topic| topic.name.as_str());
            let read = Operation::Read;
            let known = topic.is_ok() || !by_id;
            if known && !caller.can(&catalog.view, read, ResourceType::Topic, name) {
                return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            }
        }
        let topic = topic?;
        let partition = refusal::replica(catalog, topic, wanted.partition)?;
        let epoch = match partition.role() {
            Role::Leader(terms) => terms.leader_epoch,
            // What a source has not confirmed may be the tail of a home that was lost. The epoch is that of
            // the leader elsewhere, which is what a client knows, whether that leader is up or not.
            Role::Follower { .. } if self.rack.is_some() && partition.following.is_confirmed() => {
                let index = usize::try_from(wanted.partition).ok();
                let placed = index.and_then(|index| topic.partitions.get(index));
                placed.map_or(-1, |p| p.leader_epoch.0)
            }
            _ => return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        };
        refusal::fence(wanted.current_leader_epoch, epoch)?;
        Ok((topic, partition))
    }
}

/// True for a copy that is further behind, in time, than a member of an ack set may be.
fn is_stale(broker: &Broker, partition: &Partition) -> bool {
    let lag = broker.options.replica_lag_time.0.as_millis();
    matches!(partition.role(), Role::Follower { .. })
        && u128::from(partition.following.behind_ms(broker.clock.boot_ns())) > lag
}
