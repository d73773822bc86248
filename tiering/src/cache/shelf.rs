//! Takes blocks in: one at a time goes to the disk, and whoever waits for a block does not wait for the disk.

use std::{fs::File, io, sync::Arc};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use whimbrel_runtime::Tasks;

use super::{BlockId, Cache};

#[derive(Clone, Debug)]
pub struct Shelf {
    cache: Arc<Cache>,
    /// One: to write a block and push it to the disk.
    turn: Arc<Semaphore>,
    tasks: Tasks,
}

impl Shelf {
    pub fn new(cache: Arc<Cache>, tasks: Tasks) -> Self {
        Self {
            cache,
            turn: Arc::new(Semaphore::new(1)),
            tasks,
        }
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Returns when readers can have the block. It is written when its turn has come or `wanted` ends, and pushed
    /// to the disk in its turn; `held` lives until then.
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
        let cache = Arc::clone(&self.cache);
        let write = move || cache.write(&id, &bytes);
        if let Some(file) = self.tasks.blocking(write).await? {
            let this = self.clone();
            self.tasks.spawn_ok("push a block", async move {
                this.push(file, turn).await;
                drop(held);
            });
        }
        Ok(())
    }

    async fn push(&self, file: File, turn: Option<OwnedSemaphorePermit>) {
        let turn = match turn {
            Some(turn) => Some(turn),
            None => self.turn().await,
        };
        let push = move || {
            let pushed = file.sync_data();
            drop(turn);
            pushed
        };
        if let Err(error) = self.tasks.blocking(push).await {
            tracing::warn!(%error, "a cached block was not pushed to the disk; whoever reads it compares its checksums");
        }
    }

    /// Always some: nobody closes it.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turn).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use whimbrel_runtime::Shutdown;

    use super::*;
    use crate::cache::Piece;

    fn id(number: u32) -> BlockId {
        BlockId {
            object: "a".into(),
            piece: Piece::Block(number),
        }
    }

    #[tokio::test]
    async fn a_block_that_is_waited_for_does_not_wait_for_the_disk_and_the_others_do() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(dir.path(), 1_000).unwrap());
        let shelf = Shelf::new(cache, Tasks::new(Shutdown::new()));
        let disk = shelf.turn().await;
        let bytes = Bytes::from_static(b"block");
        let ahead = shelf.put(id(0), bytes.clone(), pending(), ());
        tokio::pin!(ahead);
        assert!(futures::poll!(&mut ahead).is_pending());
        shelf.put(id(1), bytes, ready(()), ()).await.unwrap();
        assert!(futures::poll!(&mut ahead).is_pending());
        let here = |number| shelf.cache().get(&id(number)).is_some();
        assert!(!here(0) && here(1));
        drop(disk);
        ahead.await.unwrap();
        assert!(here(0));
    }
}
