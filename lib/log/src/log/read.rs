//! Reading whole batches, and finding them.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

use crate::calls::{self, read_at};
use crate::error::ReadError;
use crate::log::Log;
use crate::log::sound::Stretch;
use crate::naming::{TXN_INDEX, file_path};
use crate::segment::SegmentFile;
use crate::segment::scan::Step;
use crate::types::{AbortedTxn, Slice};

/// What a read is to bring.
#[derive(Debug, Clone, Copy)]
struct Wish {
    from: i64,
    max_bytes: usize,
    at_least_one: bool,
    upto: i64,
}

/// What one segment had.
enum Found {
    Slice(Slice),
    /// No batch at or behind the offset.
    Nothing,
}

type Place = (Arc<SegmentFile>, Option<i64>, u64);

impl Log {
    /// Reads whole batches of one segment. The first contains `from` (or is the next behind it, where
    /// compaction left a gap), none reaches `upto` or beyond. At most `max_bytes`, but with
    /// `at_least_one` never less than one batch. Empty if there is nothing below `upto`.
    ///
    /// Pass as `upto` nothing above [`crate::Offsets::durable_end`] for what leaves this process.
    pub fn read(
        &self,
        from: i64,
        max_bytes: usize,
        at_least_one: bool,
        upto: i64,
    ) -> Result<Slice, ReadError> {
        if self.is_deleted() {
            return Err(ReadError::Deleted { log: self.name() });
        }
        let mut wish = Wish {
            from,
            max_bytes,
            at_least_one,
            upto,
        };
        loop {
            let Some((segment, next_base, generation)) = self.place(from, upto, &mut wish)? else {
                return Ok(Slice {
                    records: Bytes::new(),
                    next_offset: from,
                });
            };
            let found = self.read_segment(&segment, wish);
            // Cut, removed or replaced meanwhile: what was read may be a mixture.
            if self.changed_since(generation, &segment) {
                if self.is_deleted() {
                    return Err(ReadError::Deleted { log: self.name() });
                }
                wish.from = from;
                continue;
            }
            match (found?, next_base) {
                (Found::Slice(slice), _) if slice.records.is_empty() => {
                    return Ok(Slice {
                        next_offset: from,
                        ..slice
                    });
                }
                (Found::Slice(slice), _) => return Ok(slice),
                (Found::Nothing, Some(base)) => wish.from = base,
                (Found::Nothing, None) => {
                    return Ok(Slice {
                        records: Bytes::new(),
                        next_offset: from,
                    });
                }
            }
        }
    }

    /// The segment to look into, the base offset of the one behind it, and the generation of both;
    /// `None` if there is nothing to read.
    fn place(&self, from: i64, upto: i64, wish: &mut Wish) -> Result<Option<Place>, ReadError> {
        let state = self.state.read();
        if from < state.log_start || from > state.log_end {
            let (log_start, log_end) = (state.log_start, state.log_end);
            return Err(ReadError::OutOfRange {
                offset: from,
                log_start,
                log_end,
            });
        }
        let local_start = state.local_log_start();
        if from < local_start {
            return Err(ReadError::BelowLocal {
                offset: from,
                local_start,
            });
        }
        wish.upto = upto.min(state.log_end);
        if wish.from >= wish.upto {
            return Ok(None);
        }
        let after = state.segments.partition_point(|s| s.base <= wish.from);
        match after.checked_sub(1).and_then(|at| state.segments.get(at)) {
            Some(segment) => Ok(Some((
                Arc::clone(segment),
                state.segments.get(after).map(|s| s.base),
                state.generation,
            ))),
            None => Err(ReadError::BelowLocal {
                offset: from,
                local_start,
            }),
        }
    }

    fn changed_since(&self, generation: u64, segment: &SegmentFile) -> bool {
        let state = self.state.read();
        let first = state.segments.first().map_or(i64::MAX, |s| s.base);
        self.is_deleted() || state.generation != generation || segment.base < first
    }

    fn read_segment(&self, segment: &SegmentFile, wish: Wish) -> Result<Found, ReadError> {
        let io = |source| ReadError::Io {
            log: self.name(),
            source,
        };
        let descriptors = &self.shared.descriptors;
        let file = segment.open(descriptors).map_err(io)?;
        let fetch = |position: u64| {
            let there =
                usize::try_from(segment.size().saturating_sub(position)).unwrap_or(usize::MAX);
            read_at(&file, position, wish.max_bytes.max(HEADER_LEN).min(there))
                .map(|bytes| (bytes, there))
        };
        let begins = |bytes: &[u8]| {
            BatchHeader::parse(bytes).is_ok_and(|first| first.base_offset == wish.from)
        };
        let hinted = match segment.hint(wish.from) {
            Some(position) if position < segment.size() => {
                Some((position, fetch(position).map_err(io)?))
            }
            _ => None,
        };
        let (position, (mut bytes, there)) = match hinted.filter(|(_, (bytes, _))| begins(bytes)) {
            Some(found) => found,
            None => match segment.locate(wish.from, descriptors).map_err(io)? {
                Ok(Some(located)) => (located.position, fetch(located.position).map_err(io)?),
                Ok(None) => return Ok(Found::Nothing),
                Err(bad) => return Err(self.corrupt(segment, bad)),
            },
        };
        let first = self.header(segment, &bytes, position)?;
        if first.next_offset() > wish.upto {
            let stretch = Stretch {
                segment,
                bytes: &bytes,
                position,
            };
            // Where the offset is a damaged one, there is more to say than that nothing is there yet.
            self.check_follower(stretch, (first.size(), first.next_offset()))?;
            return Ok(Found::Slice(Slice {
                records: Bytes::new(),
                next_offset: wish.from,
            }));
        }
        if first.size() > wish.max_bytes {
            if !wish.at_least_one {
                return Ok(Found::Slice(Slice {
                    records: Bytes::new(),
                    next_offset: wish.from,
                }));
            }
            if first.size() > there {
                return Err(self.corrupt_at(segment, position, "a batch reaches over the end"));
            }
            bytes = read_at(&file, position, first.size()).map_err(io)?;
        }
        let stretch = Stretch {
            segment,
            bytes: &bytes,
            position,
        };
        let (length, next_offset) = self.sound_batches(stretch, wish.upto)?;
        bytes.truncate(length);
        if bytes.capacity() / 2 > length {
            // Whoever keeps the records pays for their bytes, not for what was read behind them.
            bytes.shrink_to_fit();
        }
        segment.remember(next_offset, position + length as u64);
        Ok(Found::Slice(Slice {
            records: Bytes::from(bytes),
            next_offset,
        }))
    }

    pub(crate) fn header(
        &self,
        segment: &SegmentFile,
        bytes: &[u8],
        position: u64,
    ) -> Result<BatchHeader, ReadError> {
        BatchHeader::parse(bytes)
            .map_err(|error| self.corrupt_at(segment, position, &error.to_string()))
    }

    pub(crate) fn corrupt(&self, segment: &SegmentFile, step: Step) -> ReadError {
        match step {
            Step::Bad { position, why, .. } => self.corrupt_at(segment, position, &why),
            _ => self.corrupt_at(segment, segment.size(), "a batch is missing"),
        }
    }

    pub(crate) fn corrupt_at(&self, segment: &SegmentFile, position: u64, why: &str) -> ReadError {
        ReadError::Corrupt {
            log: self.name(),
            segment: segment.base,
            position,
            why: why.to_owned(),
        }
    }

    /// Aborted transactions that touch `from..upto` of the local log, for read_committed.
    pub fn aborted(&self, from: i64, upto: i64) -> Result<Vec<AbortedTxn>, ReadError> {
        let segments = self.state.read().segments.clone();
        let first = segments
            .partition_point(|s| s.base <= from)
            .saturating_sub(1);
        let mut aborted = Vec::new();
        for segment in &segments[first..] {
            let path = file_path(self.dir(), segment.base, TXN_INDEX);
            let entries = crate::txn_index::read(&path).map_err(|source| ReadError::Io {
                log: self.name(),
                source,
            })?;
            for entry in entries {
                if entry.last_offset >= from && entry.first_offset < upto {
                    aborted.push(entry);
                }
                if entry.last_stable_offset >= upto {
                    return Ok(aborted);
                }
            }
        }
        Ok(aborted)
    }
}

/// All bytes of one batch.
pub(crate) fn read_batch(file: &File, position: u64, header: &BatchHeader) -> io::Result<Bytes> {
    let mut bytes = vec![0; header.size()];
    calls::read_exact_at(file, &mut bytes, position)?;
    Ok(Bytes::from(bytes))
}
