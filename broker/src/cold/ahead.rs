//! What consumers of cold data will ask for next, read before they ask.
//!
//! A consumer is known by where it will go on: the partition and the offset after its last answer. The
//! second read in a row starts reading ahead; from then on one window is being served while the next is
//! being read, so that neither the disk nor the consumer waits for the other. Windows are large whatever the
//! consumer's limit is, and are cut at batches. All windows together have a bound, held until the last byte
//! of one has left the process; whoever finds no place is served without reading ahead.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use whimbrel_fleet::TopicPartition;
use whimbrel_log::EpochStart;
use whimbrel_wire::{BatchHeader, ErrorCode};

use super::{ColdRead, Records};

/// Bytes asked for at once: one GET of the daemon, and what a consumer takes in about ten milliseconds.
pub const WINDOW: usize = 8 << 20;
/// Windows in memory, being read or being served: four consumers at full speed.
const WINDOWS: usize = 8;
/// A consumer that did not come back for so long loses its window to another.
const IDLE_NS: u64 = 5_000_000_000;
/// Consumers remembered.
const SLOTS: usize = 1_024;

type Place = (TopicPartition, i64);
pub type Flight = watch::Receiver<Option<ColdRead>>;

#[derive(Debug)]
pub struct Ahead {
    slots: Mutex<HashMap<Place, Slot>>,
    windows: Arc<Semaphore>,
}

/// A consumer that will go on at its place.
#[derive(Clone, Debug)]
struct Slot {
    lineage: Vec<EpochStart>,
    /// Whole batches from its place on.
    ready: Option<Records>,
    /// What comes behind them.
    loading: Option<Flight>,
    used_ns: u64,
}

/// What is there for a consumer.
pub enum Found {
    /// It does not go on from an earlier read.
    Stranger,
    /// It does, and nothing was read for it yet.
    Sequential,
    Records(Records),
    /// There is nothing to be had, now or later.
    Failed(ErrorCode),
    /// On its way.
    Loading(Flight),
}

/// A window that has to be read: what comes at `offset`.
pub struct Load {
    pub offset: i64,
    pub done: watch::Sender<Option<ColdRead>>,
    place: OwnedSemaphorePermit,
}

impl Load {
    /// Ends the flight. The window's place is given up with its last byte.
    pub fn finish(self, read: ColdRead) {
        let read = match read {
            ColdRead::Records(records) => ColdRead::Records(Records {
                bytes: Bytes::from_owner(Held {
                    bytes: records.bytes,
                    _place: self.place,
                }),
                ..records
            }),
            other => other,
        };
        self.done.send_replace(Some(read));
    }
}

struct Held {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
            windows: Arc::new(Semaphore::new(WINDOWS)),
        }
    }
}

impl Ahead {
    /// Takes whole batches, at least one, about `max_bytes` of them, if they are here; and says what is to
    /// be read now for the next time.
    pub fn take(
        &self,
        place: Place,
        lineage: &[EpochStart],
        max_bytes: usize,
        now_ns: u64,
    ) -> (Found, Option<Load>) {
        let mut slots = self.slots.lock();
        let Some(mut slot) = slots.remove(&place) else {
            return (Found::Stranger, None);
        };
        if slot.lineage != lineage {
            return (Found::Stranger, None);
        }
        slot.used_ns = now_ns;
        if slot.ready.is_none()
            && let Some(flight) = slot.loading.take()
        {
            let landed = flight.borrow().clone();
            match landed {
                // A flight whose task has gone will never land.
                None if flight.has_changed().is_ok() => {
                    slot.loading = Some(flight.clone());
                    slots.insert(place, slot);
                    return (Found::Loading(flight), None);
                }
                Some(ColdRead::Records(records)) => slot.ready = Some(records),
                Some(ColdRead::Failed(error)) => return (Found::Failed(error), None),
                _ => return (Found::Sequential, None),
            }
        }
        let Some(ready) = slot.ready.take() else {
            return (Found::Sequential, None);
        };
        let end = ready.next_offset;
        let Some((cut, next_offset)) = cut(&ready.bytes, end, max_bytes) else {
            return (Found::Stranger, None);
        };
        let taken = Records {
            bytes: ready.bytes.slice(..cut),
            next_offset,
            aborted: ready.aborted.clone(),
        };
        if cut < ready.bytes.len() {
            slot.ready = Some(Records {
                bytes: ready.bytes.slice(cut..),
                ..ready
            });
        }
        let load = if slot.loading.is_none() {
            self.load(&mut slots, &mut slot, end, now_ns)
        } else {
            None
        };
        self.put(&mut slots, (place.0, next_offset), slot);
        (Found::Records(taken), load)
    }

    /// A consumer was served without us up to `next_offset`; with `sequential` its next window is read now.
    pub fn served(
        &self,
        at: TopicPartition,
        next_offset: i64,
        lineage: &[EpochStart],
        sequential: bool,
        now_ns: u64,
    ) -> Option<Load> {
        let mut slots = self.slots.lock();
        let mut slot = Slot {
            lineage: lineage.to_vec(),
            ready: None,
            loading: None,
            used_ns: now_ns,
        };
        let load = if sequential {
            self.load(&mut slots, &mut slot, next_offset, now_ns)
        } else {
            None
        };
        self.put(&mut slots, (at, next_offset), slot);
        load
    }

    fn load(
        &self,
        slots: &mut HashMap<Place, Slot>,
        slot: &mut Slot,
        offset: i64,
        now_ns: u64,
    ) -> Option<Load> {
        let free = || Arc::clone(&self.windows).try_acquire_owned().ok();
        let place = free().or_else(|| {
            slots.retain(|_, slot| slot.used_ns.saturating_add(IDLE_NS) > now_ns);
            free()
        })?;
        let (done, flight) = watch::channel(None);
        slot.loading = Some(flight);
        Some(Load {
            offset,
            done,
            place,
        })
    }

    fn put(&self, slots: &mut HashMap<Place, Slot>, place: Place, slot: Slot) {
        if slots.len() >= SLOTS {
            slots.clear();
        }
        slots.insert(place, slot);
    }
}

/// How many bytes of `records`, which end at offset `end`, are whole batches within `max_bytes` (at least
/// one), and the offset behind them. `None` when they are no batches.
fn cut(records: &Bytes, end: i64, max_bytes: usize) -> Option<(usize, i64)> {
    if records.len() <= max_bytes {
        return Some((records.len(), end));
    }
    let (mut at, mut next_offset) = (0, end);
    while at < records.len() {
        let header = BatchHeader::parse(records.get(at..)?).ok()?;
        let behind = at
            .checked_add(header.size())
            .filter(|b| *b <= records.len())?;
        if behind > max_bytes && at > 0 {
            break;
        }
        (at, next_offset) = (behind, header.next_offset());
    }
    Some((at, next_offset))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use whimbrel_wire::BatchBuilder;

    use super::*;

    const LINEAGE: [EpochStart; 1] = [EpochStart {
        epoch: 1,
        start_offset: 0,
    }];

    fn at() -> TopicPartition {
        TopicPartition::new(Uuid::from_u128(1), 0)
    }

    /// Batches of one record, offsets `[from, to)`.
    fn batches(from: i64, to: i64) -> ColdRead {
        let mut records = Vec::new();
        for base in from..to {
            let mut builder = BatchBuilder::new(base);
            builder.add(0, None, Some(&[7; 100]), &[]).unwrap();
            records.extend_from_slice(&builder.finish().unwrap());
        }
        ColdRead::Records(Records {
            bytes: records.into(),
            next_offset: to,
            aborted: None,
        })
    }

    fn next(ahead: &Ahead, offset: i64, max_bytes: usize) -> (Option<(i64, usize)>, Option<Load>) {
        let (found, load) = ahead.take((at(), offset), &LINEAGE, max_bytes, 0);
        match found {
            Found::Records(r) => (Some((r.next_offset, r.bytes.len())), load),
            _ => (None, load),
        }
    }

    #[test]
    fn a_consumer_that_reads_on_is_served_from_windows_cut_at_batches() {
        let ahead = Ahead::default();
        assert!(ahead.served(at(), 5, &LINEAGE, false, 0).is_none());
        let (found, _) = ahead.take((at(), 5), &LINEAGE, 1, 0);
        assert!(matches!(found, Found::Sequential));
        let load = ahead.served(at(), 10, &LINEAGE, true, 0).unwrap();
        assert_eq!(load.offset, 10);
        let (found, _) = ahead.take((at(), 10), &LINEAGE, 1, 0);
        assert!(matches!(found, Found::Loading(_)));
        load.finish(batches(10, 14));
        let (first, load) = next(&ahead, 10, 1);
        let (end, one) = first.unwrap();
        assert_eq!((end, load.unwrap().offset), (11, 14), "at least one batch");
        let (second, load) = next(&ahead, 11, 2 * one + 1);
        assert_eq!((second, load.is_none()), (Some((13, 2 * one)), true));
        assert_eq!(next(&ahead, 13, usize::MAX).0, Some((14, one)));
        // Its load was dropped without an outcome.
        assert!(matches!(
            ahead.take((at(), 14), &LINEAGE, 1, 0).0,
            Found::Sequential
        ));
    }

    #[test]
    fn nothing_of_another_lineage_is_served() {
        let ahead = Ahead::default();
        let load = ahead.served(at(), 10, &LINEAGE, true, 0).unwrap();
        load.finish(batches(10, 14));
        let (found, _) = ahead.take((at(), 10), &[], 1, 0);
        assert!(matches!(found, Found::Stranger));
        assert!(next(&ahead, 10, 1).0.is_none(), "and it is gone");
    }

    #[test]
    fn windows_are_bounded_until_their_bytes_are_gone_and_idle_ones_make_room() {
        let ahead = Ahead::default();
        let load = |n: i64, now_ns| ahead.served(at(), 10 * n, &LINEAGE, true, now_ns);
        let mut held = Vec::new();
        for n in 0..i64::try_from(WINDOWS).unwrap() {
            load(n, 0).unwrap().finish(batches(10 * n, 10 * n + 1));
        }
        if let Found::Records(records) = ahead.take((at(), 0), &LINEAGE, 1, 0).0 {
            held.push(records);
        }
        assert!(load(100, 1).is_none());
        assert!(load(100, IDLE_NS).is_some(), "the others are idle");
        assert_eq!(ahead.windows.available_permits(), WINDOWS - 1);
        held.clear();
        assert_eq!(ahead.windows.available_permits(), WINDOWS);
    }
}
