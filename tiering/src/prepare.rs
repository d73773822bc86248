//! Reads a slice once, before it is uploaded: proves its batches, and makes checksums, index and tail. A
//! large one becomes an object of its own; small ones of one shard are put together into one.
//!
//! Nothing that the broker says about the bytes is taken on trust. A batch with a wrong CRC, out of order
//! or of another epoch than the lineage says is refused here, so that a local segment that rotted is never
//! uploaded, and therefore never freed. The same goes for a list of aborted transactions that its markers
//! contradict.

mod merge;
mod outcomes;

use std::{fs::File, io, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};
use uuid::Uuid;
use whimbrel_fleet::{EpochStart, TopicPartition};
use whimbrel_wire::{Batch, BatchError, BatchHeader};

pub use merge::{Merged, merge};

use self::outcomes::Outcomes;
use crate::{
    checksum::Crc64,
    format::{
        Aborted, BlockCrcs, Footer, OffsetIndex, Put, SectionKind, Sections, SliceMeta, TailParts,
    },
    root::{Commit, Entry},
    store::{Part, Source},
};

/// How much is read at a time.
const PIECE: usize = 1 << 20;
/// No batch is larger: Kafka's message.max.bytes has no bound, our memory has.
const MAX_BATCH: usize = 128 << 20;

/// What is to be uploaded, checked for form.
#[derive(Clone, Debug)]
pub struct Slice {
    pub topic: String,
    pub at: TopicPartition,
    pub group: String,
    pub region_epoch: u32,
    pub base: i64,
    /// Exclusive.
    pub end: i64,
    pub path: PathBuf,
    pub position: u64,
    pub bytes: u64,
    /// The batches themselves, where they are few; then no file is named.
    pub inline: Bytes,
    pub lineage: Vec<EpochStart>,
    pub producers: Bytes,
    pub aborted: Bytes,
    pub log_start: i64,
    /// Compaction has taken records out at an edge: the bounds reach beyond the batches.
    pub sparse: bool,
}

/// Who uploads.
#[derive(Clone, Debug)]
pub struct Writer {
    pub region: String,
    pub incarnation: Uuid,
    pub epoch: u64,
    pub random: u64,
    pub now_ms: i64,
}

/// An object that is ready to be streamed, and the commit that will name it.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub source: Source,
    pub commit: Commit,
}

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("{at}: {path}: {source}", path = path.display())]
    Io {
        at: TopicPartition,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{at}: the batch at byte {position} of {path} is damaged: {source}", path = path.display())]
    Batch {
        at: TopicPartition,
        path: PathBuf,
        position: u64,
        source: BatchError,
    },
    #[error("{at}: {reason} (byte {position} of {path})", path = path.display())]
    Order {
        at: TopicPartition,
        path: PathBuf,
        position: u64,
        reason: String,
    },
    #[error("{at}: {reason} (byte {position} of {path})", path = path.display())]
    Aborted {
        at: TopicPartition,
        path: PathBuf,
        position: u64,
        reason: String,
    },
}

impl PrepareError {
    pub fn at(&self) -> TopicPartition {
        match self {
            Self::Io { at, .. }
            | Self::Batch { at, .. }
            | Self::Order { at, .. }
            | Self::Aborted { at, .. } => *at,
        }
    }
}

/// What a pass over the batches collects.
struct Pass<'a> {
    slice: &'a Slice,
    index: OffsetIndex,
    epochs: Vec<EpochStart>,
    next: i64,
    records: u64,
    first_timestamp_ms: Option<i64>,
    max_timestamp_ms: i64,
    outcomes: Outcomes,
}

fn footer(writer: &Writer, slices: Vec<SliceMeta>) -> Footer {
    Footer {
        region: writer.region.clone(),
        writer_epoch: writer.epoch,
        incarnation: writer.incarnation,
        created_ms: writer.now_ms,
        slices,
    }
}

/// Blocking: reads the whole slice.
pub fn prepare(slice: &Slice, writer: &Writer) -> Result<Prepared, PrepareError> {
    if !slice.inline.is_empty() {
        let (merged, refused) = merge(std::slice::from_ref(slice), writer);
        let one = merged.and_then(|m| Some((m.source, m.commits.into_iter().next()?)));
        return match (one, refused.into_iter().next()) {
            (Some((source, mut commit)), _) => {
                commit.entry.merged = None;
                Ok(Prepared { source, commit })
            }
            (None, Some(error)) => Err(error),
            (None, None) => Err(Pass::new(slice)?.order(0, "it is empty".to_owned())),
        };
    }
    let io = |source| PrepareError::Io {
        at: slice.at,
        path: slice.path.clone(),
        source,
    };
    let file = Arc::new(File::open(&slice.path).map_err(io)?);
    let mut pass = Pass::new(slice)?;
    let (mut blocks, mut crc64) = (BlockCrcs::default(), Crc64::new());
    let mut waiting = BytesMut::new();
    let (mut read, mut parsed) = (0, 0);
    while read < slice.bytes {
        let want = usize::try_from(slice.bytes - read)
            .unwrap_or(usize::MAX)
            .min(PIECE);
        let from = waiting.len();
        waiting.resize(from + want, 0);
        file.read_exact_at(&mut waiting[from..], slice.position.saturating_add(read))
            .map_err(io)?;
        blocks.update(&waiting[from..]);
        crc64.update(&waiting[from..]);
        read += want as u64;
        parsed = pass.take_batches(&mut waiting, parsed, read == slice.bytes)?;
    }
    pass.finish(parsed)?;
    let tail = TailParts {
        blocks,
        data_bytes: slice.bytes,
        sections: vec![pass.sections()],
        footer: footer(writer, vec![pass.meta(0)]),
    }
    .build();
    crc64.update(&tail.bytes);
    let data = Part::File {
        file,
        position: slice.position,
        length: slice.bytes,
    };
    let source = Source::new(vec![data, Part::Bytes(tail.bytes)], crc64.finish());
    let mut commit = pass.commit(writer);
    commit.entry.object_bytes = source.length();
    commit.entry.crc64 = source.crc64;
    Ok(Prepared { source, commit })
}

impl<'a> Pass<'a> {
    fn new(slice: &'a Slice) -> Result<Self, PrepareError> {
        let aborted = Aborted::decode_all(&slice.aborted, slice.base, slice.end);
        let aborted = aborted.map_err(|e| PrepareError::Aborted {
            at: slice.at,
            path: slice.path.clone(),
            position: 0,
            reason: e.to_string(),
        })?;
        Ok(Self {
            slice,
            index: OffsetIndex::default(),
            epochs: Vec::new(),
            next: slice.base,
            records: 0,
            first_timestamp_ms: None,
            max_timestamp_ms: -1,
            outcomes: Outcomes::new(aborted, slice.log_start, slice.base),
        })
    }

    /// All of a slice that came as bytes.
    fn over_inline(slice: &'a Slice) -> Result<Self, PrepareError> {
        let mut pass = Self::new(slice)?;
        let mut bytes = BytesMut::from(&slice.inline[..]);
        let parsed = pass.take_batches(&mut bytes, 0, true)?;
        pass.finish(parsed)?;
        Ok(pass)
    }

    fn batch_error(&self, position: u64, source: BatchError) -> PrepareError {
        PrepareError::Batch {
            at: self.slice.at,
            path: self.slice.path.clone(),
            position,
            source,
        }
    }

    fn aborted(&self, position: u64, reason: String) -> PrepareError {
        PrepareError::Aborted {
            at: self.slice.at,
            path: self.slice.path.clone(),
            position,
            reason,
        }
    }

    fn order(&self, position: u64, reason: String) -> PrepareError {
        PrepareError::Order {
            at: self.slice.at,
            path: self.slice.path.clone(),
            position,
            reason,
        }
    }

    /// Takes the whole batches off `waiting`, which begins at byte `at` of the slice.
    fn take_batches(
        &mut self,
        waiting: &mut BytesMut,
        mut at: u64,
        last: bool,
    ) -> Result<u64, PrepareError> {
        let all = std::mem::take(waiting).freeze();
        let mut rest = all;
        while !rest.is_empty() {
            match Batch::take(&mut rest) {
                Ok(batch) => {
                    batch.verify_crc().map_err(|e| self.batch_error(at, e))?;
                    self.add(&batch.header, at)?;
                    self.outcomes
                        .add(&batch)
                        .map_err(|reason| self.aborted(at, reason))?;
                    at += batch.bytes.len() as u64;
                }
                Err(BatchError::Truncated { needed, .. }) if !last && needed <= MAX_BATCH => break,
                Err(e) => return Err(self.batch_error(at, e)),
            }
        }
        // What is left is less than one batch; usually the buffer can be taken back without a copy.
        *waiting = rest
            .try_into_mut()
            .unwrap_or_else(|rest| BytesMut::from(&rest[..]));
        Ok(at)
    }

    fn add(&mut self, header: &BatchHeader, position: u64) -> Result<(), PrepareError> {
        let Slice {
            base, end, lineage, ..
        } = self.slice;
        if header.base_offset < self.next || header.next_offset() > *end {
            let reason = format!(
                "offsets {}..{} do not follow {} below {end}",
                header.base_offset,
                header.next_offset(),
                self.next
            );
            return Err(self.order(position, reason));
        }
        let epoch = header.partition_leader_epoch;
        let told = lineage
            .partition_point(|e| e.start_offset <= header.base_offset)
            .checked_sub(1)
            .map(|n| lineage[n]);
        if told.is_some_and(|told| told.epoch != epoch)
            || self.epochs.last().is_some_and(|last| last.epoch > epoch)
        {
            return Err(self.order(
                position,
                format!(
                    "epoch {epoch} at offset {} is not the lineage's",
                    header.base_offset
                ),
            ));
        }
        let is_first = self.first_timestamp_ms.is_none();
        if is_first && header.base_offset > *base && !self.slice.sparse {
            let reason = format!("it begins at {}, not at {base}", header.base_offset);
            return Err(self.order(position, reason));
        }
        if self.epochs.last().is_none_or(|last| last.epoch < epoch) {
            self.epochs.push(told.unwrap_or(EpochStart {
                epoch,
                start_offset: header.base_offset,
            }));
        }
        let numbers = u32::try_from(header.base_offset - base)
            .ok()
            .zip(u32::try_from(position).ok());
        let Some((relative, position)) = numbers else {
            return Err(self.order(
                position,
                "more than 4 GiB or 2^32 offsets in one slice".to_owned(),
            ));
        };
        self.index.add(relative, position, header.max_timestamp);
        self.first_timestamp_ms.get_or_insert(header.base_timestamp);
        self.max_timestamp_ms = self.max_timestamp_ms.max(header.max_timestamp);
        self.records += u64::from(header.records_count.unsigned_abs());
        self.next = header.next_offset();
        Ok(())
    }

    /// The last batch has to end where the slice does: a hole there would be a hole in the bucket, unless
    /// compaction has made it.
    fn finish(&self, parsed: u64) -> Result<(), PrepareError> {
        let ends = self.next == self.slice.end || self.slice.sparse;
        if parsed == self.slice.bytes && ends && parsed > 0 {
            return Ok(());
        }
        Err(self.order(
            parsed,
            format!(
                "the slice ends at offset {}, not at {}",
                self.next, self.slice.end
            ),
        ))
    }

    /// Epoch starts that touch the slice: of an epoch whose batches compaction has taken out, what is told of it
    /// alone.
    fn lineage(&self) -> Vec<EpochStart> {
        let told = &self.slice.lineage;
        let first = told.first().map_or(i32::MAX, |e| e.epoch);
        let seen = self.epochs.iter().filter(|e| e.epoch < first);
        seen.chain(told).copied().collect()
    }

    fn leader_epoch(&self) -> i32 {
        self.lineage().last().map_or(-1, |e| e.epoch)
    }

    fn sections(&self) -> Sections {
        let slice = self.slice;
        let mut lineage = Vec::new();
        for start in &self.lineage() {
            lineage.put_i32(start.epoch);
            lineage.put_i64(start.start_offset);
        }
        let mut sections = vec![
            (SectionKind::Offsets, self.index.encode_offsets()),
            (SectionKind::Times, self.index.encode_times()),
            (SectionKind::Lineage, lineage),
        ];
        for (kind, bytes) in [
            (SectionKind::Producers, &slice.producers),
            (SectionKind::Aborted, &slice.aborted),
        ] {
            if !bytes.is_empty() {
                sections.push((kind, bytes.to_vec()));
            }
        }
        sections
    }

    fn meta(&self, position: u64) -> SliceMeta {
        let slice = self.slice;
        SliceMeta {
            topic: slice.topic.clone(),
            at: slice.at,
            group: slice.group.clone(),
            region_epoch: slice.region_epoch,
            base_offset: slice.base,
            end_offset: slice.end,
            leader_epoch: self.leader_epoch(),
            position,
            length: slice.bytes,
            records: self.records,
            first_timestamp_ms: self.first_timestamp_ms.unwrap_or(-1),
            max_timestamp_ms: self.max_timestamp_ms,
            sections: Vec::new(),
        }
    }

    /// Without what is known of the whole object only.
    fn commit(&self, writer: &Writer) -> Commit {
        let slice = self.slice;
        Commit {
            at: slice.at,
            topic: slice.topic.clone(),
            group: slice.group.clone(),
            region_epoch: slice.region_epoch,
            log_start: slice.log_start,
            lineage: self.lineage(),
            entry: Entry {
                base: slice.base,
                end: slice.end,
                object_end: slice.end,
                leader_epoch: self.leader_epoch(),
                writer_epoch: writer.epoch,
                random: writer.random,
                object_bytes: 0,
                data_bytes: slice.bytes,
                records: self.records,
                first_timestamp_ms: self.first_timestamp_ms.unwrap_or(-1),
                max_timestamp_ms: self.max_timestamp_ms,
                crc64: 0,
                created_ms: writer.now_ms,
                aborted: !slice.aborted.is_empty(),
                merged: None,
            },
        }
    }
}
