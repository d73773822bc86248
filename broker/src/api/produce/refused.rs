//! What a client is told of a batch that was not appended (KIP-467): code, words, and the records to blame.

use std::{borrow::Cow, ops::RangeInclusive};

use bytes::Bytes;
use whimbrel_wire::{
    Batch, BatchError, BatchHeader, Codec, ErrorCode,
    batch::ProduceRules,
    codec::Limits,
    messages::produce::{BatchIndexAndErrorMessage, PartitionProduceResponse},
    record::{RecordError, records},
};

use crate::broker::Broker;

/// Most records that one answer blames one by one, in all its partitions: a small batch may open to many.
const MOST_BLAMED: usize = 1_000;

/// One of them, and the words on it.
const BLAME: usize = size_of::<BatchIndexAndErrorMessage>() + 96;

/// Why a batch was not appended.
#[derive(Debug)]
pub struct Refusal {
    pub code: ErrorCode,
    /// What the code does not say.
    why: Option<Cow<'static, str>>,
    /// Places in the batch of records that are to blame, and why, where it is not the batch itself.
    blamed: Vec<(i32, Cow<'static, str>)>,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            why: None,
            blamed: Vec::new(),
        }
    }
}

impl Refusal {
    pub fn because(code: ErrorCode, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            why: Some(why.into()),
            ..code.into()
        }
    }

    /// Blames no record by itself where others of the request are blamed as often as may be: `blamed` of them.
    pub fn within(mut self, blamed: &mut usize) -> Self {
        if blamed.saturating_add(self.blamed.len()) > MOST_BLAMED {
            self.blamed = Vec::new();
        }
        *blamed += self.blamed.len();
        self
    }

    /// What the records that are blamed take, here and in the answer.
    pub fn blame(&self) -> usize {
        self.blamed.len() * 2 * BLAME
    }

    pub fn answer(self, index: i32) -> PartitionProduceResponse {
        let blame = |(batch_index, why): (i32, Cow<'static, str>)| BatchIndexAndErrorMessage {
            batch_index,
            batch_index_error_message: Some(why.into_owned()),
        };
        PartitionProduceResponse {
            index,
            error_code: self.code,
            base_offset: -1,
            error_message: self.why.map(Cow::into_owned),
            record_errors: self.blamed.into_iter().map(blame).collect(),
            ..PartitionProduceResponse::default()
        }
    }
}

/// A batch that does not keep to the rules. Which of its records have a wrong timestamp is found by opening it.
pub async fn unruly(
    broker: &Broker,
    error: BatchError,
    bytes: &Bytes,
    rules: &ProduceRules,
) -> Refusal {
    let mut refusal = Refusal::because(error.error_code(), error.to_string());
    if matches!(error, BatchError::BadTimestamp { .. })
        && let Ok(header) = BatchHeader::parse(bytes)
    {
        let batch = Batch {
            header,
            bytes: bytes.clone(),
        };
        let allowed = rules.timestamps_ms.clone();
        refusal.blamed = opened(broker, &batch, || untimely(&batch, &allowed)).await;
    }
    refusal
}

/// A compacted topic takes no record without a key; only an opened batch tells.
pub async fn all_keyed(broker: &Broker, header: BatchHeader, bytes: Bytes) -> Result<(), Refusal> {
    let batch = Batch { header, bytes };
    opened(broker, &batch, || check_keys(&batch)).await
}

async fn opened<T>(broker: &Broker, batch: &Batch, work: impl FnOnce() -> T) -> T {
    if batch.header.codec().is_ok_and(|codec| codec == Codec::None) {
        work()
    } else {
        broker.open(work).await
    }
}

fn unreadable(error: &RecordError) -> Refusal {
    Refusal::because(error.error_code(), error.to_string())
}

/// Nobody where the records cannot be read: the batch's own bounds were what was refused.
fn untimely(batch: &Batch, allowed: &RangeInclusive<i64>) -> Vec<(i32, Cow<'static, str>)> {
    let Ok(all) = records(batch, Limits::default()) else {
        return Vec::new();
    };
    let wrong = (0..).zip(all).filter_map(|(at, record)| {
        let timestamp_ms = record.ok()?.timestamp_ms;
        let right = timestamp_ms == -1 || allowed.contains(&timestamp_ms);
        let (from, to) = (allowed.start(), allowed.end());
        (!right).then(|| {
            let why = format!("timestamp {timestamp_ms} is not from {from} to {to}");
            (at, why.into())
        })
    });
    wrong.take(MOST_BLAMED).collect()
}

/// On a compacted topic a record without a key could never be compacted away.
fn check_keys(batch: &Batch) -> Result<(), Refusal> {
    let mut blamed = Vec::new();
    for (at, record) in (0..).zip(records(batch, Limits::default()).map_err(|e| unreadable(&e))?) {
        let keyless = record.map_err(|e| unreadable(&e))?.key.is_none();
        if keyless && blamed.len() < MOST_BLAMED {
            blamed.push((at, "a compacted topic takes no record without a key".into()));
        }
    }
    if blamed.is_empty() {
        return Ok(());
    }
    let why = "records without a key were sent to a compacted topic";
    Err(Refusal {
        blamed,
        ..Refusal::because(ErrorCode::INVALID_RECORD, why)
    })
}
