//! What a batch must fulfil to be taken from a client, as far as that shows without its records.
//!
//! Kafka decompresses every batch to check each record as well; we do not, except on compacted topics (keys).
//! What is checked here is what a reader needs in order to be safe with the batch; the records of a lying client
//! harm only readers, and ours are bounded.

use std::ops::RangeInclusive;

use crate::batch::header::{CONTROL_BIT, DELETE_HORIZON_BIT};
use crate::batch::{BatchError, BatchHeader};
use crate::codec::Codec;

/// Latest timestamp taken, the end of the year 9999: what calendars can show, and far from overflow.
pub const LATEST_TIMESTAMP_MS: i64 = 253_402_300_799_999;

/// What [`validate_produce`] holds a batch against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRules {
    /// Largest batch in bytes, header included (`max.message.bytes`).
    pub max_message_bytes: usize,
    /// Whether zstd may be used: from Produce version 7 on (KIP-110).
    pub zstd_allowed: bool,
    /// Timestamps taken, in ms (`message.timestamp.before.max.ms`, `.after.max.ms`); -1 (none) always is.
    pub timestamps_ms: RangeInclusive<i64>,
}

impl Default for ProduceRules {
    fn default() -> Self {
        ProduceRules {
            // Kafka's default of `message.max.bytes`: 1 MiB and the 12 bytes the length does not count.
            max_message_bytes: 1_048_588,
            zstd_allowed: true,
            timestamps_ms: 0..=LATEST_TIMESTAMP_MS,
        }
    }
}

/// Checks the records field of one partition of a Produce request and returns the header of its one batch.
///
/// Without a producer id (-1) epoch and sequence are not looked at: KafkaJS leaves them 0.
///
/// # Errors
/// [`BatchError`], which knows the code to answer with.
pub fn validate_produce(records: &[u8], rules: &ProduceRules) -> Result<BatchHeader, BatchError> {
    if records.is_empty() {
        return Err(BatchError::NotOneBatch { bytes: 0 });
    }
    let header = BatchHeader::parse(records)?;
    let size = header.size();
    if size > records.len() {
        return Err(BatchError::Truncated {
            needed: size,
            have: records.len(),
        });
    }
    if size < records.len() {
        return Err(BatchError::NotOneBatch {
            bytes: records.len(),
        });
    }
    if size > rules.max_message_bytes {
        return Err(BatchError::TooLarge {
            size,
            max: rules.max_message_bytes,
        });
    }
    header.verify_crc(records)?;
    if header.attributes & (CONTROL_BIT | DELETE_HORIZON_BIT) != 0 {
        return Err(BatchError::ForbiddenAttributes {
            attributes: header.attributes,
        });
    }
    if header.codec()? == Codec::Zstd && !rules.zstd_allowed {
        return Err(BatchError::UnsupportedCodec {
            codec: Codec::Zstd.id(),
        });
    }
    if header.records_count == 0 || header.records_count - 1 != header.last_offset_delta {
        return Err(BatchError::BadCount {
            records_count: header.records_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    check_producer(&header)?;
    check_timestamps(&header, rules)?;
    Ok(header)
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    let sound = if header.producer_id == -1 {
        !header.is_transactional()
    } else {
        header.producer_id >= 0 && header.producer_epoch >= 0 && header.base_sequence >= 0
    };
    if sound {
        return Ok(());
    }
    Err(BatchError::BadProducer {
        producer_id: header.producer_id,
        producer_epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
    })
}

fn check_timestamps(header: &BatchHeader, rules: &ProduceRules) -> Result<(), BatchError> {
    let allowed =
        |timestamp_ms: i64| timestamp_ms == -1 || rules.timestamps_ms.contains(&timestamp_ms);
    if !header.is_log_append_time()
        && allowed(header.base_timestamp)
        && allowed(header.max_timestamp)
    {
        return Ok(());
    }
    Err(BatchError::BadTimestamp {
        base_timestamp_ms: header.base_timestamp,
        max_timestamp_ms: header.max_timestamp,
    })
}
