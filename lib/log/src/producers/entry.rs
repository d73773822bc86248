//! What is known of one producer, and Kafka's rules for its next batch.

use std::cmp::Ordering;

use whimbrel_wire::batch::BatchHeader;
use whimbrel_wire::control::Marker;

use crate::error::AppendError;

/// Batches remembered per producer: clients keep at most five requests in flight.
pub(crate) const RECENT_BATCHES: usize = 5;

/// A batch a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMark {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
    pub timestamp_ms: i64,
}

/// What a log knows of a producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    pub producer_id: i64,
    /// -1 before the first batch.
    pub producer_epoch: i16,
    /// -1 before the first marker.
    pub coordinator_epoch: i32,
    pub last_timestamp_ms: i64,
    pub current_txn_first_offset: Option<i64>,
    /// The newest at most five of the current epoch, oldest first.
    pub batches: Vec<BatchMark>,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already.
    Duplicate(BatchMark),
    /// Its sequences begin above what comes next; wrong, unless a lossy move explains it. `unknown`:
    /// nothing of this producer is in the log.
    Gap {
        expected: i32,
        unknown: bool,
    },
}

impl Verdict {
    /// Kafka takes any first sequence of a producer it does not know.
    pub(crate) fn new_producer(header: &BatchHeader) -> Verdict {
        if header.base_sequence <= 0 {
            Verdict::Append
        } else {
            Verdict::Gap {
                expected: 0,
                unknown: true,
            }
        }
    }
}

/// The sequence after `sequence`: 0 follows `i32::MAX`.
pub(crate) fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

/// How far `sequence` lies above `from`, on the circle of 2^31 sequences.
pub(crate) fn distance(from: i32, sequence: i32) -> u32 {
    sequence.wrapping_sub(from).cast_unsigned() & 0x7fff_ffff
}

/// Distances from here on are taken to be steps back.
const HALF_CIRCLE: u32 = 1 << 30;

impl ProducerState {
    pub(crate) fn new(producer_id: i64) -> Self {
        ProducerState {
            producer_id,
            producer_epoch: -1,
            coordinator_epoch: -1,
            last_timestamp_ms: -1,
            current_txn_first_offset: None,
            batches: Vec::new(),
        }
    }

    /// Offset of the newest record of the producer's current epoch.
    pub fn last_offset(&self) -> Option<i64> {
        self.batches.last().map(|batch| batch.last_offset)
    }

    /// -1 before the first batch of the epoch.
    pub fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    pub(super) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        let found = header.base_sequence;
        let order = header.producer_epoch.cmp(&self.producer_epoch);
        if order == Ordering::Less {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: self.producer_id,
                current: self.producer_epoch,
                found: header.producer_epoch,
            });
        }
        if found < 0 {
            // A coordinator's batch: it has no sequence, and nobody sends it again by himself.
            return Ok(Verdict::Append);
        }
        if order == Ordering::Equal {
            let same = |b: &&BatchMark| {
                b.first_sequence == found && b.last_sequence == header.last_sequence()
            };
            if let Some(batch) = self.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(*batch));
            }
        }
        if let Some(open_since) = self.current_txn_first_offset
            && !header.is_transactional()
        {
            return Err(AppendError::InvalidTxnState {
                producer_id: self.producer_id,
                open_since,
            });
        }
        if order == Ordering::Greater {
            // Only markers are known of the producer: as good as a new one.
            let unknown = self.producer_epoch < 0;
            return Ok(if found == 0 {
                Verdict::Append
            } else {
                Verdict::Gap {
                    expected: 0,
                    unknown,
                }
            });
        }
        if self.batches.is_empty() {
            // The newest entry of this epoch is a marker; Kafka then takes any sequence.
            return Ok(Verdict::Append);
        }
        let expected = next_sequence(self.last_sequence());
        match distance(expected, found) {
            0 => Ok(Verdict::Append),
            1..HALF_CIRCLE => Ok(Verdict::Gap {
                expected,
                unknown: false,
            }),
            _ => Err(self.out_of_order(expected, found)),
        }
    }

    pub(super) fn check_marker(
        &self,
        header: &BatchHeader,
        marker: &Marker,
    ) -> Result<(), AppendError> {
        if header.producer_epoch < self.producer_epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: self.producer_id,
                current: self.producer_epoch,
                found: header.producer_epoch,
            });
        }
        if marker.coordinator_epoch < self.coordinator_epoch {
            return Err(AppendError::TransactionCoordinatorFenced {
                producer_id: self.producer_id,
                current: self.coordinator_epoch,
                found: marker.coordinator_epoch,
            });
        }
        Ok(())
    }

    fn out_of_order(&self, expected: i32, found: i32) -> AppendError {
        AppendError::OutOfOrderSequence {
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            expected,
            found,
        }
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if epoch != self.producer_epoch {
            self.producer_epoch = epoch;
            self.batches.clear();
        }
    }

    /// True if the batch begins a transaction.
    pub(super) fn note(&mut self, header: &BatchHeader) -> bool {
        self.enter_epoch(header.producer_epoch);
        if self.batches.len() >= RECENT_BATCHES {
            self.batches.remove(0);
        }
        self.batches.push(BatchMark {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            timestamp_ms: header.max_timestamp,
        });
        self.last_timestamp_ms = header.max_timestamp;
        if header.is_transactional() && self.current_txn_first_offset.is_none() {
            self.current_txn_first_offset = Some(header.base_offset);
            return true;
        }
        false
    }

    /// Returns the first offset of the transaction the marker ends.
    pub(super) fn note_marker(&mut self, header: &BatchHeader, marker: &Marker) -> Option<i64> {
        self.enter_epoch(header.producer_epoch);
        self.coordinator_epoch = marker.coordinator_epoch;
        self.last_timestamp_ms = header.max_timestamp;
        self.current_txn_first_offset.take()
    }
}
