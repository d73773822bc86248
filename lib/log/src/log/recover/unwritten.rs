//! What was never written, in the middle of a file.
//!
//! Between two syncs the kernel writes pages back in any order: a power cut may leave a page with sound batches while
//! one before it never reached the disk. That page reads as zeros, for the filesystem shows nobody what the block
//! held before, and all behind it came after the last sync: it was promised to nobody, and is cut off like any torn
//! tail. A page that was synced is there. So bytes that are wrong but not zeros were changed by something else, and
//! what stands behind them may have been acknowledged in the last round, which the stored point does not know of.

use std::fs::File;
use std::io;

use crate::calls;

/// No filesystem writes less at once.
const SECTOR: u64 = 512;
const BLOCK: u64 = 256 << 10;
/// Base offset and length of a batch: its length is never 0, so zeros up to here were not written by an append.
const NEVER_ZEROS: u64 = 12;

/// Whether part of what stands between `bad`, where a batch should begin, and `sound` was never written: a sector of
/// zeros, or the rest of one that was synced up to `bad`.
pub(super) fn is_torn(file: &File, bad: u64, sound: u64) -> io::Result<bool> {
    let border = bad.next_multiple_of(SECTOR).min(sound);
    if border - bad >= NEVER_ZEROS && are_zeros(file, bad, border)? {
        return Ok(true);
    }
    let mut at = bad.next_multiple_of(SECTOR);
    while sound.saturating_sub(at) >= SECTOR {
        let to = (at + BLOCK).min(sound - sound % SECTOR);
        let bytes = calls::read_at(file, at, usize::try_from(to - at).unwrap_or(0))?;
        let sector = usize::try_from(SECTOR).unwrap_or(usize::MAX);
        if bytes
            .chunks_exact(sector)
            .any(|sector| sector.iter().all(|b| *b == 0))
        {
            return Ok(true);
        }
        at = to;
    }
    Ok(false)
}

fn are_zeros(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let bytes = calls::read_at(file, from, usize::try_from(to - from).unwrap_or(0))?;
    Ok(bytes.iter().all(|b| *b == 0))
}
