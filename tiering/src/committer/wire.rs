//! Edits and what came of them, as they travel between the daemons of a region.
//!
//! ```text
//! edit: kind u8 | 0 commit: topic id 16 | partition i32 | partition as in a root, with one entry
//!   | 1 truncate, 2 raise log start: without a tail, without a leader's epochs; refused
//!   | 3 unlink, 4 strike: keys u32 x { key text }
//!   | 5 replace: topic id 16 | partition i32 | twice a partition as in a root, with the old and the new entry
//!   | 6 commit all: commits u32 x { as of 0 }
//!   | 7 forget: topic id 16 | partition i32
//!   | 8 rewrite: topic id 16 | partition i32 | twice a partition as in a root, with the old and the new entries
//!   | 9 truncate: topic id 16 | partition i32 | epoch i32 | offset i64 | tail's epoch i32
//!   | 10 raise log start: topic id 16 | partition i32 | log start i64 | region epoch u32 | leader epoch i32
//!   | 11 hold: as in a root | 12 release: u32 x { nonce 16 }
//! outcome: kind u8 | 0 changed | 1 already | 2 truncated: end i64
//!     | orphaned u32 x { key text | topic id 16 | partition i32 | from i64 | end i64 }
//!   | 3 refused: text | 4 full: bytes u64 | 5 the shard is not ours
//!   | 6 committed: refused u32 x { topic id 16 | partition i32 | text }
//! ```
//!
//! Both ends are of one release: a kind that is not known is an error, never skipped.

use uuid::Uuid;
use whimbrel_fleet::TopicPartition;

use super::{CommitError, Edit, Outcome};
use crate::{
    format::{Fields, Key, Put},
    root::{
        Applied, Commit, Entry, Orphaned, Partition, Reject, Standing, Truncation,
        codec::{
            Fault, put_at, put_hold, put_partition, read_at, read_hold, read_key, read_partition,
        },
    },
};

const COMMIT: u8 = 0;
/// Named no tail; a daemon that sends it is refused.
const TRUNCATE_BLINDLY: u8 = 1;
/// Did not say whose word it was; a daemon that sends it is refused.
const RAISE_BLINDLY: u8 = 2;
const UNLINK: u8 = 3;
const STRIKE: u8 = 4;
const REPLACE: u8 = 5;
const COMMIT_ALL: u8 = 6;
const FORGET: u8 = 7;
const REWRITE: u8 = 8;
const TRUNCATE: u8 = 9;
const RAISE_LOG_START: u8 = 10;
const HOLD: u8 = 11;
const RELEASE: u8 = 12;

const CHANGED: u8 = 0;
const ALREADY: u8 = 1;
const TRUNCATED: u8 = 2;
const REFUSED: u8 = 3;
const FULL: u8 = 4;
const ELSEWHERE: u8 = 5;
const COMMITTED: u8 = 6;

/// Least bytes of a commit, a refusal, a key and an orphan.
const COMMIT_MIN: usize = 16 + 4 + 36;
const REFUSAL_MIN: usize = 16 + 4 + 2;
const KEY_MIN: usize = 2;
const ORPHAN_MIN: usize = KEY_MIN + 16 + 4 + 16;
/// Stands for a partition that a refusal does not name.
const NOWHERE: TopicPartition = TopicPartition {
    topic_id: Uuid::nil(),
    partition: -1,
};

pub(super) fn encode_edit(edit: &Edit) -> Vec<u8> {
    let mut out = Vec::new();
    match edit {
        Edit::Commit(commit) => {
            out.put_u8(COMMIT);
            put_commit(&mut out, commit);
        }
        Edit::CommitAll(commits) => {
            out.put_u8(COMMIT_ALL);
            out.put_count(commits.len());
            for commit in commits {
                put_commit(&mut out, commit);
            }
        }
        Edit::Forget { at } => {
            out.put_u8(FORGET);
            put_at(&mut out, *at);
        }
        Edit::Truncate {
            at,
            epoch,
            offset,
            tail,
        } => {
            out.put_u8(TRUNCATE);
            put_at(&mut out, *at);
            out.put_i32(*epoch);
            out.put_i64(*offset);
            out.put_i32(*tail);
        }
        Edit::RaiseLogStart { at, said } => {
            out.put_u8(RAISE_LOG_START);
            put_at(&mut out, *at);
            out.put_i64(said.log_start);
            out.put_u32(said.region_epoch);
            out.put_i32(said.leader_epoch);
        }
        Edit::Replace { at, old, new } => {
            out.put_u8(REPLACE);
            put_at(&mut out, *at);
            for entry in [old, new] {
                let partition = Partition {
                    end: entry.end,
                    entries: vec![**entry],
                    ..Partition::default()
                };
                put_partition(&mut out, &partition);
            }
        }
        Edit::Rewrite { at, old, new } => {
            out.put_u8(REWRITE);
            put_at(&mut out, *at);
            for entries in [old, new] {
                let partition = Partition {
                    end: entries.last().map_or(0, |e| e.end),
                    entries: entries.clone(),
                    ..Partition::default()
                };
                put_partition(&mut out, &partition);
            }
        }
        Edit::Unlink(keys) => put_keys(&mut out, UNLINK, keys),
        Edit::Strike(keys) => put_keys(&mut out, STRIKE, keys),
        Edit::Hold(hold) => {
            out.put_u8(HOLD);
            put_hold(&mut out, hold);
        }
        Edit::Release(nonces) => put_release(&mut out, nonces),
    }
    out
}

fn put_release(out: &mut Vec<u8>, nonces: &[Uuid]) {
    out.put_u8(RELEASE);
    out.put_count(nonces.len());
    for nonce in nonces {
        out.put(nonce.as_bytes());
    }
}

fn put_commit(out: &mut Vec<u8>, commit: &Commit) {
    put_at(out, commit.at);
    let partition = Partition {
        topic: commit.topic.clone(),
        group: commit.group.clone(),
        region_epoch: commit.region_epoch,
        log_start: commit.log_start,
        end: commit.entry.end,
        lineage: commit.lineage.clone(),
        entries: vec![commit.entry],
        ..Partition::default()
    };
    put_partition(out, &partition);
}

fn put_keys(out: &mut Vec<u8>, kind: u8, keys: &[Key]) {
    out.put_u8(kind);
    out.put_count(keys.len());
    for key in keys {
        out.put_text(key.as_str());
    }
}

pub(super) fn decode_edit(bytes: &[u8]) -> Result<Edit, Fault> {
    let mut fields = Fields::new(bytes);
    let edit = match fields.u8()? {
        COMMIT => Edit::Commit(Box::new(read_commit(&mut fields)?)),
        COMMIT_ALL => Edit::CommitAll(
            (0..fields.count(COMMIT_MIN)?)
                .map(|_| read_commit(&mut fields))
                .collect::<Result<_, Fault>>()?,
        ),
        FORGET => Edit::Forget {
            at: read_at(&mut fields)?,
        },
        TRUNCATE => Edit::Truncate {
            at: read_at(&mut fields)?,
            epoch: fields.i32()?,
            offset: fields.i64()?,
            tail: fields.i32()?,
        },
        TRUNCATE_BLINDLY => {
            return Err(Fault::Value(
                "a truncation that does not name the tail's epoch".to_owned(),
            ));
        }
        RAISE_BLINDLY => {
            return Err(Fault::Value(
                "a log start that does not say whose word it is".to_owned(),
            ));
        }
        RAISE_LOG_START => Edit::RaiseLogStart {
            at: read_at(&mut fields)?,
            said: Standing {
                log_start: fields.i64()?,
                region_epoch: fields.u32()?,
                leader_epoch: fields.i32()?,
            },
        },
        REPLACE => Edit::Replace {
            at: read_at(&mut fields)?,
            old: Box::new(only_entry(&read_partition(&mut fields)?)?),
            new: Box::new(only_entry(&read_partition(&mut fields)?)?),
        },
        REWRITE => Edit::Rewrite {
            at: read_at(&mut fields)?,
            old: read_partition(&mut fields)?.entries,
            new: read_partition(&mut fields)?.entries,
        },
        UNLINK => Edit::Unlink(read_keys(&mut fields)?),
        STRIKE => Edit::Strike(read_keys(&mut fields)?),
        HOLD => Edit::Hold(read_hold(&mut fields)?),
        RELEASE => Edit::Release(
            (0..fields.count(16)?)
                .map(|_| fields.uuid())
                .collect::<Result<_, _>>()?,
        ),
        kind => return Err(Fault::Value(format!("an edit of unknown kind {kind}"))),
    };
    fields.end()?;
    Ok(edit)
}

fn read_commit(fields: &mut Fields<'_>) -> Result<Commit, Fault> {
    let at = read_at(fields)?;
    let partition = read_partition(fields)?;
    let entry = only_entry(&partition)?;
    Ok(Commit {
        at,
        topic: partition.topic,
        group: partition.group,
        region_epoch: partition.region_epoch,
        log_start: partition.log_start,
        lineage: partition.lineage,
        entry,
    })
}

fn only_entry(partition: &Partition) -> Result<Entry, Fault> {
    match *partition.entries.as_slice() {
        [entry] => Ok(entry),
        ref entries => Err(Fault::Value(format!(
            "{} objects in the place of one",
            entries.len()
        ))),
    }
}

fn read_keys(fields: &mut Fields<'_>) -> Result<Vec<Key>, Fault> {
    (0..fields.count(KEY_MIN)?)
        .map(|_| read_key(fields))
        .collect()
}

/// What the owner answers; an error that is none of the root's is not an answer.
pub(super) fn encode_outcome(
    outcome: &Result<Outcome, CommitError>,
) -> Result<Vec<u8>, CommitError> {
    let mut out = Vec::new();
    match outcome {
        Ok(Outcome::Applied(Applied::Changed)) => out.put_u8(CHANGED),
        Ok(Outcome::Applied(Applied::Already)) => out.put_u8(ALREADY),
        Ok(Outcome::Truncated(done)) => {
            out.put_u8(TRUNCATED);
            out.put_i64(done.end);
            out.put_count(done.orphaned.len());
            for orphaned in &done.orphaned {
                out.put_text(orphaned.key.as_str());
                put_at(&mut out, orphaned.at);
                out.put_i64(orphaned.from);
                out.put_i64(orphaned.end);
            }
        }
        Ok(Outcome::Committed(refused)) => {
            out.put_u8(COMMITTED);
            out.put_count(refused.len());
            for why in refused {
                put_at(&mut out, why.at().unwrap_or(NOWHERE));
                out.put_text(&why.to_string());
            }
        }
        Err(CommitError::Rejected(why)) => {
            out.put_u8(REFUSED);
            out.put_text(&why.to_string());
        }
        Err(CommitError::Full { bytes, .. }) => {
            out.put_u8(FULL);
            out.put_u64(*bytes as u64);
        }
        Err(CommitError::Elsewhere { .. }) => out.put_u8(ELSEWHERE),
        Err(other) => return Err(other.clone()),
    }
    Ok(out)
}

pub(super) fn decode_outcome(
    shard: u16,
    bytes: &[u8],
) -> Result<Result<Outcome, CommitError>, Fault> {
    let mut fields = Fields::new(bytes);
    let outcome = match fields.u8()? {
        CHANGED => Ok(Outcome::Applied(Applied::Changed)),
        ALREADY => Ok(Outcome::Applied(Applied::Already)),
        TRUNCATED => Ok(Outcome::Truncated(read_truncation(&mut fields)?)),
        COMMITTED => Ok(Outcome::Committed(
            (0..fields.count(REFUSAL_MIN)?)
                .map(|_| {
                    let at = Some(read_at(&mut fields)?);
                    let reason = fields.text()?;
                    Ok(Reject::ByOwner { at, reason })
                })
                .collect::<Result<_, Fault>>()?,
        )),
        REFUSED => Err(CommitError::Rejected(Reject::ByOwner {
            at: None,
            reason: fields.text()?,
        })),
        FULL => Err(CommitError::Full {
            shard,
            bytes: usize::try_from(fields.u64()?).unwrap_or(usize::MAX),
        }),
        ELSEWHERE => Err(CommitError::Elsewhere { shard }),
        kind => return Err(Fault::Value(format!("an outcome of unknown kind {kind}"))),
    };
    fields.end()?;
    Ok(outcome)
}

fn read_truncation(fields: &mut Fields<'_>) -> Result<Truncation, Fault> {
    let end = fields.i64()?;
    let orphaned = (0..fields.count(ORPHAN_MIN)?)
        .map(|_| {
            Ok(Orphaned {
                key: read_key(fields)?,
                at: read_at(fields)?,
                from: fields.i64()?,
                end: fields.i64()?,
            })
        })
        .collect::<Result<_, Fault>>()?;
    Ok(Truncation { orphaned, end })
}

#[cfg(test)]
mod tests;
