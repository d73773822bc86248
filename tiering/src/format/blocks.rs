//! The block table: one entry per 256 KiB of an object's body.
//!
//! ```text
//! entry, 32 bytes: logical u32 | stored u32 | crc32c of the stored bytes u32 | encoding u8 = 0 | 0 u8 x 3
//!                  | key id u32 = 0 | nonce 12 bytes = 0
//! ```
//! Encoding 0 is plain; key id and nonce are reserved for encrypted blocks and must be zero.

use std::ops::Range;

use super::{FieldError, Fields, FormatError, Put};

/// Small enough that a short read does not check much more than it takes, large enough that the table of a
/// 1 GiB object is 128 KiB.
pub const BLOCK_BYTES: u64 = 256 << 10;
pub const ENTRY_BYTES: usize = 32;
const WHAT: &str = "block table";
const PLAIN: u8 = 0;

/// CRCs of a body that is written piece by piece.
#[derive(Debug, Default)]
pub struct BlockCrcs {
    done: Vec<u32>,
    crc: u32,
    length: u64,
}

impl BlockCrcs {
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - self.length % BLOCK_BYTES;
            let take = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.crc = crc32c::crc32c_append(self.crc, &bytes[..take]);
            self.length += take as u64;
            if self.length.is_multiple_of(BLOCK_BYTES) {
                self.done.push(std::mem::take(&mut self.crc));
            }
            bytes = &bytes[take..];
        }
    }

    pub fn finish(mut self) -> BlockTable {
        if !self.length.is_multiple_of(BLOCK_BYTES) {
            self.done.push(self.crc);
        }
        BlockTable {
            crcs: self.done,
            length: self.length,
        }
    }
}

/// The table of a plain body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTable {
    crcs: Vec<u32>,
    length: u64,
}

impl BlockTable {
    /// Bytes of the body that the table covers.
    pub fn covers(&self) -> u64 {
        self.length
    }

    /// The CRC32C of block `n`.
    pub fn crc(&self, n: u64) -> Option<u32> {
        self.crcs.get(usize::try_from(n).ok()?).copied()
    }

    /// The whole blocks that `span` touches.
    pub fn cover(&self, span: &Range<u64>) -> Range<u64> {
        let end = span
            .end
            .div_ceil(BLOCK_BYTES)
            .saturating_mul(BLOCK_BYTES)
            .min(self.length);
        span.start / BLOCK_BYTES * BLOCK_BYTES..end
    }

    /// The CRC32Cs of the blocks that `cover` is made of.
    pub fn crcs(&self, cover: &Range<u64>) -> &[u32] {
        let index = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let (from, to) = (
            index(cover.start / BLOCK_BYTES),
            index(cover.end.div_ceil(BLOCK_BYTES)),
        );
        self.crcs.get(from..to).unwrap_or_default()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.crcs.len() * ENTRY_BYTES);
        let mut left = self.length;
        for crc in &self.crcs {
            let bytes = u32::try_from(left.min(BLOCK_BYTES)).unwrap_or(u32::MAX);
            left -= u64::from(bytes);
            out.put_u32(bytes);
            out.put_u32(bytes);
            out.put_u32(*crc);
            out.put(&[PLAIN; 20]);
        }
        out
    }

    /// The table of a body of `length` bytes.
    pub fn decode(bytes: &[u8], length: u64) -> Result<Self, FormatError> {
        let expected = length.div_ceil(BLOCK_BYTES);
        if !bytes.len().is_multiple_of(ENTRY_BYTES)
            || (bytes.len() / ENTRY_BYTES) as u64 != expected
        {
            return Err(FormatError::malformed(
                WHAT,
                format!("{} bytes for {expected} blocks", bytes.len()),
            ));
        }
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let mut crcs = Vec::with_capacity(entries.len());
        let mut left = length;
        for entry in entries {
            let want = left.min(BLOCK_BYTES);
            left -= want;
            crcs.push(
                entry_crc(entry, want)
                    .map_err(|e| FormatError::malformed(WHAT, e))?
                    .ok_or_else(|| {
                        FormatError::malformed(WHAT, "a block of another length or encoding")
                    })?,
            );
        }
        Ok(Self { crcs, length })
    }

    /// Checks `bytes`, which begin at the block boundary `from` and end at another or at the body's end.
    pub fn check(&self, from: u64, bytes: &[u8]) -> Result<(), FormatError> {
        let blocks = bytes.chunks(usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX));
        for (n, block) in (from / BLOCK_BYTES..).zip(blocks) {
            let stored = self
                .crc(n)
                .ok_or_else(|| FormatError::malformed(WHAT, format!("there is no block {n}")))?;
            super::check_crc("block", block, stored)?;
        }
        Ok(())
    }
}

fn entry_crc(entry: &[u8], want: u64) -> Result<Option<u32>, FieldError> {
    let mut fields = Fields::new(entry);
    let (logical, stored, crc) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let plain = fields.take(20)?.iter().all(|b| *b == PLAIN);
    Ok((u64::from(logical) == want && stored == logical && plain).then_some(crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_size_give_the_same_table() {
        let body: Vec<u8> = (0..600_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let table = |piece: usize| {
            let mut crcs = BlockCrcs::default();
            body.chunks(piece).for_each(|c| crcs.update(c));
            crcs.finish()
        };
        let whole = table(usize::MAX);
        assert_eq!((table(7_001), whole.crcs.len()), (whole.clone(), 3));
        assert_eq!(BlockTable::decode(&whole.encode(), 600_000).unwrap(), whole);
        whole.check(BLOCK_BYTES, &body[256 << 10..]).unwrap();
        assert_eq!(whole.cover(&(1..2)), 0..BLOCK_BYTES);
        let last = whole.cover(&(BLOCK_BYTES..599_999));
        assert_eq!(
            (last.clone(), whole.crcs(&last).len()),
            (BLOCK_BYTES..600_000, 2)
        );
        let mut bent = body[256 << 10..].to_vec();
        bent[300_000] ^= 1;
        assert!(whole.check(BLOCK_BYTES, &bent).is_err());
    }

    #[test]
    fn a_table_for_another_length_is_refused() {
        let table = BlockTable {
            crcs: vec![1],
            length: 9,
        };
        assert!(BlockTable::decode(&table.encode(), 10).is_err());
        assert!(BlockTable::decode(&table.encode(), BLOCK_BYTES + 1).is_err());
        assert!(BlockTable::decode(&table.encode()[1..], 9).is_err());
    }
}
