//! Takes blocks in: one at a time goes to the disk, and whoever waits for a block does not wait for the disk.
//!
//! The log has the same disk. Of its time pushes take a quarter, and more only where a reader waits for the memory that
//! they hold. A block that its readers have behind them before its push has begun need not get to the disk at all: it is
//! given up where others want its memory, so that a history which is read faster than the disk takes it leaves room
//! for the log.

mod way;

use std::{fs::File, io, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::fs::{Advice, fadvise};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use whimbrel_runtime::{Clock, Tasks};

use self::way::{Given, Ways};
use super::{BlockId, Cache};

/// A push is followed by so many times its own length without one.
const RESTS: u32 = 3;
const LONGEST_REST: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Shelf {
    cache: Arc<Cache>,
    /// One: to write a block and push it to the disk.
    turn: Arc<Semaphore>,
    ways: Arc<Ways>,
    /// A reader waits for the memory of blocks that all are still wanted.
    urged: Arc<Notify>,
    clock: Clock,
    tasks: Tasks,
}

impl Shelf {
    pub fn new(cache: Arc<Cache>, clock: Clock, tasks: Tasks) -> Self {
        Self {
            cache,
            turn: Arc::new(Semaphore::new(1)),
            ways: Arc::default(),
            urged: Arc::default(),
            clock,
            tasks,
        }
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Returns when readers can have the block. It is written when its turn has come or `wanted` ends, and pushed
    /// to the disk in its turn; `held` lives until then, or until the block is given up.
    pub async fn put(
        &self,
        id: BlockId,
        bytes: Bytes,
        wanted: impl Future<Output = ()> + Send,
        held: impl Send + 'static,
    ) -> io::Result<()> {
        let turn = tokio::select! {
            biased;
            turn = self.turn() => turn,
            () = wanted => None,
        };
        let (cache, block) = (Arc::clone(&self.cache), id.clone());
        let write = move || cache.write(&block, &bytes);
        if let Some(file) = self.tasks.blocking(write).await? {
            let given = self.ways.begin(&id);
            let this = self.clone();
            self.tasks.spawn_ok("push a block", async move {
                this.push(id, file, turn, given, held).await;
            });
        }
        Ok(())
    }

    /// A reader is about to look for it.
    pub fn used(&self, id: &BlockId) {
        self.ways.is_used(id);
    }

    /// A reader has it behind it: it leaves the kernel's memory, as soon as the disk has it. Blocking.
    pub fn let_go(&self, id: &BlockId) {
        if !self.ways.is_behind(id) {
            self.cache.let_go(id);
        }
    }

    /// Somebody waits for memory: the block that was let go first, of those whose push has not begun, is given up.
    /// False where there is none.
    pub fn make_way(&self) -> bool {
        self.ways.give_up(|id| self.cache.forget(id))
    }

    /// A reader waits for memory.
    pub fn urge(&self) {
        if !self.make_way() {
            self.urged.notify_one();
        }
    }

    async fn push(
        &self,
        id: BlockId,
        file: File,
        turn: Option<OwnedSemaphorePermit>,
        given: Given,
        held: impl Send + 'static,
    ) {
        let turn = match turn {
            Some(turn) => Some(turn),
            None => tokio::select! {
                biased;
                () = given.up() => None,
                turn = self.turn() => turn,
            },
        };
        // It may have been given up in this moment.
        let turn = turn.filter(|_| self.ways.push(&id));
        if turn.is_none() {
            return;
        }
        let ways = Arc::clone(&self.ways);
        let since_ms = self.clock.boot_ms();
        let push = move || {
            let pushed = file.sync_data();
            if ways.end(&id) {
                let _ = fadvise(&file, 0, None, Advice::DontNeed);
            }
            pushed
        };
        if let Err(error) = self.tasks.blocking(push).await {
            tracing::warn!(%error, "a cached block was not pushed to the disk; whoever reads it compares its checksums");
        }
        drop(held);
        let took = Duration::from_millis(self.clock.boot_ms().saturating_sub(since_ms));
        self.rest(took).await;
        drop(turn);
    }

    async fn rest(&self, took: Duration) {
        let shutdown = self.tasks.shutdown();
        let rest = self.clock.sleep((took * RESTS).min(LONGEST_REST));
        shutdown
            .unless(async {
                tokio::select! {
                    () = rest => {}
                    () = self.urged.notified() => {}
                }
            })
            .await;
    }

    /// Always some: nobody closes it.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests;
