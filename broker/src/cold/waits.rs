//! Consumers that wait for cold data, and for what: to them an empty answer looks as if there were nothing
//! new, so somebody else has to be told.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;
use whimbrel_fleet::TopicPartition;
use whimbrel_runtime::Clock;

/// A read that is not asked for again within this is nobody's any more.
const GONE_NS: u64 = 60_000_000_000;
/// Shorter waits are the ordinary way of a block from the bucket.
const LONG_NS: u64 = 5_000_000_000;

#[derive(Debug)]
pub struct Waits {
    clock: Clock,
    waits: Mutex<BTreeMap<TopicPartition, Wait>>,
}

#[derive(Debug)]
struct Wait {
    offset: i64,
    since_ns: u64,
    asked_ns: u64,
    asked: u64,
    reason: String,
    told: bool,
}

impl Wait {
    fn new(offset: i64, now_ns: u64) -> Self {
        Self {
            offset,
            since_ns: now_ns,
            asked_ns: now_ns,
            asked: 0,
            reason: "it is being fetched".to_owned(),
            told: false,
        }
    }

    fn is_gone(&self, now_ns: u64) -> bool {
        self.asked_ns.saturating_add(GONE_NS) <= now_ns
    }
}

/// One partition's wait, as of now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Waiting {
    pub offset: i64,
    pub seconds: f64,
    /// How often it was asked for in vain.
    pub asked: u64,
    pub reason: String,
}

impl Waits {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            waits: Mutex::default(),
        }
    }

    /// Nothing came for a consumer at `offset`.
    pub fn vain(&self, at: TopicPartition, offset: i64) {
        let now_ns = self.clock.boot_ns();
        let mut waits = self.waits.lock();
        waits.retain(|_, wait| !wait.is_gone(now_ns));
        let wait = waits.entry(at).or_insert_with(|| Wait::new(offset, now_ns));
        (wait.asked_ns, wait.offset) = (now_ns, offset);
        wait.asked += 1;
        if !wait.told && wait.since_ns.saturating_add(LONG_NS) <= now_ns {
            wait.told = true;
            tracing::warn!(code = "WB-115", %at, offset, reason = wait.reason, "a consumer waits for tiered data");
        }
    }

    /// Why nothing comes, for whoever asks.
    pub fn blame(&self, at: TopicPartition, offset: i64, reason: String) {
        let now_ns = self.clock.boot_ns();
        let mut waits = self.waits.lock();
        let wait = waits.entry(at).or_insert_with(|| Wait::new(offset, now_ns));
        wait.reason = reason;
    }

    /// It was served, or told that there is nothing.
    pub fn over(&self, at: TopicPartition) {
        let wait = self.waits.lock().remove(&at);
        if let Some(wait) = wait.filter(|w| w.told) {
            let seconds = self.clock.boot_ns().saturating_sub(wait.since_ns) / 1_000_000_000;
            tracing::info!(%at, offset = wait.offset, seconds, "tiered data came");
        }
    }

    pub fn all(&self) -> BTreeMap<TopicPartition, Waiting> {
        let now_ns = self.clock.boot_ns();
        let waits = self.waits.lock();
        waits
            .iter()
            .filter(|(_, wait)| wait.asked > 0 && !wait.is_gone(now_ns))
            .map(|(at, wait)| {
                let waited = now_ns.saturating_sub(wait.since_ns);
                let waiting = Waiting {
                    offset: wait.offset,
                    seconds: std::time::Duration::from_nanos(waited).as_secs_f64(),
                    asked: wait.asked,
                    reason: wait.reason.clone(),
                };
                (*at, waiting)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_wait_grows_while_it_is_asked_for_and_ends_when_it_is_served_or_forgotten() {
        let clock = Clock::manual();
        let waits = Waits::new(clock.clone());
        let at = TopicPartition::new(Uuid::from_u128(1), 0);
        waits.vain(at, 7);
        clock.advance(Duration::from_secs(9));
        waits.blame(at, 7, "503".to_owned());
        waits.vain(at, 7);
        clock.advance(Duration::from_secs(1));
        let found = waits.all().remove(&at).unwrap();
        let shown = (found.offset, found.seconds, found.asked, found.reason);
        assert_eq!(shown, (7, 10.0, 2, "503".to_owned()));
        waits.over(at);
        assert!(waits.all().is_empty());
        waits.vain(at, 7);
        clock.advance(Duration::from_secs(61));
        assert!(waits.all().is_empty(), "its consumer has gone");
    }
}
