//! One partition's part of a fetch answer.

use std::sync::Arc;

use bytes::Bytes;
use whimbrel_fleet::NodeId;
use whimbrel_log::ReadError;
use whimbrel_wire::{
    Batches, Codec, ErrorCode,
    messages::fetch::{AbortedTransaction, EpochEndOffset, PartitionData},
};

use super::plan::Plan;
use crate::{
    cold::Records,
    fetch_sessions::{Told, Wanted},
    partition::Partition,
};

/// First version in which zstd batches may be sent (KIP-110).
const ZSTD: i16 = 10;

#[derive(Debug)]
pub struct Part {
    pub data: PartitionData,
    cold: Option<Cold>,
    aborted_from: Option<(Arc<Partition>, i64)>,
    version: i16,
    /// The bucket was asked for it.
    is_from_bucket: bool,
    /// How much was read, while nobody keeps it.
    let_go: usize,
}

/// What is to be read from the bucket.
#[derive(Debug)]
pub struct Cold {
    pub partition: Arc<Partition>,
    pub offset: i64,
    pub max_bytes: usize,
    /// Where the reader's view ends: the bucket may hold more.
    upto: i64,
}

impl Part {
    pub fn error(partition_index: i32, error_code: ErrorCode) -> Self {
        let data = PartitionData {
            partition_index,
            error_code,
            high_watermark: -1,
            records: Some(Bytes::new()),
            ..PartitionData::default()
        };
        Self {
            data,
            cold: None,
            aborted_from: None,
            version: 0,
            is_from_bucket: false,
            let_go: 0,
        }
    }

    pub fn read(
        partition: &Arc<Partition>,
        wanted: &Wanted,
        plan: &Plan,
        left: usize,
        at_least_one: bool,
    ) -> Self {
        let offsets = partition.log.offsets();
        let last_stable_offset = partition.last_stable_offset();
        let high_watermark = partition.high_watermark();
        let data = PartitionData {
            partition_index: wanted.partition,
            high_watermark,
            last_stable_offset,
            log_start_offset: offsets.log_start,
            aborted_transactions: plan.committed_only.then(Vec::new),
            records: Some(Bytes::new()),
            ..PartitionData::default()
        };
        let mut part = Self {
            data,
            cold: None,
            aborted_from: None,
            version: plan.version,
            is_from_bucket: false,
            let_go: 0,
        };
        let leads = partition.leads().is_some();
        let is_out = wanted.offset < offsets.log_start || wanted.offset > offsets.log_end;
        if is_out && !leads {
            // A copy may only not have it yet, or not any more. The leader knows, and clients ask it then.
            part.fail(ErrorCode::OFFSET_NOT_AVAILABLE);
            return part;
        }
        if part.diverges(partition, wanted) {
            return part;
        }
        if is_out {
            part.fail(ErrorCode::OFFSET_OUT_OF_RANGE);
            return part;
        }
        if plan.committed_only {
            part.aborted_from = Some((Arc::clone(partition), wanted.offset));
        }
        let upto = if plan.committed_only {
            last_stable_offset
        } else {
            high_watermark
        };
        let max_bytes = wanted.max_bytes.min(left);
        if wanted.offset >= upto || (max_bytes == 0 && !at_least_one) {
            return part;
        }
        match partition
            .log
            .read(wanted.offset, plan.limit(max_bytes), at_least_one, upto)
        {
            Ok(slice) => part.fill(slice.records),
            Err(ReadError::BelowLocal { .. }) => {
                // The daemon answers whole batches, at least one, whatever the limit.
                let cold = Cold {
                    partition: Arc::clone(partition),
                    offset: wanted.offset,
                    max_bytes,
                    upto,
                };
                part.cold = (at_least_one || max_bytes > 0).then_some(cold);
            }
            Err(error) => {
                if !matches!(error, ReadError::OutOfRange { .. }) {
                    tracing::error!(topic = partition.log.topic(), partition = wanted.partition, %error, "records cannot be read");
                }
                part.fail(error.error_code());
            }
        }
        part
    }

    /// Says where the client's log and ours part; true if they do, or if nobody knows now.
    fn diverges(&mut self, partition: &Partition, wanted: &Wanted) -> bool {
        match diverging(partition, wanted) {
            Ok(None) => return false,
            Ok(Some(diverging)) => self.data.diverging_epoch = diverging,
            Err(error_code) => self.fail(error_code),
        }
        true
    }

    pub fn len(&self) -> usize {
        self.held().max(self.let_go)
    }

    /// Bytes of records that are kept.
    pub fn held(&self) -> usize {
        self.data.records.as_ref().map_or(0, Bytes::len)
    }

    /// Forgets records that are read again when it is time to answer: who waits for more costs no more than who waits
    /// for anything.
    pub fn let_go(&mut self) {
        self.let_go = self.len();
        self.data.records = Some(Bytes::new());
    }

    pub fn is_let_go(&self) -> bool {
        self.let_go > 0
    }

    /// Records of the bucket: they are not kept for the sake of more, nor asked for twice.
    pub fn is_from_bucket(&self) -> bool {
        self.is_from_bucket && self.len() > 0
    }

    /// True when the client should hear of it at once.
    pub fn is_news(&self) -> bool {
        self.data.error_code.is_error()
            || self.data.diverging_epoch.epoch >= 0
            || self.data.preferred_read_replica >= 0
    }

    /// What is still to be read from the bucket.
    pub fn cold(&self) -> Option<&Cold> {
        self.cold
            .as_ref()
            .filter(|_| self.len() == 0 && !self.data.error_code.is_error())
    }

    /// What a session remembers of it.
    pub fn told(&self) -> Told {
        Told {
            high_watermark: self.data.high_watermark,
            last_stable_offset: self.data.last_stable_offset,
            log_start: self.data.log_start_offset,
            has_records: self.len() > 0,
            is_news: self.is_news(),
            is_error: self.data.error_code.is_error(),
        }
    }

    /// Limits what is read from the bucket to `most` bytes, and leaves it out where nothing is left.
    pub fn limit_cold(&mut self, most: usize, at_least_one: bool) {
        if most == 0 && !at_least_one {
            self.cold = None;
        }
        if let Some(cold) = &mut self.cold {
            cold.max_bytes = cold.max_bytes.min(most);
        }
    }

    /// Names a copy that the client should read from instead; such an answer has no records.
    pub fn send_to(&mut self, node: NodeId) {
        if !self.is_news() {
            self.data.preferred_read_replica = node.0;
            self.data.records = Some(Bytes::new());
            self.cold = None;
        }
    }

    pub fn fail(&mut self, error_code: ErrorCode) {
        self.data.error_code = error_code;
        self.data.records = Some(Bytes::new());
    }

    /// Fills in what came from the bucket, up to where the reader may see.
    pub fn fill_cold(&mut self, read: Records) {
        let Some(cold) = self.cold.take() else {
            return;
        };
        self.is_from_bucket = true;
        let upto = cold.upto;
        if read.bytes.is_empty() && read.next_offset > cold.offset {
            return self.go_on(&cold, read.next_offset);
        }
        let records = if read.next_offset > upto {
            below(read.bytes, upto)
        } else {
            read.bytes
        };
        let end = read.next_offset.min(upto);
        let committed_only = self.aborted_from.take();
        self.fill(records);
        let Some((partition, from)) = committed_only else {
            return;
        };
        let Some(aborted) = read.aborted else {
            tracing::error!(
                code = "WB-119",
                at = %partition.at,
                from,
                "nobody said which transactions of tiered data were aborted"
            );
            self.fail(ErrorCode::KAFKA_STORAGE_ERROR);
            return;
        };
        // One that ended before would hide what its producer committed later.
        let touching = aborted
            .iter()
            .filter(|txn| txn.last_offset >= from && txn.first_offset < end)
            .map(|txn| AbortedTransaction {
                producer_id: txn.producer_id,
                first_offset: txn.first_offset,
            });
        self.data.aborted_transactions = Some(touching.collect());
    }

    /// The bucket has nothing left from the offset to its end, since compaction was there: the local log goes on.
    fn go_on(&mut self, cold: &Cold, next: i64) {
        let log = &cold.partition.log;
        if next < log.offsets().local_log_start || next >= cold.upto {
            return;
        }
        match log.read(next, cold.max_bytes, true, cold.upto) {
            Ok(slice) => self.fill(slice.records),
            Err(error) => {
                tracing::error!(at = %cold.partition.at, %error, "records cannot be read");
                self.fail(error.error_code());
            }
        }
    }

    pub fn fill(&mut self, records: Bytes) {
        if self.version < ZSTD
            && Batches::new(records.clone())
                .flatten()
                .any(|b| b.header.codec() == Ok(Codec::Zstd))
        {
            self.fail(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
            return;
        }
        if let Some((partition, from)) = self.aborted_from.take() {
            self.name_aborted(&partition, from, &records);
        }
        self.data.records = Some(records);
    }

    /// Aborted transactions whose records are in the answer, so that the client leaves them out.
    fn name_aborted(&mut self, partition: &Partition, from: i64, records: &Bytes) {
        let Some(last) = Batches::new(records.clone()).flatten().last() else {
            return;
        };
        match partition.log.aborted(from, last.header.next_offset()) {
            Ok(aborted) => {
                let aborted = aborted.into_iter().map(|t| AbortedTransaction {
                    producer_id: t.producer_id,
                    first_offset: t.first_offset,
                });
                self.data.aborted_transactions = Some(aborted.collect());
            }
            Err(error) => {
                tracing::error!(topic = partition.log.topic(), partition = partition.at.partition, %error, "the transaction index cannot be read");
                self.fail(error.error_code());
            }
        }
    }
}

/// The whole batches below `upto`.
fn below(records: Bytes, upto: i64) -> Bytes {
    let visible = Batches::new(records.clone())
        .map_while(Result::ok)
        .take_while(|batch| batch.header.next_offset() <= upto);
    let length: usize = visible.map(|batch| batch.bytes.len()).sum();
    records.slice(..length)
}

/// Where the client's log and ours part, if they do (KIP-595's rule). An error where that lies in what is not known
/// before the bucket has told it.
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = partition.log.end_for_epoch(wanted.last_fetched_epoch);
    let parted = end.epoch < wanted.last_fetched_epoch || end.end_offset < wanted.offset;
    let known_from = partition.log.lineage_known_from();
    if parted && known_from.is_some_and(|first| wanted.last_fetched_epoch < first.epoch) {
        return Err(ErrorCode::OFFSET_NOT_AVAILABLE);
    }
    Ok(parted.then_some(EpochEndOffset {
        epoch: end.epoch,
        end_offset: end.end_offset,
    }))
}
