//! What stands behind a place where a batch should begin and does not: nothing of worth, or batches that go on with
//! the log.
//!
//! Records may hold anything, whole batches too, and of a batch whose header is wrong nobody knows how long it was. So a
//! sound batch counts if its epoch is not below the log's, which a batch that a client puts into a record has not been
//! given, and if batches lead from it exactly to the end of the file: what stands in a record has more of that record
//! behind it. Where the end of the file is torn as well nothing leads there, and the epoch has to do.

use std::fs::File;
use std::io;

use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

use crate::calls;
use crate::segment::scan::{Scanner, Step};

const BLOCK: usize = 256 << 10;
const MAGIC_AT: usize = 16;
/// What is held against checksums at most, many times what one round of appends is. Beyond that what looks like a batch
/// counts as one: nothing is deleted on a doubt.
const MOST_CHECKED: u64 = 1 << 30;

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    /// The bad batch.
    pub(crate) position: u64,
    /// Where the batch behind it begins, if its header makes sense.
    pub(crate) next: Option<u64>,
    pub(crate) end: u64,
    /// Batches that go on with the log begin there or above,
    pub(crate) next_offset: i64,
    /// and are of this epoch or a newer one.
    pub(crate) epoch: i32,
}

impl Behind {
    /// Where the first of the batches stands.
    pub(crate) fn sound_batches(&self, file: &File) -> io::Result<Option<u64>> {
        if let Some(next) = self.next {
            let step = Scanner::new(file, next, self.end, self.next_offset).step(|_| true)?;
            if matches!(step, Step::Batch { .. }) {
                return Ok(Some(next));
            }
        }
        let (mut own, mut checked) = (None, 0);
        let mut at = self.position + 1;
        let mut block = Vec::new();
        while self.end.saturating_sub(at) >= HEADER_LEN as u64 {
            let length = (self.end - at).min(BLOCK as u64);
            block.resize(usize::try_from(length).unwrap_or(BLOCK), 0);
            calls::read_exact_at(file, &mut block, at)?;
            for (i, window) in block.windows(HEADER_LEN).enumerate() {
                if window[MAGIC_AT] != 2 {
                    continue;
                }
                let Ok(header) = BatchHeader::parse(window) else {
                    continue;
                };
                let place = at + i as u64;
                // A batch that a client sends has none.
                if header.partition_leader_epoch < self.epoch {
                    continue;
                }
                if self.leads_to_end(file, place)? {
                    return Ok(Some(place));
                }
                if own.is_none() && self.is_own(&header, place) {
                    checked += header.size() as u64;
                    let step = Scanner::new(file, place, self.end, 0).step(|_| true)?;
                    let sound = matches!(step, Step::Batch { .. });
                    own = Some(place).filter(|_| sound || checked > MOST_CHECKED);
                }
            }
            at += (block.len() - (HEADER_LEN - 1)) as u64;
        }
        Ok(own)
    }

    /// Whether a batch with this header may be one of the log's, and none that stands in a record.
    fn is_own(&self, header: &BatchHeader, place: u64) -> bool {
        let behind = self.next.is_none_or(|next| place >= next);
        let epoch = header.partition_leader_epoch;
        behind
            && header.base_offset >= self.next_offset
            && epoch >= 0
            && header.size() as u64 <= self.end - place
    }

    fn leads_to_end(&self, file: &File, place: u64) -> io::Result<bool> {
        let scanner = || Scanner::new(file, place, self.end, self.next_offset);
        // Without CRCs first: almost every false beginning ends there, at little cost.
        let mut cheap = scanner();
        loop {
            match cheap.step(|_| false)? {
                Step::Batch { .. } => {}
                Step::End => break,
                Step::Bad { .. } => return Ok(false),
            }
        }
        Ok(matches!(scanner().step(|_| true)?, Step::Batch { .. }))
    }
}
