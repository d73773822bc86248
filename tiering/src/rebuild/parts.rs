//! Older entries back from parts, so that a plan is about all of them, and out again before the root is
//! written.

use whimbrel_runtime::random;

use super::Rebuilder;
use crate::{
    root::{Root, SPILL_BYTES, Shared},
    runs::RunError,
    store::StoreError,
};

impl Rebuilder {
    /// Puts all entries into the root. A partition with a part that is gone or damaged is taken out, so that
    /// the listing decides about it; true if there was one.
    pub(super) async fn take_back(&self, root: &mut Root) -> Result<bool, StoreError> {
        let mut forgot = false;
        let with_runs = root.partitions.iter().filter(|(_, p)| !p.runs.is_empty());
        let with_runs: Vec<_> = with_runs.map(|(at, p)| (*at, p.runs.clone())).collect();
        for (at, runs) in with_runs {
            let mut read = Vec::with_capacity(runs.len());
            let mut lost = None;
            for run in runs {
                match self.committer.runs().read(&run).await {
                    Ok(entries) => read.push((run, entries.to_vec())),
                    Err(RunError::Store(error)) => {
                        return Err(StoreError::Failed {
                            op: "get",
                            key: self.keys.root_part(&run.part).to_string(),
                            reason: error.to_string(),
                        });
                    }
                    Err(error) => lost = Some(error),
                }
            }
            match lost {
                None => root.unspill(&self.keys, at, read, root.written_ms),
                Some(error) => {
                    tracing::warn!(%at, %error, "its older entries are taken from the objects");
                    root.partitions.remove(&at);
                    forgot = true;
                }
            }
        }
        // Nothing is deleted here: parts that are named no more are swept by the shard's owner.
        root.pending.clear();
        root.holds.iter_mut().for_each(|hold| hold.before = 0);
        root.shared = Shared::new();
        Ok(forgot)
    }

    /// The same root, small enough to be one.
    pub(super) async fn give_away(&self, mut root: Root) -> Result<Root, String> {
        while root.encode().len() > SPILL_BYTES {
            let Some(spilled) = root.spill(root.stamp.epoch, random::u64()) else {
                break;
            };
            let key = self.keys.root_part(&spilled.name);
            let (limit, bytes) = (spilled.bytes.len() as u64, spilled.bytes.clone());
            let put = self.store.put_if_absent(&key, bytes.into()).await;
            // Whatever the answer was, what is there decides.
            let there = self.store.get(&key, limit).await;
            if !there.is_ok_and(|there| there.bytes == spilled.bytes) {
                let why = put.err().map_or_else(String::new, |e| format!(": {e}"));
                return Err(format!("{key} was not written{why}"));
            }
        }
        Ok(root)
    }
}
