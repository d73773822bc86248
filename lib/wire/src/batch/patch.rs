//! The edits a broker makes to a batch it appends: offset and epoch always (both outside the CRC), and the
//! broker's time where the topic asks for it.

use crate::batch::header::{CRC_START, LOG_APPEND_TIME_BIT};
use crate::batch::{BatchError, BatchHeader};

/// Writes base offset and leader epoch into the batch at the front of `batch`. The CRC stays right.
///
/// # Errors
/// [`BatchError::Truncated`] for fewer than 16 bytes; nothing is written then.
pub fn patch_base_offset_and_epoch(
    batch: &mut [u8],
    base_offset: i64,
    leader_epoch: i32,
) -> Result<(), BatchError> {
    let have = batch.len();
    let head = batch
        .first_chunk_mut::<16>()
        .ok_or(BatchError::Truncated { needed: 16, have })?;
    head[..8].copy_from_slice(&base_offset.to_be_bytes());
    head[12..].copy_from_slice(&leader_epoch.to_be_bytes());
    Ok(())
}

/// Makes `now_ms` the timestamp of all records of the batch at the front of `batch`: sets the LogAppendTime bit
/// and the highest timestamp, and computes the CRC again. The records themselves are not touched.
///
/// # Errors
/// Those of [`BatchHeader::parse`], and [`BatchError::Truncated`] if the batch is not there to its end; nothing is
/// written then.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let have = batch.len();
    let bytes = batch
        .get_mut(..header.size())
        .ok_or(BatchError::Truncated {
            needed: header.size(),
            have,
        })?;
    let attributes = header.attributes | LOG_APPEND_TIME_BIT;
    bytes[21..23].copy_from_slice(&attributes.to_be_bytes());
    bytes[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(())
}
