//! The lineage of a log: which leader epoch owns which offsets.

use std::io;

use crate::checkpoint::encode_epochs;
use crate::epochs::{EpochEnd, EpochStart, Epochs};
use crate::error::LogError;
use crate::log::Log;
use crate::naming::EPOCHS;
use crate::replace::{Durability, replace};

/// What a durable point says of `leader-epoch-checkpoint` with these epochs.
pub(crate) fn check_of(epochs: &Epochs) -> u32 {
    crc32c::crc32c(encode_epochs(epochs.entries()).as_bytes())
}

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

    /// The first epoch that is known, where older ones own records that are not local: their lineage was lost, or
    /// what is stored of it could not be proved.
    pub fn lineage_known_from(&self) -> Option<EpochStart> {
        let state = self.state.read();
        if state.local_log_start() <= state.log_start {
            return None;
        }
        let first = state.epochs.entries().first().copied();
        first.filter(|first| first.start_offset > state.log_start)
    }

    /// Takes over what `told` says of the epochs below the first known one, if it goes on where the log does;
    /// durable on return. Whether something was learnt.
    pub fn learn_lineage(&self, told: &[EpochStart]) -> Result<bool, LogError> {
        let _writer = self.writer.lock();
        self.check_good()?;
        let Some(first) = self.lineage_known_from() else {
            return Ok(false);
        };
        let mut epochs = Epochs::new(told.iter().copied());
        epochs.truncate_from_end(first.start_offset.saturating_add(1));
        if epochs.at(first.start_offset) != Some(first.epoch) {
            return Ok(false);
        }
        let log_start = {
            let state = self.state.read();
            let own = state.epochs.entries().iter();
            for own in own.skip(1) {
                epochs.assign(own.epoch, own.start_offset);
            }
            state.log_start
        };
        epochs.truncate_from_start(log_start);
        self.store_epochs(&epochs, Durability::Now)
            .map_err(|source| LogError::io(&self.dir().join(EPOCHS), source))?;
        let mut state = self.state.write();
        state.epochs = epochs;
        drop(state);
        self.store_present_point()
            .map_err(|source| LogError::io(self.dir(), source))?;
        Ok(true)
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
