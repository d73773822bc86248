//! What was never written, in the middle of a file or at its end.
//!
//! Between two syncs the kernel writes pages back in any order: a power cut may leave a page with sound batches while
//! one before it never reached the disk. That page reads as zeros, for the filesystem shows nobody what the block
//! held before, and all behind it came after the last sync: it was promised to nobody, and is cut off like any torn
//! tail. A page that was synced is there. So bytes that are wrong but not zeros were changed by something else, and
//! what stands behind them may have been acknowledged in the last round, which the stored point does not know of.
//!
//! The length of a file comes to the disk in its own time too: a closed segment may end where it did after some append,
//! or after some page of it, while the next one has batches. Segments begin where the one before ends, so that this
//! shows, except where the cleaner has taken what was between: it cleans below the durable point only.

use std::fs::File;
use std::io;

use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

use crate::calls;
use crate::log::recover::{Bad, Stored};
use crate::segment::SegmentFile;

/// No filesystem writes less at once.
const SECTOR: u64 = 512;
const BLOCK: u64 = 256 << 10;
/// Base offset and length of a batch: its length is never 0, so zeros up to here were not written by an append.
const NEVER_ZEROS: u64 = 12;
/// Of a batch, what its CRC is about.
const CRC_FROM: u64 = 21;
/// A copy of a compacted log begins a segment at its source's next batch when that is further than an index can say.
/// No segment has so many records.
const FAR: i64 = 1 << 30;

/// Whether part of what stands between `bad`, where a batch at `offset` or above should begin, and `sound` was never
/// written: a sector of zeros, the rest of one that was synced up to `bad`, or what there is of the file's last one.
pub(super) fn is_torn(file: &File, bad: u64, offset: i64, sound: u64) -> io::Result<bool> {
    let border = bad.next_multiple_of(SECTOR).min(sound);
    if border - bad >= NEVER_ZEROS && are_zeros(file, bad, border)? {
        return Ok(true);
    }
    if lacks_its_first_bytes(file, bad, offset)? {
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
    // The rest of a sector that the file ends in.
    let tail = bad.max(sound - sound % SECTOR);
    Ok(tail < sound && sound == file.metadata()?.len() && are_zeros(file, tail, sound)?)
}

/// Whether the first bytes of the batch at `bad` were never written, and what stands behind them was: the rest of a
/// sector that was synced up to there, where the batch's offset, `offset` or above, is other than zeros. All of it that
/// its checksum is about may be there.
pub(super) fn lacks_its_first_bytes(file: &File, bad: u64, offset: i64) -> io::Result<bool> {
    let border = bad.next_multiple_of(SECTOR);
    let missing = border - bad;
    if missing == 0 || missing >= NEVER_ZEROS || file.metadata()?.len() < border {
        return Ok(false);
    }
    let expected = offset.to_be_bytes();
    let begin = usize::try_from(missing).unwrap_or(usize::MAX);
    let begin = expected.get(..begin).unwrap_or(&expected);
    Ok(begin.iter().any(|byte| *byte != 0) && are_zeros(file, bad, border)?)
}

/// A closed segment that ends before `next`, where the one behind it begins, above what was promised.
pub(super) fn gap(segment: &SegmentFile, next: Option<i64>, stored: &Stored) -> Option<Bad> {
    let (end, promised) = (segment.end(), stored.point?.durable_end);
    let next = next.filter(|next| end < *next && promised < *next)?;
    let near = next.saturating_sub(segment.base) < FAR;
    near.then(|| Bad {
        position: segment.size(),
        next: None,
        why: format!("offsets {next}.. after {end}"),
        sure: false,
    })
}

/// Whether a file ends where a batch should begin, at `bad`, or in one whose rest never reached the disk: at the end of
/// a sector. One that has got another length ends with its file as well, but its checksum is right.
pub(super) fn ends_early(file: &File, bad: u64, end: u64) -> io::Result<bool> {
    if bad == end {
        return Ok(true);
    }
    if !end.is_multiple_of(SECTOR) {
        return Ok(false);
    }
    let length = end.saturating_sub(bad);
    if length < HEADER_LEN as u64 {
        return Ok(true);
    }
    let Ok(header) = BatchHeader::parse(&calls::read_at(file, bad, HEADER_LEN)?) else {
        return Ok(false);
    };
    let (mut crc, mut at) = (0, bad + CRC_FROM);
    while at < end {
        let to = (at + BLOCK).min(end);
        let bytes = calls::read_at(file, at, usize::try_from(to - at).unwrap_or(0))?;
        crc = crc32c::crc32c_append(crc, &bytes);
        at = to;
    }
    Ok(header.size() as u64 > length && crc != header.crc)
}

fn are_zeros(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let bytes = calls::read_at(file, from, usize::try_from(to - from).unwrap_or(0))?;
    Ok(bytes.iter().all(|b| *b == 0))
}
