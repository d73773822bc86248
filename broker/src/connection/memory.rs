//! The memory that the requests of all connections share.
//!
//! Bytes take of it as they come ([`super::read`]), and so does what they are decoded to. Nobody knows beforehand how much
//! that will be, only how much it may be at most: a request is first decoded within what every connection may always
//! have, which is enough for nearly all; where it is not, room for the most that it may become is waited for, and what
//! was not needed of that is given back as soon as it is decoded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use whimbrel_runtime::Clock;
use whimbrel_wire::{ApiKey, Budget, Decoder, Fault, Message};

use super::Closed;
use crate::options::Limits;

/// Room asked for at a time, until frames of a connection have shown to be larger.
pub(super) const STEP: usize = 64 << 10;
/// What the request of a connection that is being answered may be decoded to without asking: several hundred partitions.
const OWN: usize = 32 << 10;
/// What may be remembered of a request that waits for its answer, while others behind it are read: a dozen partitions.
const BESIDE: usize = 2 << 10;
/// Permits count in KiB, so that their number stays small.
const KIB: usize = 1 << 10;

#[derive(Clone, Debug)]
pub struct Memory {
    permits: Arc<Semaphore>,
    /// How much that is, in KiB.
    all: usize,
    /// Those who wait for room.
    waiting: Arc<AtomicUsize>,
    /// How long a request waits for it.
    patience: Duration,
    clock: Clock,
}

/// Counted while it stands.
pub(super) struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    pub(super) fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request was decoded to.
#[derive(Debug)]
pub struct Decoded {
    /// At most.
    pub bytes: usize,
    /// For them, where it was not taken before.
    pub room: Option<Room>,
}

/// Some of it, until it is dropped.
pub type Room = OwnedSemaphorePermit;

impl Memory {
    pub fn new(limits: &Limits, clock: Clock) -> Self {
        let bytes = usize::try_from(limits.request_memory.0).unwrap_or(usize::MAX);
        let all = kib(bytes).min(Semaphore::MAX_PERMITS);
        Self {
            permits: Arc::new(Semaphore::new(all)),
            all,
            waiting: Arc::default(),
            patience: limits.request_time.0,
            clock,
        }
    }

    /// Waits while it is used up.
    pub(super) async fn take(&self, bytes: usize) -> Result<Room, Closed> {
        let permits = u32::try_from(kib(bytes)).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.permits).try_acquire_many_owned(permits) {
            return Ok(room);
        }
        let _waiting = Waiting::new(&self.waiting);
        let room = Arc::clone(&self.permits).acquire_many_owned(permits);
        room.await.map_err(|_| Closed::NoRoom)
    }

    /// True while somebody waits for room.
    pub(super) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Room for what is remembered of a request until it is answered, its bytes being gone. Little is free.
    pub(crate) async fn beside(&self, bytes: usize) -> Result<Option<Room>, Closed> {
        if bytes <= BESIDE {
            return Ok(None);
        }
        let bytes = bytes.min(self.all * KIB / 2);
        let taken = self.clock.within(self.patience, self.take(bytes)).await;
        taken.ok_or(Closed::NoRoom)?.map(Some)
    }

    /// Bytes there are besides those that are taken.
    pub(super) fn beyond(&self, taken: Option<&Room>) -> usize {
        let taken = taken.map_or(0, Room::num_permits);
        self.all.saturating_sub(taken) * KIB
    }

    /// Decodes the rest of a request, and takes room for what it becomes; `is_paid` where that was taken before.
    pub(crate) async fn decode<M: Message>(
        &self,
        key: ApiKey,
        version: i16,
        mut input: Decoder,
        is_paid: bool,
    ) -> Result<(M, Decoded), Closed> {
        let malformed = |source| Closed::Malformed {
            api: key.name(),
            version,
            source,
        };
        let most = input.budget();
        if is_paid {
            let message = M::decode(version, &mut input).map_err(malformed)?;
            let bytes = most.left().saturating_sub(input.budget().left());
            return Ok((message, Decoded { bytes, room: None }));
        }
        let mut first = input.with_budget(most.at_most(OWN));
        match M::decode(version, &mut first) {
            Ok(message) => {
                let (bytes, room) = (OWN, None);
                return Ok((message, Decoded { bytes, room }));
            }
            Err(error) if !matches!(error.fault, Fault::OverBudget { .. }) => {
                return Err(malformed(error));
            }
            Err(_) => {}
        }
        // Never all of it: what this connection sent behind this request waits there, too.
        let bytes = most.left().min(self.all * KIB / 2);
        let taken = self.clock.within(self.patience, self.take(bytes)).await;
        let mut room = taken.ok_or(Closed::NoRoom)??;
        let message = M::decode(version, &mut input).map_err(malformed)?;
        let bytes = most.left().saturating_sub(input.budget().left());
        drop(room.split(room.num_permits().saturating_sub(kib(bytes))));
        let room = Some(room);
        Ok((message, Decoded { bytes, room }))
    }
}

/// Both as one.
pub fn merged(one: Option<Room>, other: Option<Room>) -> Option<Room> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.merge(other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

/// What a frame without its length may be decoded to at most.
pub fn budget(frame: &[u8]) -> Budget {
    if is_produce(frame) {
        Budget::for_produce(frame.len())
    } else {
        Budget::for_request(frame.len())
    }
}

/// Long requests wait for the room that they are decoded to before they are queued: those that wait for their answers
/// have all they need. Records of a Produce request are not decoded, and its other fields are few.
pub fn is_paid_for(frame: &[u8]) -> bool {
    frame.len() > STEP && !is_produce(frame)
}

fn is_produce(frame: &[u8]) -> bool {
    frame.starts_with(&(ApiKey::Produce as i16).to_be_bytes())
}

pub(super) fn kib(bytes: usize) -> usize {
    bytes.div_ceil(KIB).max(1)
}
