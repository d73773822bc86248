//! Blocks on their way to the disk: as many as there is memory for.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::super::BlockId;

#[derive(Debug, Default)]
pub struct Ways {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    ways: HashMap<BlockId, Way>,
    let_go: u64,
}

#[derive(Debug)]
struct Way {
    /// Since when its readers have it behind them; counted.
    behind: Option<u64>,
    /// While its push has not begun. Dropped to give it up.
    waits: Option<oneshot::Sender<()>>,
}

/// Ends when the block is given up.
#[derive(Debug)]
pub struct Given(oneshot::Receiver<()>);

impl Given {
    pub async fn up(self) {
        // Nothing is ever sent.
        let _ = self.0.await;
    }
}

impl Ways {
    pub fn begin(&self, id: &BlockId) -> Given {
        let (waits, given) = oneshot::channel();
        let way = Way {
            behind: None,
            waits: Some(waits),
        };
        self.inner.lock().ways.insert(id.clone(), way);
        Given(given)
    }

    /// Notes that its readers have it behind them; false where it is not on its way.
    pub fn is_behind(&self, id: &BlockId) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(way) = inner.ways.get_mut(id) else {
            return false;
        };
        inner.let_go += 1;
        way.behind.get_or_insert(inner.let_go);
        true
    }

    pub fn is_used(&self, id: &BlockId) {
        if let Some(way) = self.inner.lock().ways.get_mut(id) {
            way.behind = None;
        }
    }

    /// Gives the block up that was let go first. `forget` takes it out of the cache before anybody can be said to use
    /// it, or put it there anew.
    pub fn give_up(&self, forget: impl FnOnce(&BlockId)) -> bool {
        let mut inner = self.inner.lock();
        let waiting = inner.ways.iter().filter(|(_, way)| way.waits.is_some());
        let first = waiting
            .filter_map(|(id, way)| Some((way.behind?, id)))
            .min_by_key(|(since, _)| *since)
            .map(|(_, id)| id.clone());
        let Some(id) = first else {
            return false;
        };
        forget(&id);
        inner.ways.remove(&id).is_some()
    }

    /// Its push begins; false where it was given up.
    pub fn push(&self, id: &BlockId) -> bool {
        match self.inner.lock().ways.get_mut(id) {
            Some(way) => {
                way.waits = None;
                true
            }
            None => false,
        }
    }

    /// Its push has ended; true where its readers have it behind them.
    pub fn end(&self, id: &BlockId) -> bool {
        let way = self.inner.lock().ways.remove(id);
        way.is_some_and(|way| way.behind.is_some())
    }
}
