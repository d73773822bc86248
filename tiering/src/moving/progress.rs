//! How far a move is, for whoever asks this daemon.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

/// Bytes that were brought over, or found to be there already. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Clone, Debug, Default)]
struct Counts {
    objects: u64,
    bytes: u64,
    /// Of those, what an earlier attempt had brought.
    found_bytes: u64,
    /// Of those, what the store copied by itself.
    inside_bytes: u64,
    /// Why the bytes of all others come through here.
    streams: Option<String>,
}

impl Tally {
    /// The store does not copy by itself, and is not asked again.
    pub(super) fn streams(&self, why: &str) {
        let mut counts = self.0.lock();
        if counts.streams.is_none() {
            tracing::info!(why, "objects are moved through this daemon");
            counts.streams = Some(why.to_owned());
        }
    }

    pub(super) fn streams_all(&self) -> bool {
        self.0.lock().streams.is_some()
    }

    pub(super) fn copied_inside(&self, bytes: u64) {
        self.copied(bytes);
        let mut counts = self.0.lock();
        counts.inside_bytes = counts.inside_bytes.saturating_add(bytes);
    }

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
        let counts = self.0.lock().clone();
        json!({
            "objects": counts.objects, "bytes": counts.bytes, "found_bytes": counts.found_bytes,
            "inside_bytes": counts.inside_bytes, "streams": counts.streams,
        })
    }
}

/// What keeps a move from going on, if something does; of the latest round.
pub type Trouble = Arc<Mutex<Option<String>>>;
