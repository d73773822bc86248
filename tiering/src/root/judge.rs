//! What happened to a conditional write, decided from what is there now.
//!
//! No answer but success is a verdict: a 412 may be the echo of our own first attempt, a 409 or 5xx may
//! have written, a cut connection says nothing. So the root is read again and compared with the write that
//! was tried and with the state that it was based on. `Again` means the *same* bytes: an earlier attempt may
//! still arrive, and then either of the two is ours.

use uuid::Uuid;

use super::{Root, Stamp};

/// What a re-read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Root(Stamp),
    Missing,
    /// It is there and cannot be believed.
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Our write is what is there.
    Done,
    /// It did not happen yet: send the same bytes again.
    Again,
    /// While claiming: the owner before us wrote once more. Claim again, on top of that.
    Moved,
    /// A later owner is there: stop, commit and delete nothing more.
    Fenced { epoch: u64 },
    /// Our epoch with a write that is not ours, though nobody but us claimed it: two daemons believe they are this
    /// one. Stop.
    TwoOfOneIdentity,
    /// An older root came back, or it is gone or damaged: somebody changed the bucket by hand. Stop.
    WentBack,
}

impl Verdict {
    /// For metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Again => "again",
            Self::Moved => "moved",
            Self::Fenced { .. } => "fenced",
            Self::TwoOfOneIdentity => "two_of_one_identity",
            Self::WentBack => "went_back",
        }
    }
}

/// Judges the write stamped `mine`, made on top of `before` (`None`: there was no root).
pub fn judge(mine: &Stamp, before: Option<&Stamp>, now: Reading) -> Verdict {
    let now = match now {
        Reading::Root(now) => now,
        Reading::Missing if before.is_none() => return Verdict::Again,
        Reading::Missing | Reading::Damaged => return Verdict::WentBack,
    };
    if now.nonce == mine.nonce {
        return Verdict::Done;
    }
    if before.is_some_and(|before| before.nonce == now.nonce) {
        return Verdict::Again;
    }
    let claiming = before.is_none_or(|before| before.epoch != mine.epoch);
    match now.epoch.cmp(&mine.epoch) {
        std::cmp::Ordering::Greater => Verdict::Fenced { epoch: now.epoch },
        // Of two claims on top of the same root the other one came first.
        std::cmp::Ordering::Equal if claiming && now.incarnation != mine.incarnation => {
            Verdict::Fenced { epoch: now.epoch }
        }
        std::cmp::Ordering::Equal => Verdict::TwoOfOneIdentity,
        std::cmp::Ordering::Less
            if claiming
                && before.is_none_or(|b| (b.epoch, b.sequence) < (now.epoch, now.sequence)) =>
        {
            Verdict::Moved
        }
        std::cmp::Ordering::Less => Verdict::WentBack,
    }
}

/// Who claims.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    pub incarnation: Uuid,
    pub nonce: Uuid,
    pub region: &'a str,
    pub shard: u16,
    pub shards: u16,
    pub now_ms: i64,
}

/// The root that makes the claimant the owner: what was found, in a new epoch.
pub fn claim(found: Option<&Root>, by: &Claim<'_>) -> Root {
    let before = found.map(|root| root.stamp);
    let stamp = Stamp {
        incarnation: by.incarnation,
        epoch: before.map_or(0, |b| b.epoch).saturating_add(1),
        sequence: before.map_or(0, |b| b.sequence).saturating_add(1),
        nonce: by.nonce,
    };
    match found {
        Some(root) => Root {
            stamp,
            written_ms: by.now_ms,
            ..root.clone()
        },
        None => Root::empty(stamp, by.region, by.shard, by.shards, by.now_ms),
    }
}
