//! What is read is checked before it is given out: a disk may hand back other bytes than it was given.
//!
//! Every batch is held against its CRC. Base offset and leader epoch stand outside the CRC: the first is
//! held against the neighbours, the second against the lineage. What stands before damage is given out;
//! the read that would begin with it fails.

use std::ops::Range;

use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

use crate::calls::read_at;
use crate::error::ReadError;
use crate::log::Log;
use crate::segment::SegmentFile;

/// Bytes of one segment, from `position` on.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) segment: &'a SegmentFile,
    pub(crate) bytes: &'a [u8],
    pub(crate) position: u64,
}

impl Log {
    /// Length of the sound whole batches at the front that end at or below `upto`, and the offset behind
    /// them. An error if there is damage and nothing before it.
    pub(crate) fn sound_batches(
        &self,
        stretch: Stretch<'_>,
        upto: i64,
    ) -> Result<(usize, i64), ReadError> {
        let Stretch { bytes, .. } = stretch;
        let (mut now, mut before) = ((0, -1), (0, -1));
        let mut owner = None;
        while bytes.len() - now.0 >= HEADER_LEN {
            let header = match self.sound(stretch, now, upto, &mut owner) {
                Ok(Some(header)) => header,
                Ok(None) => return Ok(now),
                // Of two batches whose offsets overlap one is wrong, and which one cannot be told.
                Err((error, true)) => return given(before, error),
                Err((error, false)) => return given(now, error),
            };
            before = now;
            now = (now.0 + header.size(), header.next_offset());
        }
        match self.check_follower(stretch, now) {
            Ok(()) => Ok(now),
            Err(error) => given(before, error),
        }
    }

    /// The batch behind `now`, `None` if it is not to be given out. The flag of an error says that the
    /// batch before is not to be trusted either.
    fn sound(
        &self,
        stretch: Stretch<'_>,
        now: (usize, i64),
        upto: i64,
        owner: &mut Option<(Range<i64>, i32)>,
    ) -> Result<Option<BatchHeader>, (ReadError, bool)> {
        let Stretch { segment, .. } = stretch;
        let at = stretch.position + now.0 as u64;
        let rest = &stretch.bytes[now.0..];
        let bad = |why: &str| self.corrupt_at(segment, at, why);
        let header = self.header(segment, rest, at).map_err(|e| (e, false))?;
        if header.base_offset < now.1 {
            return Err((bad("offsets fall"), true));
        }
        if header.size() > rest.len() || header.next_offset() > upto {
            return Ok(None);
        }
        if let Err(error) = header.verify_crc(rest) {
            return Err((bad(&error.to_string()), false));
        }
        let offset = header.base_offset;
        if !owner
            .as_ref()
            .is_some_and(|(range, _)| range.contains(&offset))
        {
            *owner = self.state.read().epochs.owner(offset);
        }
        match owner {
            Some((_, epoch)) if *epoch != header.partition_leader_epoch => {
                let found = header.partition_leader_epoch;
                let why = format!("leader epoch {found} at offset {offset}, owned by {epoch}");
                Err((bad(&why), false))
            }
            _ => Ok(Some(header)),
        }
    }

    /// The batch behind what is given out begins where that ends, or above where compaction left a gap.
    pub(crate) fn check_follower(
        &self,
        stretch: Stretch<'_>,
        now: (usize, i64),
    ) -> Result<(), ReadError> {
        let Stretch { segment, .. } = stretch;
        let at = stretch.position + now.0 as u64;
        let end = segment.end();
        let begins = if at >= segment.size() {
            end
        } else {
            let io = |source| ReadError::Io {
                log: self.name(),
                source,
            };
            let file = segment.open(&self.shared.descriptors).map_err(io)?;
            let there = usize::try_from(segment.size().saturating_sub(at)).unwrap_or(HEADER_LEN);
            let bytes = read_at(&file, at, HEADER_LEN.min(there)).map_err(io)?;
            self.header(segment, &bytes, at)?.base_offset
        };
        if begins < now.1 {
            return Err(self.corrupt_at(segment, at, "offsets fall"));
        }
        Ok(())
    }
}

fn given(sound: (usize, i64), error: ReadError) -> Result<(usize, i64), ReadError> {
    if sound.0 > 0 { Ok(sound) } else { Err(error) }
}
