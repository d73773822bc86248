//! Holes in the sequences of idempotent producers, as a lossy move leaves them.
//!
//! After such a move the newest batches of a producer are gone here, while the client believes them
//! acknowledged and goes on above them. A plain OUT_OF_ORDER_SEQUENCE at the head of the line is
//! fatal in librdkafka. So a jump is first refused with a retriable error, which makes librdkafka
//! drain its requests and send all again, and Java send its lowest batch in flight again; it is
//! taken when a batch arrives that does not begin above the lowest one refused: nothing the client
//! still holds can be missing below it then.
//!
//! Once per producer: the batch that is taken lies above the promotion offset, so that the next
//! hole is an ordinary one. Nothing is stored; after a restart the jump is refused once more, and
//! log and promotion offset lead to the same end.

use std::collections::HashMap;

use whimbrel_wire::batch::BatchHeader;

use crate::error::AppendError;
use crate::producers::entry::distance;

/// Producers with a refused jump that are remembered. One that is forgotten is refused once more.
const REMEMBERED: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Refused {
    epoch: i16,
    lowest: i32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Jumps {
    refused: HashMap<i64, Refused>,
}

impl Jumps {
    /// Judges a batch whose sequences begin above `expected`. `newest` is the offset of the newest
    /// record of the producer's in this log, -1 without one.
    pub(super) fn judge(
        &mut self,
        header: &BatchHeader,
        expected: i32,
        unknown: bool,
        newest: i64,
        lossy_promotion: Option<i64>,
    ) -> Result<(), AppendError> {
        let found = header.base_sequence;
        let id = header.producer_id;
        if lossy_promotion.is_none_or(|promotion| newest >= promotion) {
            if unknown {
                return Ok(());
            }
            return Err(AppendError::OutOfOrderSequence {
                producer_id: id,
                producer_epoch: header.producer_epoch,
                expected,
                found,
            });
        }
        match self
            .refused
            .get_mut(&id)
            .filter(|refused| refused.epoch == header.producer_epoch)
        {
            Some(refused) if distance(expected, found) <= distance(expected, refused.lowest) => {
                return Ok(());
            }
            Some(_) => {}
            None => {
                if self.refused.len() >= REMEMBERED {
                    self.refused.clear();
                }
                self.refused.insert(
                    id,
                    Refused {
                        epoch: header.producer_epoch,
                        lowest: found,
                    },
                );
            }
        }
        Err(AppendError::JumpRefused {
            producer_id: id,
            expected,
            found,
        })
    }

    /// A batch of this producer is in the log: what was refused before is settled.
    pub(super) fn forget(&mut self, producer_id: i64) {
        self.refused.remove(&producer_id);
    }
}
