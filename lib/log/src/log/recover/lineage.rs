//! The lineage at the start: `leader-epoch-checkpoint`, held against what else is known.
//!
//! The file has no checksum. If the sidecar's point holds the checksum of just this text, it is right; else
//! it counts as far as the log agrees, and the log's own epochs if it does not. What lies below the local log has
//! no batch to be held against: there only what the checksum proves counts, and the lineage begins above the log
//! start where it proves nothing. The bucket knows the rest.

use std::io;
use std::path::Path;

use whimbrel_wire::batch::BatchHeader;

use crate::checkpoint::{decode_epochs, encode_epochs, read_text};
use crate::disk::shared::Shared;
use crate::epochs::{EpochStart, Epochs};
use crate::log::recover::{Found, Stored};
use crate::naming::EPOCHS;
use crate::segment::scan::{Scanner, Step};
use crate::types::Health;

/// Notes a batch's epoch where it differs from that of the batch before.
pub(super) fn note(epochs: &mut Vec<EpochStart>, header: &BatchHeader) {
    let epoch = header.partition_leader_epoch;
    if epoch >= 0 && epochs.last().is_none_or(|last| last.epoch != epoch) {
        epochs.push(EpochStart {
            epoch,
            start_offset: header.base_offset,
        });
    }
}

/// Epochs that may have begun since the file was last noted; it is noted with every sync of the log.
const BEGUN_SINCE: usize = 16;
/// And how many of them without a record, one in the place of the other.
const REPLACED: i32 = 64;

/// The lineage as it is to be.
pub(super) struct Lineage {
    pub(super) epochs: Epochs,
    /// The file has to be written again.
    pub(super) changed: bool,
    /// They are those of the file, which also tells what is not in the local log.
    pub(super) stored: bool,
    /// CRC-32C of the file.
    pub(super) check: u32,
}

pub(super) fn read(
    dir: &Path,
    found: &Found,
    log_start: Option<i64>,
    stored: &Stored,
    shared: &Shared,
) -> io::Result<Lineage> {
    let text = match read_text(&dir.join(EPOCHS)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        other => other?,
    };
    let check = text
        .as_deref()
        .map_or(0, |text| crc32c::crc32c(text.as_bytes()));
    let promised = stored.promised();
    let noted = stored.point.map(|point| point.epochs);
    let as_written = noted == Some(check);
    let entries = text.as_deref().and_then(|text| decode_epochs(text).ok());
    let stored = entries.clone().unwrap_or_default();
    let noted = noted.filter(|noted| *noted != 0);
    let proven = match noted {
        Some(noted) if !as_written => proven(&stored, noted, log_start),
        _ => stored.len(),
    };
    let mut epochs = Epochs::new(stored.iter().copied());
    let counts = entries.is_some() && (as_written || agree(&epochs, found, shared)?);
    let first = found.segments.first().map_or(found.log_end, |s| s.base);
    let begun = stored.get(proven).map_or(first, |e| e.start_offset);
    // Of the others nothing says that they are what was written, and below there is no batch to hold them against.
    let known_below = begun >= first;
    if !counts {
        let known = stored.iter().take(proven);
        epochs = Epochs::new(known.filter(|_| noted.is_some() && known_below).copied());
        for start in epochs_in(found, shared)? {
            epochs.assign(start.epoch, start.start_offset);
        }
    } else if !known_below && batch_at(first, found, shared)?.is_some() {
        epochs.truncate_from_start(first);
    } else if !known_below {
        epochs.forget_below(first);
    }
    let whole = counts && known_below;
    // The file is the last one that was noted as written: an epoch it does not hold began after that.
    let new_from = if as_written { promised } else { 0 };
    for start in found
        .epochs
        .iter()
        .filter(|start| start.start_offset >= new_from)
    {
        if epochs
            .latest()
            .is_none_or(|latest| latest.epoch < start.epoch)
        {
            epochs.assign(start.epoch, start.start_offset);
        }
    }
    // An epoch that began at the log end and has no record yet stays.
    epochs.truncate_from_end(found.log_end.saturating_add(1));
    if let Some(log_start) = log_start {
        epochs.truncate_from_start(log_start);
    }
    let changed = epochs.entries() != stored;
    Ok(Lineage {
        epochs,
        changed,
        stored: whole,
        // What was noted stays noted where the file is left as it is.
        check: noted.filter(|_| !whole).unwrap_or(check),
    })
}

/// How many of the file's first entries are known to be right by the checksum of an older or newer state of it:
/// epochs began since, the first of them perhaps where one without records had begun, or what was noted is what
/// the log start leaves of it.
fn proven(stored: &[EpochStart], noted: u32, log_start: Option<i64>) -> usize {
    let mut cut = Epochs::new(stored.iter().copied());
    let is_cut = log_start.is_some_and(|start| cut.truncate_from_start(start));
    if is_cut && begun_since(cut.entries(), noted).is_some() {
        return stored.len();
    }
    begun_since(stored, noted).unwrap_or(0)
}

fn begun_since(entries: &[EpochStart], noted: u32) -> Option<usize> {
    let is = |entries: &[EpochStart]| crc32c::crc32c(encode_epochs(entries).as_bytes()) == noted;
    let least = entries.len().saturating_sub(BEGUN_SINCE);
    (least..=entries.len()).rev().find(|&kept| {
        let (before, since) = entries.split_at(kept);
        let Some(begun) = since.first() else {
            return is(before);
        };
        let above = before.last().map_or(0, |last| last.epoch.saturating_add(1));
        let least = above.max(begun.epoch.saturating_sub(REPLACED));
        is(before)
            || (least..begun.epoch).any(|epoch| {
                let start_offset = begun.start_offset;
                let empty = [EpochStart {
                    epoch,
                    start_offset,
                }];
                is(&[before, &empty[..]].concat())
            })
    })
}

/// Whether the log says the same as the checkpoint, which has no checksum: each epoch begins with a batch
/// of its own, behind a batch of an older one. What is not in the local log is taken as it is.
fn agree(epochs: &Epochs, found: &Found, shared: &Shared) -> io::Result<bool> {
    let first = found.segments.first().map_or(i64::MAX, |s| s.base);
    let epoch_at = |offset: i64| batch_at(offset, found, shared);
    // The one that began below, and the newest: behind damage others may have begun.
    let whole = found.health == Health::Good;
    let last = found.log_end.saturating_sub(1).max(first);
    for offset in [first, last] {
        if let Some(header) = epoch_at(offset)?
            && let Some(owner) = epochs.at(header.base_offset)
            && owner != header.partition_leader_epoch
        {
            return Ok(false);
        }
    }
    if whole
        && epochs
            .latest()
            .is_some_and(|latest| latest.start_offset > found.log_end)
    {
        return Ok(false);
    }
    for (at, entry) in epochs.entries().iter().enumerate() {
        let next = epochs.entries().get(at + 1);
        let end = next.map_or(i64::MAX, |next| next.start_offset);
        if entry.start_offset >= first
            && let Some(header) = epoch_at(entry.start_offset)?
            && header.base_offset < end
            && header.partition_leader_epoch != entry.epoch
        {
            return Ok(false);
        }
        if at > 0
            && entry.start_offset > first
            && let Some(header) = epoch_at(entry.start_offset - 1)?
            && header.base_offset < entry.start_offset
            && header.partition_leader_epoch >= entry.epoch
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The first local batch that reaches to `offset` or above.
fn batch_at(offset: i64, found: &Found, shared: &Shared) -> io::Result<Option<BatchHeader>> {
    let after = found.segments.partition_point(|s| s.base <= offset);
    for segment in &found.segments[after.saturating_sub(1)..] {
        if let Ok(Some(at)) = segment.locate(offset, &shared.descriptors)? {
            return Ok(Some(at.header));
        }
    }
    Ok(None)
}

fn epochs_in(found: &Found, shared: &Shared) -> io::Result<Vec<EpochStart>> {
    let mut epochs = Vec::new();
    for segment in &found.segments {
        let file = segment.open(&shared.descriptors)?;
        let mut scanner = Scanner::new(&file, 0, segment.size(), segment.base);
        while let Step::Batch { header, .. } = scanner.step(|_| false)? {
            note(&mut epochs, &header);
        }
    }
    Ok(epochs)
}
