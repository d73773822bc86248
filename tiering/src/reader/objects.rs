//! Tails of objects, opened once and kept in memory up to a limit.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use whimbrel_runtime::{Backoff, Clock};

use super::{Flights, ReadError, blocks::OPEN, flights::landed};
use crate::{
    format::{Key, Opened},
    ops::Ops,
    root::Entry,
    store::Store,
};

/// Objects kept open. An object of 64 MiB takes about 70 KiB here, one of 1 GiB a MiB.
const KEPT: usize = 512;
/// A tail is indexes and tables: far below this for any object that we write.
const MAX_TAIL: u64 = 64 << 20;
const ATTEMPTS: u32 = 4;

type Outcome = Result<Arc<Opened>, ReadError>;

#[derive(Clone, Debug)]
pub struct Objects {
    store: Arc<dyn Store>,
    clock: Clock,
    flights: Flights<Key, Outcome>,
    ops: Ops,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Key, (u64, Arc<Opened>)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
}

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Arc<Opened>> {
        let (used, object) = self.objects.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        self.uses += 1;
        Some(Arc::clone(object))
    }

    fn add(&mut self, key: &Key, object: Arc<Opened>) {
        if self.objects.len() >= KEPT
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.objects.remove(&oldest);
        }
        if let Some((used, _)) = self.objects.insert(key.clone(), (self.uses, object)) {
            self.by_use.remove(&used);
        }
        self.by_use.insert(self.uses, key.clone());
        self.uses += 1;
    }
}

impl Objects {
    pub fn new(
        store: Arc<dyn Store>,
        ops: Ops,
        clock: Clock,
        flights: Flights<Key, Outcome>,
    ) -> Self {
        Self {
            store,
            clock,
            flights,
            ops,
            kept: Arc::default(),
        }
    }

    /// The object that `entry` names, its tail read and compared with the entry.
    pub async fn open(&self, key: &Key, entry: &Entry) -> Outcome {
        if let Some(object) = self.kept.lock().get(key) {
            return Ok(object);
        }
        let (this, key_, entry_) = (self.clone(), key.clone(), *entry);
        let flight =
            self.flights
                .start(&OPEN, key, async move { this.fetch(&key_, &entry_).await });
        landed(flight)
            .await
            .unwrap_or_else(|| Err(ReadError::Cache("stopping".to_owned())))
    }

    async fn fetch(&self, key: &Key, entry: &Entry) -> Outcome {
        let from = Opened::tail_position(entry.data_bytes);
        if entry.object_bytes - from > MAX_TAIL {
            return Err(ReadError::damaged(
                key,
                format!("a tail of {} bytes", entry.object_bytes - from),
            ));
        }
        let op = self.ops.begin(OPEN, key);
        let mut pause = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let read = match self.store.get_range(key, from..entry.object_bytes).await {
                Ok(tail) => opened(key, entry, &tail, from),
                Err(e) if e.is_not_found() => {
                    return Err(ReadError::damaged(key, "it is not in the bucket"));
                }
                Err(e) => Err(ReadError::Store(Arc::new(e))),
            };
            match read {
                Ok(object) => {
                    self.kept.lock().add(key, Arc::clone(&object));
                    return Ok(object);
                }
                Err(e) => {
                    op.failed(&e);
                    last = Some(e);
                }
            }
            self.clock.sleep(pause.next()).await;
        }
        Err(last.unwrap_or_else(|| ReadError::damaged(key, "no attempt was made")))
    }
}

/// Believes a tail only if it says what the root says.
fn opened(key: &Key, entry: &Entry, tail: &[u8], from: u64) -> Outcome {
    let object =
        Opened::parse(tail, from, entry.object_bytes).map_err(|e| ReadError::format(key, &e))?;
    let same = object.slice().is_some_and(|slice| {
        slice.base_offset == entry.base
            && slice.end_offset == entry.object_end
            && slice.position == 0
            && slice.length == entry.data_bytes
            && slice.leader_epoch == entry.leader_epoch
            // A list that is gone would make aborted records committed ones.
            && entry.aborted != object.aborted.is_empty()
    });
    if same {
        Ok(Arc::new(object))
    } else {
        Err(ReadError::damaged(
            key,
            "its footer is not what the root says",
        ))
    }
}
