//! Record batches of format 2 (KIP-98), seen without decoding their records.
//!
//! ```text
//!  0 base offset i64        | outside the CRC, set by the leader
//!  8 batch length i32       | bytes after this field
//! 12 leader epoch i32       | outside the CRC, set by the leader
//! 16 magic i8 = 2
//! 17 crc u32                | CRC-32C of bytes 21..end
//! 21 attributes i16         | 0-2 codec, 3 LogAppendTime, 4 transactional, 5 control, 6 delete horizon
//! 23 last offset delta i32
//! 27 base timestamp i64     | delete horizon time if bit 6 is set
//! 35 max timestamp i64
//! 43 producer id i64, 51 producer epoch i16, 53 base sequence i32   | -1 without idempotence
//! 57 records count i32      | 0 after compaction removed all
//! 61 records
//! ```
//!
//! The header is parsed in place. A parsed header has a sane length, non-negative offsets whose sum does not
//! overflow, and a record count that fits its offsets; everything else about a batch must be asked for
//! ([`Batch::verify_crc`], [`validate_produce`], [`crate::record::records`]). Formats 0 and 1 are not read.

mod builder;
mod error;
mod header;
mod patch;
mod produce;

use bytes::Bytes;

pub use builder::BatchBuilder;
pub use error::{BatchError, BuildError};
pub use header::{BatchHeader, HEADER_LEN, LENGTH_PREFIX_LEN};
pub use patch::{patch_base_offset_and_epoch, set_log_append_time};
pub use produce::{LATEST_TIMESTAMP_MS, ProduceRules, validate_produce};

/// One whole batch: its header and all its bytes, header included.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The parsed header.
    pub header: BatchHeader,
    /// The batch's bytes, `header.size()` long.
    pub bytes: Bytes,
}

impl Batch {
    /// Takes the first batch off the front of `bytes`; without copying.
    ///
    /// # Errors
    /// [`BatchError`] if the header is unsound or the batch is not there to its end; `bytes` is then unchanged.
    pub fn take(bytes: &mut Bytes) -> Result<Batch, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        if bytes.len() < header.size() {
            return Err(BatchError::Truncated {
                needed: header.size(),
                have: bytes.len(),
            });
        }
        Ok(Batch {
            header,
            bytes: bytes.split_to(header.size()),
        })
    }

    /// The bytes after the header, compressed as `header.codec()` says.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_LEN.min(self.bytes.len())..)
    }

    /// Compares the stored CRC with that of the bytes.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        self.header.verify_crc(&self.bytes)
    }
}

/// Iterates over the whole batches in a run of bytes. After an error it ends: there is no way to find the next
/// batch. [`BatchError::Truncated`] is what the cut-off end of a fetch response looks like.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Iterates over `bytes`, which are not copied.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Batches { rest: bytes }
    }

    /// The bytes not iterated over yet.
    #[must_use]
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = Batch::take(&mut self.rest);
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}

#[cfg(test)]
mod tests;
