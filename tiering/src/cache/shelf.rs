//! Takes blocks in: one at a time goes to the disk, and whoever waits for a block does not wait for the disk.

use std::{collections::HashMap, fs::File, io, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{Advice, fadvise};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use whimbrel_runtime::Tasks;

use super::{BlockId, Cache};

#[derive(Clone, Debug)]
pub struct Shelf {
    cache: Arc<Cache>,
    /// One: to write a block and push it to the disk.
    turn: Arc<Semaphore>,
    /// Blocks on their way to the disk, and whether their reader has them behind it already. As many as fit in the
    /// memory for fetches.
    on_their_way: Arc<Mutex<HashMap<BlockId, bool>>>,
    tasks: Tasks,
}

impl Shelf {
    pub fn new(cache: Arc<Cache>, tasks: Tasks) -> Self {
        Self {
            cache,
            turn: Arc::new(Semaphore::new(1)),
            on_their_way: Arc::default(),
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
        let (cache, block) = (Arc::clone(&self.cache), id.clone());
        let write = move || cache.write(&block, &bytes);
        self.on_their_way.lock().insert(id.clone(), false);
        let written = self.tasks.blocking(write).await;
        if let Ok(Some(file)) = written {
            let this = self.clone();
            self.tasks.spawn_ok("push a block", async move {
                this.push(id, file, turn).await;
                drop(held);
            });
            return Ok(());
        }
        self.on_their_way.lock().remove(&id);
        written.map(drop)
    }

    /// A reader has it behind it: it leaves the kernel's memory as soon as the disk has it.
    pub fn let_go(&self, id: &BlockId) {
        if let Some(is_behind) = self.on_their_way.lock().get_mut(id) {
            *is_behind = true;
            return;
        }
        self.cache.let_go(id);
    }

    async fn push(&self, id: BlockId, file: File, turn: Option<OwnedSemaphorePermit>) {
        let turn = match turn {
            Some(turn) => Some(turn),
            None => self.turn().await,
        };
        let on_their_way = Arc::clone(&self.on_their_way);
        let push = move || {
            let pushed = file.sync_data();
            if on_their_way.lock().remove(&id) == Some(true) {
                let _ = fadvise(&file, 0, None, Advice::DontNeed);
            }
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
    async fn a_block_that_is_read_before_the_disk_has_it_is_let_go_then() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(dir.path(), 1_000).unwrap());
        let shelf = Shelf::new(cache, Tasks::new(Shutdown::new()));
        let disk = shelf.turn().await;
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let bytes = Bytes::from_static(b"block");
        shelf
            .put(id(0), bytes.clone(), ready(()), ended)
            .await
            .unwrap();
        let behind = || shelf.on_their_way.lock().get(&id(0)).copied();
        assert_eq!(behind(), Some(false));
        shelf.let_go(&id(0));
        assert_eq!(behind(), Some(true));
        drop(disk);
        // What is held for it ends with it.
        assert!(end.await.is_err());
        assert_eq!(behind(), None);
        shelf.put(id(0), bytes, ready(()), ()).await.unwrap();
        assert_eq!(behind(), None, "it is here already");
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
