//! The lineage of a log: which leader epoch owns which offsets.

use std::io;

use crate::checkpoint::encode_epochs;
use crate::epochs::{EpochEnd, EpochStart, Epochs};
use crate::error::LogError;
use crate::log::Log;
use crate::naming::EPOCHS;
use crate::replace::{Durability, replace};

impl Log {
    /// The leader epochs and where each begins, oldest first.
    pub fn lineage(&self) -> Vec<EpochStart> {
        self.state.read().epochs.entries().to_vec()
    }

    /// The answer to OffsetForLeaderEpoch: the largest epoch not above `epoch`, and its end.
    pub fn end_for_epoch(&self, epoch: i32) -> EpochEnd {
        let state = self.state.read();
        state.epochs.end_for(epoch, state.log_end)
    }

    /// Notes that `epoch` begins at the log end; durable on return. A leader calls this before its first
    /// answer. Calling it again for the newest epoch changes nothing.
    pub fn begin_epoch(&self, epoch: i32) -> Result<(), LogError> {
        self.begin(epoch, Durability::Now)
    }

    /// As [`Self::begin_epoch`]; the caller syncs. See `Disk::begin_epochs`.
    pub(crate) fn begin(&self, epoch: i32, durability: Durability) -> Result<(), LogError> {
        // Keeps appends of the epoch before away.
        let _writer = self.writer.lock();
        self.check_good()?;
        let mut epochs = {
            let state = self.state.read();
            let current = state.epochs.latest().map_or(-1, |latest| latest.epoch);
            if epoch < current || epoch < 0 {
                return Err(LogError::StaleLeaderEpoch {
                    current,
                    found: epoch,
                });
            }
            if epoch == current {
                return Ok(());
            }
            state.epochs.clone()
        };
        let log_end = self.state.read().log_end;
        epochs.assign(epoch, log_end);
        self.store_epochs(&epochs, durability)
            .map_err(|source| LogError::io(&self.dir().join(EPOCHS), source))?;
        self.state.write().epochs = epochs;
        Ok(())
    }

    /// Writes `leader-epoch-checkpoint`.
    pub(crate) fn store_epochs(&self, epochs: &Epochs, durability: Durability) -> io::Result<()> {
        let text = encode_epochs(epochs.entries());
        let stored = replace(&self.dir().join(EPOCHS), text.as_bytes(), durability);
        self.shared.note(stored)?;
        self.state.write().epochs_check = crc32c::crc32c(text.as_bytes());
        if durability == Durability::NextSync {
            self.shared.note_names();
        }
        Ok(())
    }
}
