//! Where closed segments end: one below the durable point whose file is shorter than it was, and one that is none.
//!
//! Nothing below that point is scanned, and where a segment ends is written nowhere: the next one begins there or, in
//! a log that was compacted, somewhere above. So the segment's own indexes are asked. The file is looked at from the
//! batch on that the newest index entry is about; entries about batches behind its end tell that it was longer. One
//! changed bit of an index, which has no checksum, tells nothing.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::calls;
use crate::descriptors::Descriptors;
use crate::log::recover::Bad;
use crate::naming::{LOG, file_path};
use crate::segment::SegmentFile;
use crate::segment::scan::{Scanner, Step};

/// A file without index entries is as a rule shorter than the distance between two.
const MOST_BYTES: u64 = 32 << 20;

/// Newest batches that a segment's indexes know of.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Told {
    /// Last offset of a batch and where it begins.
    pub(crate) offset_index: Option<(i64, u64)>,
    /// Last offsets.
    pub(crate) time_index: Option<i64>,
    pub(crate) append_times: Option<i64>,
}

/// Where the headers lead, from `from` on.
struct Walked {
    position: u64,
    end: i64,
    why: String,
}

/// The end of a segment whose file lost it. `next` is where the segment behind it begins. Hides nothing of one that is
/// as long as its indexes say.
pub(super) fn cut_short(
    segment: &SegmentFile,
    next: i64,
    descriptors: &Descriptors,
) -> io::Result<Option<Bad>> {
    let (told, size) = (segment.told(descriptors)?, segment.size());
    let beyond = told.offset_index.filter(|(_, at)| *at >= size);
    let file = File::open(segment.path())?;
    let from = told.offset_index.filter(|(_, at)| *at < size);
    let near = match from {
        Some(entry) => walk(&file, segment, Some(entry))?,
        None => None,
    };
    let walked = match near {
        Some(walked) => Some(walked),
        None if beyond.is_none() && size > MOST_BYTES => return Ok(None),
        None => walk(&file, segment, None)?,
    };
    let Some(Walked { position, end, why }) = walked.filter(|walked| walked.end < next) else {
        return Ok(None);
    };
    let behind = |offset: Option<i64>| offset.is_some_and(|offset| offset >= end && offset < next);
    let is_last = told.time_index == next.checked_sub(1);
    let lost = beyond.is_some_and(|(offset, _)| behind(Some(offset)))
        || (is_last && behind(told.time_index))
        || (behind(told.time_index) && behind(told.append_times));
    if !lost {
        return Ok(None);
    }
    segment.hide_from(end, position);
    Ok(Some(Bad::sure(position, why)))
}

/// Removes segments at the end that were made and never written to, while the log went on in the one before: what the
/// disk had no room for was not begun.
pub(super) fn drop_unbegun(
    dir: &Path,
    bases: &mut Vec<i64>,
    descriptors: &Descriptors,
) -> io::Result<()> {
    while let [.., before, last] = *bases.as_slice() {
        if calls::length(&file_path(dir, last, LOG))? > 0 {
            break;
        }
        let (segment, _) = SegmentFile::load(dir, before, before, descriptors)?;
        let file = File::open(segment.path())?;
        let entry = segment.newest_entry(descriptors)?;
        let walked = match entry.filter(|(_, at)| *at < segment.size()) {
            Some(entry) => walk(&file, &segment, Some(entry))?,
            None => None,
        };
        let walked = match walked {
            None => walk(&file, &segment, None)?,
            walked => walked,
        };
        if walked.is_none_or(|walked| walked.end <= last) {
            break;
        }
        SegmentFile::load(dir, last, last, descriptors)?
            .0
            .remove()?;
        bases.pop();
    }
    Ok(())
}

/// `None` if the batch that `entry` is about is not there.
fn walk(
    file: &File,
    segment: &SegmentFile,
    entry: Option<(i64, u64)>,
) -> io::Result<Option<Walked>> {
    let from = entry.map_or(0, |(_, at)| at);
    let mut scanner = Scanner::new(file, from, segment.size(), segment.base);
    let mut end = segment.base;
    loop {
        let position = scanner.position();
        let why = match scanner.step(|_| false)? {
            // Kafka notes the end of what was appended together, and where it begins.
            Step::Batch { header, .. }
                if entry
                    .is_some_and(|(last, at)| at == position && header.last_offset() > last) =>
            {
                return Ok(None);
            }
            Step::Batch { header, .. } => {
                end = header.next_offset();
                continue;
            }
            Step::Bad { .. } if entry.is_some() && position == from => return Ok(None),
            Step::Bad { why, .. } => why,
            Step::End => "the file ends here, and its indexes know of more".to_owned(),
        };
        return Ok(Some(Walked { position, end, why }));
    }
}
