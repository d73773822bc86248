//! The lineage at the start: `leader-epoch-checkpoint`, held against what else is known.
//!
//! The file has no checksum. If the sidecar's point holds the checksum of just this text, it is right; else
//! it counts as far as the log agrees, and the log's own epochs if it does not.

use std::io;
use std::path::Path;

use whimbrel_wire::batch::BatchHeader;

use crate::checkpoint::{decode_epochs, read_text};
use crate::disk::shared::Shared;
use crate::epochs::{EpochStart, Epochs};
use crate::log::recover::{Found, Stored};
use crate::naming::EPOCHS;
use crate::segment::scan::{Scanner, Step};

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
    let as_written = stored.point.is_some_and(|point| point.epochs == check);
    let entries = text.as_deref().and_then(|text| decode_epochs(text).ok());
    let stored = entries.clone().unwrap_or_default();
    let mut epochs = Epochs::new(stored.iter().copied());
    let counts = entries.is_some() && (as_written || agree(&epochs, found, shared)?);
    if !counts {
        epochs = Epochs::default();
        for start in epochs_in(found, shared)? {
            epochs.assign(start.epoch, start.start_offset);
        }
    }
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
        stored: counts,
        check,
    })
}

/// Whether the log says the same as the checkpoint, which has no checksum: each epoch begins with a batch
/// of its own, behind a batch of an older one. What is not in the local log is taken as it is.
fn agree(epochs: &Epochs, found: &Found, shared: &Shared) -> io::Result<bool> {
    let first = found.segments.first().map_or(i64::MAX, |s| s.base);
    let epoch_at = |offset: i64| -> io::Result<Option<BatchHeader>> {
        let after = found.segments.partition_point(|s| s.base <= offset);
        for segment in &found.segments[after.saturating_sub(1)..] {
            if let Ok(Some(at)) = segment.locate(offset, &shared.descriptors)? {
                return Ok(Some(at.header));
            }
        }
        Ok(None)
    };
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
