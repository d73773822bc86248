//! Where a log begins, as far as its disk says so.
//!
//! Local files are no such word: what is below the first of them may have been freed because the bucket has it.
//! Who takes the local start for the log's lets the bucket delete all below it.

use std::io;
use std::path::Path;

use crate::calls;
use crate::log::recover::Stored;
use crate::log::recover::lineage::Lineage;
use crate::naming::{APPEND_TIME, RECENT, parse_file_name};

/// The log start, `None` where it is lost. `first` is the base of the first local segment.
pub(super) fn known(dir: &Path, stored: &Stored, first: Option<i64>) -> io::Result<Option<i64>> {
    Ok(match (stored.point, stored.log_start, first) {
        (Some(point), _, _) => point.log_start,
        // Nothing is below.
        (None, _, None | Some(0)) if stored.ours => Some(0),
        // The checkpoint may be about a deleted log of the same name.
        (None, _, Some(_)) if stored.ours || is_ours(dir)? => None,
        // Kafka frees nothing that it keeps elsewhere; its checkpoint may lag behind its deletions.
        (None, Some(start), first) => Some(start.max(first.unwrap_or(start))),
        (None, None, first) => Some(first.unwrap_or(0)),
    })
}

/// Where a log of unknown start may be read from: what its stored lineage begins with, which is cut whenever the
/// log start moves. Never above the first local segment, for the lineage has no checksum.
pub(super) fn at_least(lineage: &Lineage, bases: &[i64]) -> i64 {
    let first = bases.first().copied().unwrap_or(0);
    let begins = lineage.epochs.entries().first().map(|e| e.start_offset);
    begins
        .filter(|_| lineage.stored)
        .unwrap_or(0)
        .clamp(0, first)
}

/// The disk's sidecar is gone, but the log has files that Kafka does not write.
fn is_ours(dir: &Path) -> io::Result<bool> {
    for entry in calls::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some((_, RECENT | APPEND_TIME)) = name.to_str().and_then(parse_file_name) {
            return Ok(true);
        }
    }
    Ok(false)
}
