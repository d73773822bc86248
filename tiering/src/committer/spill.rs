//! Entries on their way out of a root into parts, and back where an edit concerns them.

use std::{collections::BTreeSet, time::Duration};

use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::{Backoff, random};

use super::{CommitError, Edit, shard::Owned};
use crate::{
    root::{Commit, Entry, Root, Run, SPILL_BYTES, Spilled},
    store::StoreError,
};

/// What has to be read before an edit.
struct Wanted {
    at: TopicPartition,
    runs: Vec<Run>,
    /// Objects below it go; without it the runs come back whole.
    log_start: Option<i64>,
}

/// Runs that an edit changes. A commit, in most cases, none.
fn wanted(root: &Root, edit: &Edit) -> Vec<Wanted> {
    let of = |at: &TopicPartition, log_start, concerns: &dyn Fn(&Run) -> bool| {
        let partition = root.partitions.get(at)?;
        let runs: Vec<_> = partition.runs.iter().copied().filter(concerns).collect();
        (!runs.is_empty()).then_some(Wanted {
            at: *at,
            runs,
            log_start,
        })
    };
    // A log that begins above all that is here lets go of it.
    let restarts = |commit: &Commit| {
        let end = root.partitions.get(&commit.at).map(|p| p.end);
        let base = commit.entry.base;
        end.is_some_and(|end| end < base && base <= commit.log_start)
    };
    let all = |at: TopicPartition| of(&at, None, &|_| true);
    match edit {
        Edit::Commit(commit) if restarts(commit) => all(commit.at).into_iter().collect(),
        Edit::Commit(_) => Vec::new(),
        Edit::CommitAll(commits) => {
            let restarted = commits.iter().filter(|c| restarts(c)).map(|c| c.at);
            let once: BTreeSet<_> = restarted.collect();
            once.into_iter().filter_map(all).collect()
        }
        Edit::Truncate {
            at, offset, tail, ..
        } => {
            let partition = root.partitions.get(at);
            let meant = partition.is_some_and(|p| p.has_tail(*offset, *tail));
            of(at, None, &|run| meant && run.end > *offset)
                .into_iter()
                .collect()
        }
        Edit::RaiseLogStart { at, said } => {
            let taken = root.partitions.get(at).and_then(|p| p.taken(*said));
            let below = |start| of(at, Some(start), &|run| run.base < start);
            taken.and_then(below).into_iter().collect()
        }
        // The last runs come back together, so those behind it too.
        Edit::Replace { at, old, .. } => of(at, None, &|run| run.end > old.base)
            .into_iter()
            .collect(),
        Edit::Forget { at } | Edit::Rewrite { at, .. } => all(*at).into_iter().collect(),
        Edit::Unlink(_) | Edit::Strike(_) | Edit::Hold(_) | Edit::Release(_) => Vec::new(),
    }
}

impl Owned {
    /// Reads the runs that an edit changes; a run that cannot be had refuses the edit and nothing else.
    pub(super) async fn take_back(&self, root: &mut Root, edit: &Edit) -> Result<(), CommitError> {
        let (keys, now_ms) = (&self.context.keys, self.context.clock.wall_ms());
        for Wanted {
            at,
            runs,
            log_start,
        } in wanted(root, edit)
        {
            let read = self.read_runs(runs).await?;
            match log_start {
                Some(log_start) => root.trim(keys, at, log_start, &read, now_ms),
                None => root.unspill(keys, at, read, now_ms),
            }
        }
        Ok(())
    }

    async fn read_runs(&self, runs: Vec<Run>) -> Result<Vec<(Run, Vec<Entry>)>, CommitError> {
        let mut read = Vec::with_capacity(runs.len());
        for run in runs {
            let entries = self.context.runs().read(&run).await;
            let entries = entries.map_err(|reason| CommitError::Part {
                shard: self.shard,
                reason,
            })?;
            read.push((run, entries.to_vec()));
        }
        Ok(read)
    }

    /// Takes older entries out of a root that has grown, until it is small again. The part is in the bucket
    /// before this returns; nothing names it until the root is written.
    pub(super) async fn spill(&self, root: &mut Root) -> Result<(), CommitError> {
        while root.encode().len() > SPILL_BYTES {
            let now_ms = self.context.clock.wall_ms();
            for (at, runs) in root.mergeable() {
                let read = self.read_runs(runs).await?;
                root.unspill(&self.context.keys, at, read, now_ms);
            }
            match root.spill(root.stamp.epoch, random::u64()) {
                Some(spilled) => self.put_part(&spilled).await,
                None => break,
            }
        }
        Ok(())
    }

    /// Waits while the store is away, as the root that will name it does.
    async fn put_part(&self, spilled: &Spilled) {
        let key = self.context.keys.root_part(&spilled.name);
        let op = self.context.ops.begin("put root part", &key);
        let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        loop {
            let put = self
                .context
                .store
                .put_if_absent(&key, spilled.bytes.clone().into())
                .await;
            if let Err(e) = &put {
                op.failed(e);
            }
            // Whatever the answer was: what is there decides.
            let limit = spilled.bytes.len() as u64;
            match self.context.store.get(&key, limit).await {
                Ok(found) if found.bytes == spilled.bytes => return,
                Ok(_) => op.failed(&StoreError::Failed {
                    op: "get",
                    key: key.to_string(),
                    reason: "it reads differently".to_owned(),
                }),
                Err(e) if e.is_not_found() => {}
                Err(e) => op.failed(&e),
            }
            self.context.clock.sleep(pause.next()).await;
        }
    }
}
