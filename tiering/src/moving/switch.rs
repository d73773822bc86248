//! The one moment at which a unit changes its place: its root is written where it goes, in a new epoch, and then the
//! tombstone takes the place of the old one.
//!
//! Both writes are compare-and-swaps and both are judged by what is there afterwards. A root at the new place that
//! nothing points to yet is what an attempt has left; the next attempt has a higher epoch and replaces it. Whoever
//! was stopped before its tombstone finds another root, or another tombstone, where its own was to go, and a higher
//! epoch at the new place: it changes nothing. Where everything comes back to a place that it had left, the tombstones
//! there have lower epochs, too, and are replaced in the same way.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_runtime::{Backoff, Clock};

use super::MoveError;
use crate::{
    format::{FormatError, Key, Unit},
    meta::Head,
    ops::Ops,
    root::{MAX_BYTES, Moved, Reading, Root, Stamp, Verdict, judge},
    store::{Found, Store, Target, Version},
};

/// What stands at a key that is replaced by a swap.
#[derive(Debug)]
pub(super) enum Standing {
    Root(Box<Root>, Version),
    Head(Box<Head>, Version),
    Moved(Moved, Version),
    Nothing,
}

impl Standing {
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::Root(root, _) => Some(root.stamp),
            Self::Head(head, _) => Some(head.stamp),
            Self::Moved(moved, _) => Some(moved.stamp),
            Self::Nothing => None,
        }
    }

    fn version(self) -> Option<Version> {
        match self {
            Self::Root(_, version) | Self::Head(_, version) | Self::Moved(_, version) => {
                Some(version)
            }
            Self::Nothing => None,
        }
    }
}

/// Reads what stands at `key`, once.
pub(super) async fn standing(
    store: &dyn Store,
    key: &Key,
    unit: Unit,
) -> Result<Standing, MoveError> {
    let Found { bytes, version } = match store.get(key, MAX_BYTES).await {
        Ok(found) => found,
        Err(e) if e.is_not_found() => return Ok(Standing::Nothing),
        Err(e) => return Err(e.into()),
    };
    if Moved::is_one(&bytes) {
        return Ok(Standing::Moved(Moved::decode(&bytes)?, version));
    }
    Ok(match unit {
        Unit::Meta => Standing::Head(Box::new(Head::decode(&bytes)?), version),
        _ => Standing::Root(Box::new(Root::decode(&bytes)?), version),
    })
}

/// A unit's way from `from` to `target`.
#[derive(Debug)]
pub(super) struct Switch<'a> {
    pub from: &'a dyn Store,
    pub to: &'a dyn Store,
    pub target: &'a Target,
    pub region: &'a str,
    pub incarnation: Uuid,
    pub key: Key,
    pub unit: Unit,
    /// The new place was left once: the tombstones there are of before.
    pub comes_back: bool,
    pub clock: &'a Clock,
    pub ops: &'a Ops,
}

/// Commits wait while a root is written at the new place: one that is away is tried again later. Nothing points to
/// what was written there meanwhile.
const ATTEMPTS: u32 = 8;

fn pause() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}

impl Switch<'_> {
    /// What is stamped so goes on at the new place from `before`, which stands at the old one.
    pub async fn make(
        &self,
        before: Standing,
        stamp: Stamp,
        bytes: Option<Vec<u8>>,
    ) -> Result<(), MoveError> {
        if let Some(bytes) = bytes {
            self.write_there(&stamp, &Bytes::from(bytes)).await?;
        }
        let moved = Moved {
            stamp,
            region: self.region.to_owned(),
            unit: self.unit,
            id: self.target.id,
            written_ms: self.clock.wall_ms(),
            to: self.target.url.clone(),
        };
        self.bury(before, &moved).await?;
        self.target.mark(self.unit);
        Ok(())
    }

    /// Writes the root at the new place, over what earlier attempts have left.
    async fn write_there(&self, stamp: &Stamp, bytes: &Bytes) -> Result<(), MoveError> {
        let op = self.ops.begin("write root at the new place", &self.key);
        let (mut pause, mut attempts) = (pause(), 0);
        loop {
            attempts += 1;
            let there = match standing(self.to, &self.key, self.unit).await {
                Err(MoveError::Store(e)) if e.is_retryable() && attempts < ATTEMPTS => {
                    op.failed(&e);
                    self.clock.sleep(pause.next()).await;
                    continue;
                }
                other => other?,
            };
            match there.stamp() {
                Some(there) if there.nonce == stamp.nonce => return Ok(()),
                // It may be in use: whoever goes on there has a later epoch than any attempt before it.
                Some(there) if !self.replaces(stamp, &there) => {
                    return Err(MoveError::Overtaken {
                        key: self.key.clone(),
                    });
                }
                _ if matches!(there, Standing::Moved(..)) && !self.comes_back => {
                    let reason = format!("{} has moved on from there", self.key);
                    return Err(MoveError::Occupied(reason));
                }
                _ => {}
            }
            let answer = match there.version() {
                Some(version) => self.to.swap(&self.key, bytes.clone(), &version).await,
                None => self.to.put_if_absent(&self.key, bytes.clone()).await,
            };
            if let Err(e) = answer {
                op.failed(&e);
                if attempts >= ATTEMPTS {
                    return Err(e.into());
                }
                self.clock.sleep(pause.next()).await;
            }
        }
    }

    /// What an attempt has left goes; of this process's own the last one counts.
    fn replaces(&self, mine: &Stamp, there: &Stamp) -> bool {
        let own = there.incarnation == self.incarnation
            && there.epoch == mine.epoch
            && there.sequence <= mine.sequence;
        there.epoch < mine.epoch || own
    }

    /// Puts the tombstone where `before` stands.
    async fn bury(&self, before: Standing, moved: &Moved) -> Result<(), MoveError> {
        let op = self.ops.begin("put tombstone", &self.key);
        let (bytes, mut pause) = (Bytes::from(moved.encode()), pause());
        let stamp = before.stamp();
        let version = before.version();
        loop {
            let answer = match &version {
                Some(version) => self.from.swap(&self.key, bytes.clone(), version).await,
                None => self.from.put_if_absent(&self.key, bytes.clone()).await,
            };
            if let Err(e) = &answer {
                op.failed(e);
            }
            let now = match standing(self.from, &self.key, self.unit).await {
                Ok(now) => now.stamp().map_or(Reading::Missing, Reading::Root),
                Err(MoveError::Format(_)) => Reading::Damaged,
                Err(MoveError::Store(e)) if e.is_retryable() => {
                    op.failed(&e);
                    self.clock.sleep(pause.next()).await;
                    continue;
                }
                Err(e) => return Err(e),
            };
            match judge(&moved.stamp, stamp.as_ref(), now) {
                Verdict::Done => return Ok(()),
                Verdict::Again => self.clock.sleep(pause.next()).await,
                Verdict::WentBack => {
                    return Err(FormatError::malformed("root", "it is gone or went back").into());
                }
                Verdict::Moved | Verdict::Fenced { .. } | Verdict::TwoOfOneIdentity => {
                    return Err(MoveError::Overtaken {
                        key: self.key.clone(),
                    });
                }
            }
        }
    }
}
