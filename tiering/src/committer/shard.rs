//! One shard: its claim, and the loop that replaces its root.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use whimbrel_runtime::{Backoff, random};

use super::{Asked, CommitError, Context, Edit, Outcome, Reply, holds::Heard, older::Told};
use crate::{
    format::FormatError,
    metrics as names,
    root::{
        Applied, Claim, KEEP_EVERY, MAX_BYTES, Reading, Root, Stamp, Unlinked, Verdict, claim,
        judge,
    },
    store::{StoreError, Version},
};

/// A claimed shard.
pub(super) struct Owned {
    pub(super) context: Context,
    pub(super) shard: u16,
    root: Arc<Root>,
    version: Version,
    heard: Heard,
}

/// A root as it was found.
struct Here {
    root: Root,
    version: Version,
}

/// How an attempt ended that is not tried again as it is.
enum Written {
    Done(Version),
    Moved,
}

/// Answers that are not a root before the object is called damaged: one may have been bent on its way.
const BENT: u32 = 2;
/// How often an owner without work looks whether it still is one by the region's view.
const LOOK: Duration = Duration::from_millis(500);
/// And by the root: who was paused, or not heard of for a while, may have lost the shard without a word. Sixteen shards
/// so looked at are four million GETs a month, less than two dollars.
const LOOK_AT_ROOT: Duration = Duration::from_secs(10);

fn pause() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}

impl Owned {
    pub async fn claim(context: Context, shard: u16) -> Result<Self, CommitError> {
        loop {
            let found = read(&context, shard).await?;
            let number = found.as_ref().map(|f| f.root.stamp.number());
            if let Some((newest, key)) = newest_of(&context, shard).await
                && number.is_none_or(|number| number < newest)
            {
                if stamp_of(&read(&context, shard).await?) != stamp_of(&found) {
                    // It was written while we listed.
                    continue;
                }
                // A root that begins anew or in the past would make garbage of every object that the lost one named.
                tracing::error!(shard, root = ?number, ?newest, %key, "there was a newer root than this one");
                return Err(CommitError::WentBack { shard });
            }
            let by = Claim {
                incarnation: context.incarnation,
                nonce: random::uuid(),
                region: &context.region,
                shard,
                shards: context.shards,
                now_ms: context.clock.wall_ms(),
            };
            let root = claim(found.as_ref().map(|f| &f.root), &by);
            let before = found.as_ref().map(|f| (&f.root.stamp, &f.version));
            match write(&context, shard, &root, before).await? {
                Written::Done(version) => {
                    let owned = Self {
                        shard,
                        root: Arc::new(root),
                        version,
                        heard: Heard::default(),
                        context,
                    };
                    owned.keep().await;
                    return Ok(owned);
                }
                Written::Moved => {
                    tracing::info!(shard, "the owner before us wrote once more; claiming again")
                }
            }
        }
    }

    pub fn root(&self) -> Arc<Root> {
        Arc::clone(&self.root)
    }

    /// Until shutdown, or until the shard is another's: by `keeps`, or because a swap found it so.
    pub async fn run(
        &mut self,
        queue: &mut mpsc::Receiver<Asked>,
        publish: &watch::Sender<Arc<Root>>,
        keeps: impl Fn() -> bool,
    ) -> Result<(), CommitError> {
        let (shutdown, clock) = (self.context.tasks.shutdown(), self.context.clock.clone());
        let mut looked_ms = clock.boot_ms();
        while keeps() {
            if let Some(release) = self.void_silent() {
                let Some(done) = shutdown.unless(self.apply(vec![release], publish)).await else {
                    return Ok(());
                };
                done?;
            }
            let age_ms = clock.boot_ms().saturating_sub(looked_ms);
            let is_due = u128::from(age_ms) >= LOOK_AT_ROOT.as_millis();
            let first = tokio::select! {
                () = shutdown.wait() => return Ok(()),
                first = queue.recv() => first,
                // What is asked for meanwhile does not wait for it.
                stands = self.stands(), if is_due => {
                    if let Err(error) = stands {
                        self.fail(Vec::new(), error, publish).await?;
                    }
                    looked_ms = clock.boot_ms();
                    continue;
                }
                () = clock.sleep(LOOK), if !is_due => continue,
            };
            let Some(first) = first else { return Ok(()) };
            let mut edits = vec![first];
            while let Ok(next) = queue.try_recv() {
                edits.push(next);
            }
            let Some(done) = shutdown.unless(self.apply(edits, publish)).await else {
                return Ok(());
            };
            done?;
        }
        Ok(())
    }

    /// Applies edits in order, writes once, then answers. An edit that is refused does not stop the others.
    async fn apply(
        &mut self,
        edits: Vec<Asked>,
        publish: &watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        let mut next = (*self.root).clone();
        let mut answers = Vec::with_capacity(edits.len());
        for Asked { edit, reply, .. } in edits {
            let before = next.clone();
            if let Err(error) = self.take_back(&mut next, &edit).await {
                next = before;
                answers.push((reply, Err(error)));
                continue;
            }
            let outcome = self.change(&mut next, &edit);
            if let Edit::Hold(hold) = &edit {
                self.heard.hear(hold.nonce, self.context.clock.boot_ms());
            }
            let spilled = self.spill(&mut next).await;
            if let Err(error) = spilled {
                tracing::warn!(shard = self.shard, %error, "older entries stay in the root");
            }
            let bytes = next.encode().len();
            if bytes as u64 > MAX_BYTES {
                next = before;
                answers.push((
                    reply,
                    Err(CommitError::Full {
                        shard: self.shard,
                        bytes,
                    }),
                ));
            } else {
                answers.push((reply, outcome));
            }
        }
        if next != *self.root {
            next.stamp = Stamp {
                sequence: next.stamp.sequence.saturating_add(1),
                nonce: random::uuid(),
                ..next.stamp
            };
            next.written_ms = self.context.clock.wall_ms();
            let before = Some((&self.root.stamp, &self.version));
            match write(&self.context, self.shard, &next, before).await {
                Ok(Written::Done(version)) => self.version = version,
                // Only a claim can be overtaken by an older epoch.
                Ok(Written::Moved) => {
                    let shard = self.shard;
                    let error = CommitError::WentBack { shard };
                    return self.fail(answers, error, publish).await;
                }
                Err(error) => return self.fail(answers, error, publish).await,
            }
            self.root = Arc::new(next);
            self.keep().await;
            publish.send_replace(Arc::clone(&self.root));
        } else if let Err(error) = self.stands().await {
            // That there is nothing to do was read from a root that is another's now.
            return self.fail(answers, error, publish).await;
        }
        for (reply, outcome) in answers {
            // Whoever asked may be gone; the edit stands.
            let _ = reply.send(outcome);
        }
        Ok(())
    }

    /// Holds that nobody has renewed for too long end.
    fn void_silent(&mut self) -> Option<Asked> {
        let (now_ms, patience) = (self.context.clock.boot_ms(), self.context.hold_silence);
        let silent = self.heard.silent(&self.root.holds, now_ms, patience);
        if silent.is_empty() {
            return None;
        }
        tracing::warn!(
            shard = self.shard,
            holds = silent.len(),
            "who holds what was unlinked is not heard of any more"
        );
        let (reply, _) = oneshot::channel();
        Some(Asked {
            edit: Edit::Release(silent),
            reply,
            is_for_owner: true,
        })
    }

    /// Whether the root in the bucket is the one that we wrote last. Waits while the store is away.
    async fn stands(&self) -> Result<(), CommitError> {
        let shard = self.shard;
        let reading = match read(&self.context, shard).await? {
            Some(here) => Reading::Root(here.root.stamp),
            None => Reading::Missing,
        };
        let mine = &self.root.stamp;
        match judge(mine, Some(mine), reading) {
            Verdict::Done => Ok(()),
            Verdict::Fenced { epoch } => Err(CommitError::Fenced { shard, epoch }),
            Verdict::TwoOfOneIdentity => Err(CommitError::TwoOfOneIdentity { shard }),
            Verdict::Again | Verdict::Moved | Verdict::WentBack => {
                Err(CommitError::WentBack { shard })
            }
        }
    }

    /// Tells whoever waits why it was not done. Goes on where the shard has moved, and ends with the error otherwise.
    async fn fail(
        &mut self,
        answers: Vec<(Reply, Result<Outcome, CommitError>)>,
        error: CommitError,
        publish: &watch::Sender<Arc<Root>>,
    ) -> Result<(), CommitError> {
        let shard = self.shard;
        let is_fenced = matches!(error, CommitError::Fenced { .. });
        let goes_on = is_fenced && self.follow(publish).await?;
        let told = if goes_on || (is_fenced && self.context.region_mates.is_some()) {
            // Another daemon of the region goes on with it, or this one does at another place.
            CommitError::Elsewhere { shard }
        } else {
            tracing::error!(shard, code = error.code(), %error, "this shard is ours no more");
            error.clone()
        };
        for (reply, _) in answers {
            let _ = reply.send(Err(told.clone()));
        }
        if goes_on { Ok(()) } else { Err(error) }
    }

    /// True when the root that is there now is the one that this process wrote at the shard's new place.
    async fn follow(&mut self, publish: &watch::Sender<Arc<Root>>) -> Result<bool, CommitError> {
        let here = read(&self.context, self.shard).await?;
        let ours = |here: &Here| self.context.claims.knows(self.shard, here.root.stamp.nonce);
        let Some(here) = here.filter(ours) else {
            return Ok(false);
        };
        self.root = Arc::new(here.root);
        self.version = here.version;
        publish.send_replace(Arc::clone(&self.root));
        Ok(true)
    }

    fn change(&self, root: &mut Root, edit: &Edit) -> Result<Outcome, CommitError> {
        let (keys, now_ms) = (&self.context.keys, self.context.clock.wall_ms());
        Ok(match edit {
            // An object that was uploaded under an earlier owner may have been swept since.
            edit if edit.entries().any(|e| e.writer_epoch != root.stamp.epoch) => {
                return Err(CommitError::Elsewhere { shard: self.shard });
            }
            Edit::Commit(commit) => Outcome::Applied(root.commit(keys, commit, now_ms)?),
            Edit::CommitAll(commits) => {
                let each = commits.iter();
                let refused = each.filter_map(|c| root.commit(keys, c, now_ms).err());
                Outcome::Committed(refused.collect())
            }
            Edit::Truncate {
                at,
                epoch,
                offset,
                tail,
            } => Outcome::Truncated(root.truncate(keys, *at, *epoch, *offset, *tail)?),
            // It may have waited, and other leaders may have come since.
            Edit::RaiseLogStart { at, said } => {
                let taken = root.partitions.get(at).and_then(|p| p.taken(*said));
                Outcome::Applied(taken.map_or(Applied::Already, |log_start| {
                    root.raise_log_start(keys, *at, log_start, now_ms)
                }))
            }
            Edit::Replace { at, old, new } => {
                Outcome::Applied(root.replace(keys, *at, old, **new)?)
            }
            Edit::Rewrite { at, old, new } => {
                Outcome::Applied(root.rewrite(keys, *at, old, new, now_ms)?)
            }
            Edit::Forget { at } => Outcome::Applied(root.forget(keys, *at, now_ms)),
            Edit::Unlink(list) => {
                let unlinked: Vec<_> = list
                    .iter()
                    .filter(|key| !root.refers_to(keys, key))
                    .map(|key| Unlinked {
                        key: key.clone(),
                        unlinked_ms: now_ms,
                    })
                    .collect();
                let changed = if unlinked.is_empty() {
                    Applied::Already
                } else {
                    Applied::Changed
                };
                root.pending.extend(unlinked);
                Outcome::Applied(changed)
            }
            Edit::Strike(list) => {
                root.strike(list);
                Outcome::Applied(Applied::Changed)
            }
            Edit::Hold(hold) => Outcome::Applied(root.hold(hold)?),
            Edit::Release(nonces) => Outcome::Applied(root.release(nonces)),
        })
    }

    /// Every 64th root stays under its own key, so that a bucket can be rebuilt from before a mistake.
    async fn keep(&self) {
        let stamp = self.root.stamp;
        if !stamp.sequence.is_multiple_of(KEEP_EVERY) {
            return;
        }
        let key = self
            .context
            .keys
            .kept_root(self.shard, stamp.epoch, stamp.sequence);
        if let Err(error) = self
            .context
            .store
            .put_if_absent(&key, self.root.encode().into())
            .await
        {
            tracing::warn!(%key, %error, "a root was not kept");
        }
    }
}

fn stamp_of(found: &Option<Here>) -> Option<Stamp> {
    found.as_ref().map(|here| here.root.stamp)
}

/// The newest root that the bucket's names tell of. Waits while the store is away.
async fn newest_of(context: &Context, shard: u16) -> Option<Told> {
    let keys = &context.keys;
    let op = context
        .ops
        .begin("look for a newer root", &keys.root(shard));
    let mut pause = pause();
    loop {
        let newest = context
            .names
            .newest(&*context.store, keys, &context.clock, shard);
        match newest.await {
            Ok(newest) => return newest,
            Err(e) => op.failed(&e),
        }
        context.clock.sleep(pause.next()).await;
    }
}

/// The root that is there now, for who does not own the shard.
pub(super) async fn find(context: &Context, shard: u16) -> Result<Option<Root>, CommitError> {
    Ok(read(context, shard).await?.map(|here| here.root))
}

/// The root that is there now. Waits while the store is away.
async fn read(context: &Context, shard: u16) -> Result<Option<Here>, CommitError> {
    let key = context.keys.root(shard);
    let op = context.ops.begin("read root", &key);
    let (mut pause, mut bent) = (pause(), 0);
    loop {
        match context.store.get(&key, MAX_BYTES).await {
            Ok(found) => {
                let root = match Root::decode(&found.bytes) {
                    Ok(root) => root,
                    Err(reason) if bent == BENT => {
                        return Err(CommitError::Damaged { shard, reason });
                    }
                    Err(reason) => {
                        bent += 1;
                        op.failed(&reason);
                        context.clock.sleep(pause.next()).await;
                        continue;
                    }
                };
                let name = |region: &str, shard, shards| format!("{region}/{shard} of {shards}");
                let (here, expected) = (
                    name(&root.region, root.shard, root.shards),
                    name(&context.region, shard, context.shards),
                );
                if here != expected {
                    return Err(CommitError::Foreign {
                        shard,
                        found: here,
                        expected,
                    });
                }
                return Ok(Some(Here {
                    root,
                    version: found.version,
                }));
            }
            Err(e) if e.is_not_found() => return Ok(None),
            Err(e @ StoreError::TooLarge { .. }) => {
                let reason = FormatError::malformed("root", e);
                return Err(CommitError::Damaged { shard, reason });
            }
            Err(e) => op.failed(&e),
        }
        context.clock.sleep(pause.next()).await;
    }
}

/// Sends one root until it is known what became of it.
async fn write(
    context: &Context,
    shard: u16,
    root: &Root,
    before: Option<(&Stamp, &Version)>,
) -> Result<Written, CommitError> {
    let (key, bytes) = (context.keys.root(shard), Bytes::from(root.encode()));
    let op = context.ops.begin("swap root", &key);
    let mut pause = pause();
    loop {
        let answer = match before {
            Some((_, version)) => context.store.swap(&key, bytes.clone(), version).await,
            None => context.store.put_if_absent(&key, bytes.clone()).await,
        };
        if let Err(e) = &answer {
            op.failed(e);
        }
        // Whatever the answer was, what is there decides; after a success this is the verifying re-read.
        let now = read(context, shard).await;
        let reading = match &now {
            Ok(Some(here)) => Reading::Root(here.root.stamp),
            Ok(None) => Reading::Missing,
            Err(CommitError::Damaged { .. } | CommitError::Foreign { .. }) => Reading::Damaged,
            Err(e) => return Err(e.clone()),
        };
        let verdict = judge(&root.stamp, before.map(|(stamp, _)| stamp), reading);
        let meter = context.ops.meter();
        meter.count_one(names::ROOT_VERDICTS, &[("verdict", verdict.name())]);
        match (verdict, now) {
            (Verdict::Done, Ok(Some(here))) => return Ok(Written::Done(here.version)),
            (Verdict::Done | Verdict::Again, _) => context.clock.sleep(pause.next()).await,
            (Verdict::Moved, _) => return Ok(Written::Moved),
            (Verdict::Fenced { epoch }, _) => return Err(CommitError::Fenced { shard, epoch }),
            (Verdict::TwoOfOneIdentity, _) => return Err(CommitError::TwoOfOneIdentity { shard }),
            (Verdict::WentBack, _) => return Err(CommitError::WentBack { shard }),
        }
    }
}
