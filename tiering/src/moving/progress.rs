//! How far a move is, for whoever asks this daemon.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// Bytes that were brought over, or found to be there already. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    objects: u64,
    bytes: u64,
    /// Of those, what an earlier attempt had brought.
    found_bytes: u64,
}

impl Tally {
    pub(super) fn copied(&self, bytes: u64) {
        let mut counts = self.0.lock();
        counts.objects += 1;
        counts.bytes = counts.bytes.saturating_add(bytes);
    }

    pub(super) fn found(&self, bytes: u64) {
        self.copied(bytes);
        let mut counts = self.0.lock();
        counts.found_bytes = counts.found_bytes.saturating_add(bytes);
    }

    pub fn json(&self) -> Value {
        let counts = *self.0.lock();
        json!({
            "objects": counts.objects, "bytes": counts.bytes, "found_bytes": counts.found_bytes,
        })
    }
}

/// What keeps a move from going on, if something does; of the latest round.
pub type Trouble = Arc<Mutex<Option<String>>>;
