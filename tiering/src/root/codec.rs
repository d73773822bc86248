//! Roots as bytes.
//!
//! ```text
//! magic "WBROOT01" | format u16 = 1 | 0 u16 | body length u32 | crc32c u32 of the body | body
//! body: incarnation 16 | epoch u64 | sequence u64 | nonce 16 | region text | shard u16 | shards u16 | written ms i64
//!   | partitions u32 x { topic id 16 | partition i32 | topic text | group text | region epoch u32
//!       | log start i64 | end i64 | lineage u32 x { epoch i32 | start i64 } | entries u32 x entry }
//!   | pending u32 x { key text | unlinked ms i64 }
//!   | orphaned u32 x { key text | topic id 16 | partition i32 | from i64 | end i64 }
//! entry, 102 bytes: kind u8 = 0 (an object of its own), 1 (a slice of a merged object) | base i64 | visible end i64 | object end i64
//!   | leader epoch i32 | writer epoch u64 | random u64 | object bytes u64 | data bytes u64 | records u64
//!   | first timestamp i64 | max timestamp i64 | crc64nvme u64 | created ms i64 | flags u8 (1 = aborted list)
//!   and of kind 1, 118 bytes: | position u64 | data bytes of the whole object u64
//!
//! Format 2, written only where older entries are in parts: before the partitions
//!   | parts u32 x { writer epoch u64 | sequence u64 | random u64 }
//! after the entries of each partition
//!   | runs u32 x { part u32 (its place in the list) | base i64 | end i64 | entries u32 | skip u32 | data bytes u64
//!       | max timestamp i64 | position u32 | length u32 | crc32c u32 }
//! and at the end
//!   | shared u32 x { writer epoch u64 | random u64 | slices u32 }
//!
//! Format 3, written only where another region holds what it reads here: as format 2, and then
//!   | holds u32 x { region text | incarnation 16 | nonce 16 | since ms i64 | before u32 }
//! ```

use std::collections::BTreeSet;

use whimbrel_fleet::{EpochStart, TopicPartition};

use super::{
    Entry, Hold, MOST_HOLDS, Merged, Moved, Orphaned, Partition, Root, Run, Stamp, Unlinked,
};
use crate::format::{FieldError, Fields, FormatError, Key, PartName, Put};

const MAGIC: &[u8; 8] = b"WBROOT01";
const FORMAT: u16 = 1;
const WITH_PARTS: u16 = 2;
/// Who knows no holds must not delete here.
const WITH_HOLDS: u16 = 3;
const WHAT: &str = "root";
const HEAD: usize = 20;
const ENTRY_BYTES: usize = 102;
const HOLD_MIN: usize = 2 + 16 + 16 + 8 + 4;
const RUN_BYTES: usize = 4 + 16 + 8 + 16 + 12;
const PARTITION_MIN: usize = 16 + 4 + 2 + 2 + 4 + 8 + 8 + 4 + 4;
const OWN_OBJECT: u8 = 0;
const MERGED: u8 = 1;
const ABORTED: u8 = 1;

/// A field error, or a value that cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{0}")]
    Value(String),
}

impl Root {
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.stamp.encode(&mut body);
        body.put_text(&self.region);
        body.put_u16(self.shard);
        body.put_u16(self.shards);
        body.put_i64(self.written_ms);
        let parts: Vec<PartName> = {
            let all: BTreeSet<_> = self.runs().map(|(_, run)| run.part).collect();
            all.into_iter().collect()
        };
        let format = match (self.holds.is_empty(), parts.is_empty()) {
            (false, _) => WITH_HOLDS,
            (true, false) => WITH_PARTS,
            (true, true) => FORMAT,
        };
        if format >= WITH_PARTS {
            body.put_count(parts.len());
            for part in &parts {
                for n in [part.writer_epoch, part.sequence, part.random] {
                    body.put_u64(n);
                }
            }
        }
        body.put_count(self.partitions.len());
        for (at, partition) in &self.partitions {
            put_at(&mut body, *at);
            put_partition(&mut body, partition);
            if format >= WITH_PARTS {
                put_runs(&mut body, &partition.runs, &parts);
            }
        }
        body.put_count(self.pending.len());
        for unlinked in &self.pending {
            body.put_text(unlinked.key.as_str());
            body.put_i64(unlinked.unlinked_ms);
        }
        body.put_count(self.orphaned.len());
        for orphaned in &self.orphaned {
            body.put_text(orphaned.key.as_str());
            put_at(&mut body, orphaned.at);
            body.put_i64(orphaned.from);
            body.put_i64(orphaned.end);
        }
        if format >= WITH_PARTS {
            body.put_count(self.shared.len());
            for ((writer_epoch, random), slices) in &self.shared {
                body.put_u64(*writer_epoch);
                body.put_u64(*random);
                body.put_u32(*slices);
            }
        }
        if format == WITH_HOLDS {
            put_holds(&mut body, &self.holds);
        }
        let mut out = Vec::with_capacity(HEAD + body.len());
        out.put(MAGIC);
        out.put_u16(format);
        out.put_u16(0);
        out.put_count(body.len());
        out.put_u32(crc32c::crc32c(&body));
        out.put(&body);
        out
    }

    /// Reads a root and checks all of its invariants.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed = |e: FieldError| FormatError::malformed(WHAT, e);
        if let Ok(moved) = Moved::decode(bytes) {
            let reason = format_args!("it has moved to {}", moved.to);
            return Err(FormatError::malformed(WHAT, reason));
        }
        let mut head = Fields::new(bytes);
        if head.array::<8>().map_err(malformed)? != *MAGIC {
            return Err(FormatError::Magic { what: WHAT });
        }
        let (format, _) = (
            head.u16().map_err(malformed)?,
            head.u16().map_err(malformed)?,
        );
        if !(FORMAT..=WITH_HOLDS).contains(&format) {
            return Err(FormatError::Version {
                what: WHAT,
                found: format,
            });
        }
        let (length, stored) = (
            head.u32().map_err(malformed)?,
            head.u32().map_err(malformed)?,
        );
        let body = head
            .take(usize::try_from(length).unwrap_or(usize::MAX))
            .map_err(malformed)?;
        head.end().map_err(malformed)?;
        crate::format::check_crc(WHAT, body, stored)?;
        let mut fields = Fields::new(body);
        let root = read_body(&mut fields, format).map_err(|fault| match fault {
            Fault::Field(e) => malformed(e),
            Fault::Value(reason) => FormatError::malformed(WHAT, reason),
        })?;
        fields.end().map_err(malformed)?;
        Ok(root)
    }
}

fn put_holds(out: &mut Vec<u8>, holds: &[Hold]) {
    out.put_count(holds.len());
    for hold in holds {
        put_hold(out, hold);
    }
}

pub(crate) fn put_hold(out: &mut Vec<u8>, hold: &Hold) {
    out.put_text(&hold.region);
    out.put(hold.incarnation.as_bytes());
    out.put(hold.nonce.as_bytes());
    out.put_i64(hold.since_ms);
    out.put_u32(hold.before);
}

pub(crate) fn read_hold(fields: &mut Fields<'_>) -> Result<Hold, FieldError> {
    Ok(Hold {
        region: fields.text()?,
        incarnation: fields.uuid()?,
        nonce: fields.uuid()?,
        since_ms: fields.i64()?,
        before: fields.u32()?,
    })
}

fn put_runs(out: &mut Vec<u8>, runs: &[Run], parts: &[PartName]) {
    out.put_count(runs.len());
    for run in runs {
        out.put_count(parts.partition_point(|part| *part < run.part));
        out.put_i64(run.base);
        out.put_i64(run.end);
        out.put_u32(run.entries);
        out.put_u32(run.skip);
        out.put_u64(run.data_bytes);
        out.put_i64(run.max_timestamp_ms);
        out.put_u32(run.position);
        out.put_u32(run.length);
        out.put_u32(run.crc);
    }
}

pub(crate) fn put_at(out: &mut Vec<u8>, at: TopicPartition) {
    out.put(at.topic_id.as_bytes());
    out.put_i32(at.partition);
}

pub(crate) fn put_partition(out: &mut Vec<u8>, partition: &Partition) {
    out.put_text(&partition.topic);
    out.put_text(&partition.group);
    out.put_u32(partition.region_epoch);
    out.put_i64(partition.log_start);
    out.put_i64(partition.end);
    out.put_count(partition.lineage.len());
    for start in &partition.lineage {
        out.put_i32(start.epoch);
        out.put_i64(start.start_offset);
    }
    out.put_count(partition.entries.len());
    for e in &partition.entries {
        put_entry(out, e);
    }
}

pub(super) fn put_entry(out: &mut Vec<u8>, e: &Entry) {
    out.put_u8(e.merged.map_or(OWN_OBJECT, |_| MERGED));
    out.put_i64(e.base);
    out.put_i64(e.end);
    out.put_i64(e.object_end);
    out.put_i32(e.leader_epoch);
    for n in [
        e.writer_epoch,
        e.random,
        e.object_bytes,
        e.data_bytes,
        e.records,
    ] {
        out.put_u64(n);
    }
    out.put_i64(e.first_timestamp_ms);
    out.put_i64(e.max_timestamp_ms);
    out.put_u64(e.crc64);
    out.put_i64(e.created_ms);
    out.put_u8(if e.aborted { ABORTED } else { 0 });
    if let Some(merged) = e.merged {
        out.put_u64(merged.position);
        out.put_u64(merged.object_data_bytes);
    }
}

fn read_body(fields: &mut Fields<'_>, format: u16) -> Result<Root, Fault> {
    let with_parts = format >= WITH_PARTS;
    let stamp = Stamp::read(fields)?;
    let region = fields.text()?;
    let (shard, shards, written_ms) = (fields.u16()?, fields.u16()?, fields.i64()?);
    let mut root = Root::empty(stamp, &region, shard, shards, written_ms);
    let mut parts = Vec::new();
    if with_parts {
        for _ in 0..fields.count(24)? {
            parts.push(PartName {
                shard,
                writer_epoch: fields.u64()?,
                sequence: fields.u64()?,
                random: fields.u64()?,
            });
        }
    }
    for _ in 0..fields.count(PARTITION_MIN)? {
        let at = read_at(fields)?;
        let mut partition = read_partition(fields)?;
        if with_parts {
            read_runs(fields, &parts, &mut partition.runs)?;
        }
        check_partition(&partition).map_err(Fault::Value)?;
        if root.partitions.insert(at, partition).is_some() {
            return Err(Fault::Value(format!("partition {at} is there twice")));
        }
    }
    for _ in 0..fields.count(2 + 8)? {
        root.pending.push(Unlinked {
            key: read_key(fields)?,
            unlinked_ms: fields.i64()?,
        });
    }
    for _ in 0..fields.count(2 + 16 + 4 + 16)? {
        root.orphaned.push(Orphaned {
            key: read_key(fields)?,
            at: read_at(fields)?,
            from: fields.i64()?,
            end: fields.i64()?,
        });
    }
    if with_parts {
        for _ in 0..fields.count(20)? {
            let object = (fields.u64()?, fields.u64()?);
            root.shared.insert(object, fields.u32()?);
        }
    }
    if format == WITH_HOLDS {
        read_holds(fields, &mut root)?;
    }
    Ok(root)
}

fn read_holds(fields: &mut Fields<'_>, root: &mut Root) -> Result<(), Fault> {
    for _ in 0..fields.count(HOLD_MIN)? {
        let hold = read_hold(fields)?;
        let unlinked = usize::try_from(hold.before).unwrap_or(usize::MAX);
        let twice = root.holds.iter().any(|other| other.nonce == hold.nonce);
        if unlinked > root.pending.len() || twice || root.holds.len() >= MOST_HOLDS {
            return Err(Fault::Value(format!(
                "a hold of {} that cannot be",
                hold.region.escape_debug()
            )));
        }
        root.holds.push(hold);
    }
    Ok(())
}

fn read_runs(
    fields: &mut Fields<'_>,
    parts: &[PartName],
    runs: &mut Vec<Run>,
) -> Result<(), Fault> {
    for _ in 0..fields.count(RUN_BYTES)? {
        let part = usize::try_from(fields.u32()?)
            .ok()
            .and_then(|n| parts.get(n));
        runs.push(Run {
            part: *part.ok_or_else(|| Fault::Value("a run in no part".to_owned()))?,
            base: fields.i64()?,
            end: fields.i64()?,
            entries: fields.u32()?,
            skip: fields.u32()?,
            data_bytes: fields.u64()?,
            max_timestamp_ms: fields.i64()?,
            position: fields.u32()?,
            length: fields.u32()?,
            crc: fields.u32()?,
        });
    }
    Ok(())
}

/// Exactly `count` entries and nothing else.
pub(super) fn entries(bytes: &[u8], count: usize) -> Result<Vec<Entry>, String> {
    if count > bytes.len() / ENTRY_BYTES {
        return Err(format!("{count} entries in {} bytes", bytes.len()));
    }
    let told = |fault| match fault {
        Fault::Field(e) => FieldError::to_string(&e),
        Fault::Value(reason) => reason,
    };
    let mut fields = Fields::new(bytes);
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        entries.push(read_entry(&mut fields).map_err(told)?);
    }
    fields.end().map_err(|e| e.to_string())?;
    Ok(entries)
}

pub(crate) fn read_at(fields: &mut Fields<'_>) -> Result<TopicPartition, Fault> {
    Ok(TopicPartition::new(fields.uuid()?, fields.i32()?))
}

pub(crate) fn read_key(fields: &mut Fields<'_>) -> Result<Key, Fault> {
    let text = fields.text()?;
    Key::parse(&text).ok_or_else(|| Fault::Value(format!("`{}` is not a key", text.escape_debug())))
}

pub(crate) fn read_partition(fields: &mut Fields<'_>) -> Result<Partition, Fault> {
    let mut partition = Partition {
        topic: fields.text()?,
        group: fields.text()?,
        region_epoch: fields.u32()?,
        log_start: fields.i64()?,
        end: fields.i64()?,
        ..Partition::default()
    };
    for _ in 0..fields.count(12)? {
        partition.lineage.push(EpochStart {
            epoch: fields.i32()?,
            start_offset: fields.i64()?,
        });
    }
    for _ in 0..fields.count(ENTRY_BYTES)? {
        partition.entries.push(read_entry(fields)?);
    }
    Ok(partition)
}

fn read_entry(fields: &mut Fields<'_>) -> Result<Entry, Fault> {
    let kind = fields.u8()?;
    if kind != OWN_OBJECT && kind != MERGED {
        return Err(Fault::Value(format!("an entry of unknown kind {kind}")));
    }
    let mut entry = Entry {
        base: fields.i64()?,
        end: fields.i64()?,
        object_end: fields.i64()?,
        leader_epoch: fields.i32()?,
        writer_epoch: fields.u64()?,
        random: fields.u64()?,
        object_bytes: fields.u64()?,
        data_bytes: fields.u64()?,
        records: fields.u64()?,
        first_timestamp_ms: fields.i64()?,
        max_timestamp_ms: fields.i64()?,
        crc64: fields.u64()?,
        created_ms: fields.i64()?,
        aborted: fields.u8()? & ABORTED != 0,
        merged: None,
    };
    if kind == MERGED {
        entry.merged = Some(Merged {
            position: fields.u64()?,
            object_data_bytes: fields.u64()?,
        });
    }
    Ok(entry)
}

/// The invariants of one partition.
pub(crate) fn check_partition(partition: &Partition) -> Result<(), String> {
    if let Some(bad) = partition.entries.iter().find(|e| !e.is_sound()) {
        return Err(format!("an entry at {} that cannot be", bad.base));
    }
    if let Some(pair) = partition.entries.windows(2).find(|w| w[0].end != w[1].base) {
        return Err(format!(
            "a gap or overlap between {} and {}",
            pair[0].end, pair[1].base
        ));
    }
    let runs = &partition.runs;
    let after_runs = partition.entries.first().map_or(partition.end, |e| e.base);
    if runs.iter().any(|r| !r.is_sound())
        || runs.windows(2).any(|w| w[0].end != w[1].base)
        || runs.last().is_some_and(|r| r.end != after_runs)
    {
        return Err(format!("runs that do not lead up to {after_runs}"));
    }
    if partition.end < 0
        || partition
            .entries
            .last()
            .is_some_and(|e| e.end != partition.end)
    {
        return Err(format!(
            "its end {} is not that of its last entry",
            partition.end
        ));
    }
    if partition
        .lineage
        .windows(2)
        .any(|w| w[0].epoch >= w[1].epoch || w[0].start_offset > w[1].start_offset)
    {
        return Err("a lineage that does not rise".to_owned());
    }
    Ok(())
}
