//! Walks the batches of a segment file from a position on.
//!
//! Headers alone cost one small read per large batch, or one block per many small ones; with CRC
//! checks every byte is read, in blocks, so that memory does not depend on what a length field says.

use std::fs::File;
use std::io;

use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

use crate::calls;

const BLOCK: usize = 256 << 10;
/// Batches smaller than this come several to a block.
const SMALL_BATCH: u64 = 16 << 10;
const CRC_FROM: u64 = 21;

/// What stands at a position.
#[derive(Debug)]
pub(crate) enum Step {
    Batch {
        position: u64,
        header: BatchHeader,
    },
    /// The end, exactly behind a batch.
    End,
    /// Not a whole sound batch that continues the log. `next`: where the one after it would begin,
    /// if its header makes sense.
    Bad {
        position: u64,
        why: String,
        next: Option<u64>,
    },
}

pub(crate) struct Scanner<'a> {
    file: &'a File,
    position: u64,
    end: u64,
    block: Vec<u8>,
    block_at: u64,
    /// Lowest offset the next batch may begin at.
    next_offset: i64,
    many: bool,
}

impl<'a> Scanner<'a> {
    /// Batches from `position` to `end` of the file; the first begins at or above `next_offset`.
    pub(crate) fn new(file: &'a File, position: u64, end: u64, next_offset: i64) -> Self {
        Scanner {
            file,
            position,
            end,
            block: Vec::new(),
            block_at: 0,
            next_offset,
            many: true,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    fn bytes(&mut self, at: u64, length: usize) -> io::Result<&[u8]> {
        let have = self.block_at..self.block_at + self.block.len() as u64;
        if at < have.start || at + length as u64 > have.end {
            let want = if self.many { BLOCK.max(length) } else { length };
            let want = usize::try_from((self.end - at).min(want as u64)).unwrap_or(length);
            self.block.resize(want, 0);
            self.block_at = at;
            if let Err(error) = calls::read_exact_at(self.file, &mut self.block, at) {
                self.block.clear();
                return Err(error);
            }
        }
        let from = usize::try_from(at - self.block_at).unwrap_or(usize::MAX);
        self.block
            .get(from..from + length)
            .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// The next batch, its CRC compared if `check_crc` says so.
    pub(crate) fn step(
        &mut self,
        check_crc: impl FnOnce(&BatchHeader) -> bool,
    ) -> io::Result<Step> {
        let position = self.position;
        let bad = |why: String| {
            Ok(Step::Bad {
                position,
                why,
                next: None,
            })
        };
        if position >= self.end {
            return Ok(Step::End);
        }
        if self.end - position < HEADER_LEN as u64 {
            return bad("the file ends inside a batch header".to_owned());
        }
        let header = match BatchHeader::parse(self.bytes(position, HEADER_LEN)?) {
            Ok(header) => header,
            Err(error) => return bad(error.to_string()),
        };
        let size = header.size() as u64;
        if size > self.end - position {
            return bad(format!(
                "a batch of {size} bytes does not fit before the end of the file"
            ));
        }
        if header.base_offset < self.next_offset {
            return bad(format!(
                "base offset {} after {}",
                header.base_offset, self.next_offset
            ));
        }
        self.many = size <= SMALL_BATCH;
        if check_crc(&header) {
            self.many = true;
            let crc = self.crc(position + CRC_FROM, position + size)?;
            if crc != header.crc {
                let why = format!("CRC {crc:#010x}, stored {:#010x}", header.crc);
                return Ok(Step::Bad {
                    position,
                    why,
                    next: Some(position + size),
                });
            }
        }
        self.position = position + size;
        self.next_offset = header.next_offset();
        Ok(Step::Batch { position, header })
    }

    fn crc(&mut self, from: u64, to: u64) -> io::Result<u32> {
        let mut crc = 0;
        let mut at = from;
        while at < to {
            // What is left of the block first, then whole blocks.
            let block_end = self.block_at + self.block.len() as u64;
            let rest = if at < block_end {
                block_end - at
            } else {
                BLOCK as u64
            };
            let length = usize::try_from(rest.min(to - at)).unwrap_or(BLOCK);
            crc = crc32c::crc32c_append(crc, self.bytes(at, length)?);
            at += length as u64;
        }
        Ok(crc)
    }
}
