//! How well the bucket describes the fleet, for status and scrape.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};
use whimbrel_runtime::Clock;

use super::Head;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// As it was read or written last.
    head: Option<Summary>,
    /// This daemon holds the claim.
    is_writer: bool,
    /// When the bucket was last known to say what the fleet's view did.
    agreed_boot_ms: Option<u64>,
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Summary {
    epoch: u64,
    sequence: u64,
    documents: usize,
    newest: Option<(i64, u64, u32)>,
}

impl Progress {
    pub fn saw(&self, head: Option<&Head>, is_writer: bool) {
        let mut state = self.0.lock();
        if is_writer != state.is_writer {
            state.agreed_boot_ms = None;
        }
        state.is_writer = is_writer;
        state.head = head.map(|head| Summary {
            epoch: head.stamp.epoch,
            sequence: head.stamp.sequence,
            documents: head.documents.len(),
            newest: head
                .newest()
                .map(|kept| (kept.written_ms, kept.view_version, kept.length)),
        });
    }

    pub fn agreed(&self, clock: &Clock) {
        let mut state = self.0.lock();
        state.agreed_boot_ms = Some(clock.boot_ms());
        state.trouble = None;
    }

    /// True when it is another one than before.
    pub fn trouble(&self, trouble: Option<String>) -> bool {
        let mut state = self.0.lock();
        let is_new = state.trouble != trouble;
        state.trouble = trouble;
        is_new
    }

    /// Computed now, so that it rises while the writer stands still. `None` where this daemon is not the writer, or
    /// has not brought anything into the bucket yet.
    pub fn age_seconds(&self, clock: &Clock) -> Option<f64> {
        let agreed = self.0.lock().agreed_boot_ms?;
        let age_ms = clock.boot_ms().saturating_sub(agreed);
        Some(Duration::from_millis(age_ms).as_secs_f64())
    }

    pub fn json(&self, clock: &Clock) -> Value {
        let age_seconds = self.age_seconds(clock);
        let state = self.0.lock();
        let newest = state.head.and_then(|head| head.newest);
        json!({
            "writer": state.is_writer,
            "age_seconds": age_seconds,
            "epoch": state.head.map(|head| head.epoch),
            "sequence": state.head.map(|head| head.sequence),
            "documents": state.head.map_or(0, |head| head.documents),
            "written_ms": newest.map(|(ms, _, _)| ms),
            "view_version": newest.map(|(_, version, _)| version),
            "bytes": newest.map(|(_, _, bytes)| bytes),
            "trouble": state.trouble,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_age_goes_on_rising_and_ends_with_the_claim() {
        let (progress, clock) = (Progress::default(), Clock::manual());
        assert_eq!(progress.age_seconds(&clock), None);
        progress.saw(None, true);
        progress.agreed(&clock);
        clock.advance(Duration::from_secs(90));
        assert_eq!(progress.age_seconds(&clock), Some(90.0));
        progress.saw(None, true);
        assert_eq!(progress.age_seconds(&clock), Some(90.0));
        progress.saw(None, false);
        assert_eq!(progress.age_seconds(&clock), None);
    }
}
