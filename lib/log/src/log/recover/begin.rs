//! Where a segment is looked at from: the newest place that its indexes are right about.
//!
//! Their pages reach the disk in any order, and none of them is synced with the log. An entry is held against the batch
//! that it is about. Of the times, what is missing at the end would make the segment look older than it is: so the look
//! begins no later than the newest of them, and notes the rest again.

use std::fs::File;
use std::io;

use whimbrel_wire::batch::BatchHeader;

use crate::log::recover::Look;
use crate::segment::scan::{Scanner, Step};

impl Look<'_> {
    /// Where to begin, and whether the indexes are right about it. Entries behind that place are dropped.
    pub(super) fn start(&self, file: &File, length: u64) -> io::Result<(u64, bool)> {
        if !self.indexed {
            return Ok((0, false));
        }
        let descriptors = &self.shared.descriptors;
        if self.stored.clean && self.last {
            let newest = self.segment.newest_entry(descriptors)?;
            let position = newest.map_or(0, |(_, position)| position);
            return Ok(match self.batch_at(file, position, length)? {
                Some(header) if newest == Some((header.last_offset(), position)) => {
                    (position, true)
                }
                _ => (0, false),
            });
        }
        let mut from = self.stored.scan_from();
        // From the newest place first, then from that of the newest time.
        for _ in 0..2 {
            let position = self.segment.near(from, descriptors)?;
            let Some(header) = self.batch_at(file, position, length)? else {
                break;
            };
            let (end, behind) = (header.next_offset(), position.saturating_add(1));
            self.segment.truncate_indexes(end, behind, descriptors)?;
            let newest = self.segment.newest_entry(descriptors)?;
            if newest != Some((header.last_offset(), position)) {
                break;
            }
            let Some(time) = self.segment.newest_time(descriptors)? else {
                break;
            };
            if time >= header.base_offset || from == time {
                return Ok((position, true));
            }
            from = time;
        }
        Ok((0, false))
    }

    /// The batch at a place that is not the file's beginning.
    fn batch_at(&self, file: &File, position: u64, length: u64) -> io::Result<Option<BatchHeader>> {
        if position == 0 {
            return Ok(None);
        }
        let step = Scanner::new(file, position, length, self.segment.base).step(|_| false)?;
        Ok(match step {
            Step::Batch { header, .. } => Some(header),
            _ => None,
        })
    }
}
