//! The one task of a shard: begin, then write batch after batch; and begin again when the outcome of a write is unknown,
//! or when another failover group moved.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use whimbrel_runtime::{Backoff, Clock, Shutdown};
use whimbrel_wire::{BatchBuilder, ErrorCode};

use super::{
    super::{
        machine::Now,
        offsets::Committed,
        records::{self, Entry},
        store::{OffsetsLog, Topics},
    },
    Limits,
    begin::{begin, set_back},
    now,
    shard::{Contents, Shard},
    work::{Frame, Then, Work},
};
use crate::state_log::nothing_appended;

/// Most records a sweep removes at once.
const SWEEP_RECORDS: usize = 1_000;
/// What the batch header and a record's frame take, roughly; only used to stay below the limit.
const RECORD_OVERHEAD_BYTES: usize = 100;

/// Runs until the shard is closed or the process ends.
pub(super) async fn run(
    shard: &Shard,
    (log, topics): (&dyn OffsetsLog, &dyn Topics),
    clock: &Clock,
    limits: Option<Arc<Limits>>,
    shutdown: &Shutdown,
) {
    let mut at_load = limits.clone();
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
    while !shard.is_closed() && !shutdown.requested() {
        let begun = begin(shard, log, clock, at_load.as_deref(), shard.to_follow()).await;
        match begun {
            Ok(begun) => {
                backoff.reset();
                // Once is enough: what is committed from here on belongs to the new epoch.
                at_load = None;
                shard.open(begun, limits.clone(), topics, now(clock));
                let ended = shutdown.unless(write_all(shard, log, clock)).await;
                if ended.is_none() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(partition = shard.partition(), epoch = shard.epoch(), %error, "groups are not loaded yet");
                shutdown.unless(clock.sleep(backoff.next())).await;
            }
        }
    }
}

/// Writes until the shard is closed, or has to begin again.
async fn write_all(shard: &Shard, log: &dyn OffsetsLog, clock: &Clock) {
    loop {
        let stirred = shard.stirred.notified();
        if shard.is_closed() {
            return;
        }
        if shard.begins_again() {
            shard.suspend(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
            return;
        }
        let Some(job) = shard.contents(|contents| next(contents, shard, now(clock))) else {
            stirred.await;
            continue;
        };
        for (frame, entries, then) in job.batches {
            match append(shard, log, &entries, frame, now(clock)).await {
                Ok(base) => {
                    shard.contents(|contents| apply(contents, entries, frame, base));
                    then.into_iter()
                        .for_each(|then| succeed(shard, then, now(clock)));
                }
                // A consumer group has gone on already: what it is now stands nowhere, so it is read again.
                Err(error)
                    if nothing_appended(error) && !entries.iter().any(Entry::is_consumer) =>
                {
                    then.into_iter()
                        .for_each(|then| fail(shard, then, error, now(clock)));
                }
                Err(error) => {
                    tracing::warn!(
                        partition = shard.partition(),
                        error = error.name(),
                        "a write of groups has an unknown outcome; reading the log again"
                    );
                    shard.suspend(error);
                    then.into_iter().for_each(|then| then.refuse(error));
                    return;
                }
            }
        }
    }
}

/// Batches to be written one after the other, and what follows each.
struct Job {
    batches: Vec<(Frame, Vec<Entry>, Vec<Then>)>,
}

/// Takes what is to be written next off the queue.
fn next(contents: &mut Contents, shard: &Shard, now: Now) -> Option<Job> {
    let max_bytes = shard.options.max_batch_bytes;
    loop {
        let (entries, then) = match contents.queue.pop_front()? {
            // What is too much for one batch: every beginning of a consumer group's changes is a consistent group.
            Work::Records { entries, then }
                if entries.iter().any(Entry::is_consumer)
                    && entries.iter().map(size).sum::<usize>() > max_bytes =>
            {
                (entries, then)
            }
            Work::Records { entries, then } => {
                return Some(gather(contents, entries, then, max_bytes));
            }
            Work::InTransaction {
                producer,
                entries,
                reply,
            } => {
                let frame = Frame::Transaction(producer);
                return Some(Job {
                    batches: vec![(frame, entries, vec![Then::Answer(reply)])],
                });
            }
            Work::Marker { marker, reply } => {
                let clamped = contents.above_at(marker, shard.partition());
                let mut batches = plainly(set_back(&clamped, now), max_bytes);
                let answer = vec![Then::Answer(reply)];
                batches.push((Frame::Marker(marker), Vec::new(), answer));
                return Some(Job { batches });
            }
            Work::OffsetDelete {
                group,
                places,
                reply,
            } => (contents.removal_of(&group, places), Then::Answer(reply)),
            Work::Delete { group, reply } => match contents.deletion(&group) {
                Ok(entries) => (entries, Then::Answer(reply)),
                Err(error) => {
                    Then::Answer(reply).refuse(error);
                    continue;
                }
            },
            Work::Forget { topics } => (contents.forget(&topics), Then::Nothing),
            Work::Sweep => (
                contents.lapsed(shard.options.offsets_retention_ms, now, SWEEP_RECORDS),
                Then::Nothing,
            ),
        };
        if entries.is_empty() {
            succeed_empty(then);
            continue;
        }
        // The last batch brings the answer.
        let mut batches = plainly(entries, max_bytes);
        if let Some((_, _, last)) = batches.last_mut() {
            last.push(then);
        }
        return Some(Job { batches });
    }
}

/// One batch of as much as is queued and fits: all that came while the last one was being written.
fn gather(contents: &mut Contents, mut entries: Vec<Entry>, then: Then, max_bytes: usize) -> Job {
    let mut all = vec![then];
    let mut bytes: usize = entries.iter().map(size).sum();
    while let Some(Work::Records { entries: more, .. }) = contents.queue.front() {
        bytes = bytes.saturating_add(more.iter().map(size).sum());
        if bytes > max_bytes {
            break;
        }
        if let Some(Work::Records {
            entries: more,
            then,
        }) = contents.queue.pop_front()
        {
            entries.extend(more);
            all.push(then);
        }
    }
    Job {
        batches: vec![(Frame::Plain, entries, all)],
    }
}

/// Batches that nobody waits for yet.
fn plainly(entries: Vec<Entry>, max_bytes: usize) -> Vec<(Frame, Vec<Entry>, Vec<Then>)> {
    let chunks = split(entries, max_bytes).into_iter();
    chunks
        .map(|chunk| (Frame::Plain, chunk, Vec::new()))
        .collect()
}

pub(super) fn split(entries: Vec<Entry>, max_bytes: usize) -> Vec<Vec<Entry>> {
    let mut chunks: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = usize::MAX;
    for entry in entries {
        let size = size(&entry);
        bytes = bytes.saturating_add(size);
        if bytes > max_bytes {
            chunks.push(Vec::new());
            bytes = size;
        }
        if let Some(last) = chunks.last_mut() {
            last.push(entry);
        }
    }
    chunks
}

fn size(entry: &Entry) -> usize {
    let payload = match entry {
        Entry::Consumer { group, change } => group.len() + records::consumer_size(change),
        Entry::Move(id) => id.group.as_str().len(),
        Entry::Position {
            group,
            at,
            committed,
        } => group.len() + at.topic.len() + committed.as_ref().map_or(0, |c| c.metadata.len()),
        Entry::Group { group, record } => {
            let members = record.iter().flat_map(|record| &record.members);
            let member = |m: &super::super::machine::MemberRecord| {
                let names = m.member_id.len() + m.client_id.len() + m.client_host.len();
                names
                    + m.instance_id.as_ref().map_or(0, String::len)
                    + m.subscription.len()
                    + m.assignment.len()
            };
            group.len()
                + members
                    .map(|m| member(m) + RECORD_OVERHEAD_BYTES)
                    .sum::<usize>()
        }
    };
    payload + RECORD_OVERHEAD_BYTES
}

pub(super) async fn append(
    shard: &Shard,
    log: &dyn OffsetsLog,
    entries: &[Entry],
    frame: Frame,
    now: Now,
) -> Result<i64, ErrorCode> {
    let batch = match frame {
        Frame::Marker(marker) => marker.batch(now.wall_ms)?,
        _ if entries.is_empty() => return Ok(-1),
        _ => batch(entries, frame, now).ok_or(ErrorCode::RECORD_LIST_TOO_LARGE)?,
    };
    log.append(shard.partition(), batch).await
}

fn batch(entries: &[Entry], frame: Frame, now: Now) -> Option<Bytes> {
    let mut builder = BatchBuilder::new(0);
    if let Frame::Transaction(producer) = frame {
        builder = builder
            .producer(producer.id, producer.epoch, -1)
            .transactional(true);
    }
    for entry in entries {
        let (key, value) = records::encode(entry);
        builder
            .add(now.wall_ms, Some(&key), value.as_deref(), &[])
            .ok()?;
    }
    builder.finish().ok()
}

/// The records stand in the log from `base` on.
fn apply(contents: &mut Contents, entries: Vec<Entry>, frame: Frame, base: i64) {
    if frame != Frame::Plain {
        contents.applied_in_transaction(frame, entries, base);
        return;
    }
    for (entry, log_offset) in entries.into_iter().zip(base..) {
        match entry {
            Entry::Position {
                group,
                at,
                committed: Some(committed),
            } => {
                contents.offsets.apply(
                    &group,
                    at,
                    Committed {
                        log_offset,
                        ..committed
                    },
                );
            }
            Entry::Position {
                group,
                at,
                committed: None,
            } => contents.offsets.remove(&group, &at),
            Entry::Group { .. } | Entry::Consumer { .. } | Entry::Move(_) => {}
        }
    }
}

fn succeed(shard: &Shard, then: Then, now: Now) {
    match then {
        Then::Group { group, ticket } => shard.persisted(&group, ticket, Ok(()), now),
        other => succeed_empty(other),
    }
}

fn succeed_empty(then: Then) {
    match then {
        Then::Answer(reply) => {
            let _ = reply.send(Ok(()));
        }
        Then::Heartbeat { answer, reply } => {
            let _ = reply.send(Ok(answer));
        }
        Then::Joined { answer, reply } => drop(reply.send(answer)),
        Then::Synced { answer, reply } => drop(reply.send(answer)),
        Then::Group { .. } | Then::Nothing => {}
    }
}

fn fail(shard: &Shard, then: Then, error: ErrorCode, now: Now) {
    match then {
        Then::Group { group, ticket } => shard.persisted(&group, ticket, Err(error), now),
        other => other.refuse(error),
    }
}
