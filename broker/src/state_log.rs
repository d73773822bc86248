//! An internal topic's partitions as a coordinator sees them: a log it appends its state to and reads it back from.
//!
//! [`Led`] is the real one; tests have theirs in memory. Coordinators see nothing else of partitions, leases and disks.

mod led;

use async_trait::async_trait;
use bytes::Bytes;
use whimbrel_wire::{Batch, BatchError, Batches, ErrorCode};

pub use led::Led;

/// Bytes asked for at once when a partition is read.
const READ_BYTES: usize = 1 << 20;

/// The log of an internal topic, as far as it is led here.
#[async_trait]
pub trait StateLog: Send + Sync + 'static {
    /// Appends one batch (base offset and leader epoch are the log's to set) and returns its base offset once it is
    /// durable, held by the ack set, and the lease was found valid again.
    ///
    /// # Errors
    /// After those of [`nothing_appended`] nothing was; after any other the outcome is unknown and the coordinator
    /// reads the log again.
    async fn append(&self, partition: i32, batch: Bytes) -> Result<i64, ErrorCode>;

    /// Whole batches of durable records from `from` on, at least one if there is one, and the offset after them. Empty
    /// with `from` itself if nothing durable stands there yet; what lies below the log start is skipped.
    ///
    /// # Errors
    /// Kafka's code of the reason; it is tried again.
    async fn read(
        &self,
        partition: i32,
        from: i64,
        max_bytes: usize,
    ) -> Result<(Bytes, i64), ErrorCode>;

    /// Log start offset.
    fn start(&self, partition: i32) -> i64;

    /// Log end offset, of what is not yet durable too.
    fn end(&self, partition: i32) -> i64;

    /// The leader epoch in which this broker leads the partition; none if it does not, or holds no valid lease.
    fn led(&self, partition: i32) -> Option<i32>;
}

/// Whether after this error of [`StateLog::append`] it is certain that nothing was appended.
#[must_use]
pub fn nothing_appended(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::MESSAGE_TOO_LARGE
            | ErrorCode::RECORD_LIST_TOO_LARGE
            | ErrorCode::INVALID_RECORD
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::TRANSACTION_COORDINATOR_FENCED
    )
}

/// Why a partition could not be read to its end; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("read at {offset}: {}", code.name())]
    Read { offset: i64, code: ErrorCode },
    #[error("nothing durable yet at {offset}, the log ends at {end}")]
    NotDurable { offset: i64, end: i64 },
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Hands out every batch the log held when the reading began, and what came meanwhile. Only durable records count, so
/// an end that is not durable yet is an error to try again after.
///
/// # Errors
/// [`ReplayError`], or what `take` found.
pub async fn replay<E: From<ReplayError>>(
    log: &dyn StateLog,
    partition: i32,
    mut take: impl FnMut(&Batch) -> Result<(), E>,
) -> Result<(), E> {
    let end = log.end(partition);
    let mut offset = log.start(partition);
    while offset < end {
        let (bytes, next) = log
            .read(partition, offset, READ_BYTES)
            .await
            .map_err(|code| ReplayError::Read { offset, code })?;
        if next <= offset {
            return Err(ReplayError::NotDurable { offset, end }.into());
        }
        for batch in Batches::new(bytes) {
            let batch = batch.map_err(ReplayError::from)?;
            batch.verify_crc().map_err(ReplayError::from)?;
            take(&batch)?;
        }
        offset = next;
        // A long log must not hold up the other tasks of this thread.
        tokio::task::yield_now().await;
    }
    Ok(())
}
