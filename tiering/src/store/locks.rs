//! Deletions that Object Lock blocks: remembered with the instant at which it is worth asking again, so that
//! they are told in the status and are not asked for in a loop.
//!
//! Pure: instants come in, of the wall clock for what a lock says, of the boot clock for our own waiting.

use std::collections::BTreeMap;

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

use crate::format::Key;

/// A lock's end is by the store's clock, and a wall clock may be off: never sooner, never later than this.
const SOONEST_MS: u64 = 60_000;
const LATEST_MS: u64 = 86_400_000;
/// Nobody tells when a legal hold is lifted.
const HOLD_MS: u64 = 3_600_000;
/// What nobody asked for again is no business of ours any more.
const FORGOTTEN_MS: u64 = 3_600_000;
/// More than these are asked for in vain now and then.
const MOST: usize = 10_000;

/// As people read it.
pub fn utc(ms: i64) -> String {
    let at = DateTime::from_secs(ms.div_euclid(1_000));
    at.fmt(DateTimeFormat::DateTime)
        .unwrap_or_else(|_| format!("{ms} ms after 1970"))
}

#[derive(Debug, Default)]
pub struct Locks {
    held: BTreeMap<Key, Held>,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    /// `None`: a legal hold.
    until_ms: Option<i64>,
    again_ms: u64,
}

impl Locks {
    /// Until when it is locked, while it is not worth asking: `Some(None)` for a legal hold.
    pub fn waits(&self, key: &Key, boot_ms: u64) -> Option<Option<i64>> {
        let held = self.held.get(key)?;
        (boot_ms < held.again_ms).then_some(held.until_ms)
    }

    /// The store said that it is locked.
    pub fn told(&mut self, key: &Key, until_ms: Option<i64>, wall_ms: i64, boot_ms: u64) {
        if self.held.len() >= MOST && !self.held.contains_key(key) {
            return;
        }
        let wait = until_ms.map_or(HOLD_MS, |until_ms| {
            let left = u64::try_from(until_ms.saturating_sub(wall_ms)).unwrap_or(0);
            left.clamp(SOONEST_MS, LATEST_MS)
        });
        let again_ms = boot_ms.saturating_add(wait);
        self.held.insert(key.clone(), Held { until_ms, again_ms });
    }

    pub fn gone(&mut self, key: &Key) {
        self.held.remove(key);
    }

    /// What is blocked now, and until when.
    pub fn list(&mut self, boot_ms: u64) -> Vec<(Key, Option<i64>)> {
        self.held
            .retain(|_, held| boot_ms < held.again_ms.saturating_add(FORGOTTEN_MS));
        let all = self.held.iter();
        all.map(|(key, held)| (key.clone(), held.until_ms))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const DAY: i64 = 86_400_000;

    fn key() -> Key {
        Key::parse("v1/east/data/00/0/a").unwrap()
    }

    #[test]
    fn a_time_is_for_people() {
        assert_eq!(utc(1_800_000_000_999), "2027-01-15T08:00:00Z");
        assert!(!utc(i64::MAX).is_empty());
    }

    #[test]
    fn a_lock_is_asked_about_when_it_ends_and_at_least_daily() {
        let mut locks = Locks::default();
        assert_eq!(locks.waits(&key(), 0), None);
        locks.told(&key(), Some(2 * DAY), 0, 0);
        assert_eq!(locks.waits(&key(), 23 * HOUR), Some(Some(2 * DAY)));
        assert_eq!(locks.waits(&key(), 24 * HOUR), None);
        locks.told(&key(), Some(2 * DAY), 2 * DAY - 1, 48 * HOUR);
        assert!(locks.waits(&key(), 48 * HOUR + 59_999).is_some());
        assert!(locks.waits(&key(), 48 * HOUR + 60_000).is_none());
        locks.gone(&key());
        assert!(locks.list(0).is_empty());
    }

    #[test]
    fn a_clock_a_year_off_asks_neither_never_nor_at_once() {
        let mut locks = Locks::default();
        for wall_ms in [-365 * DAY, 365 * DAY] {
            locks.told(&key(), Some(DAY), wall_ms, 0);
            assert!(locks.waits(&key(), SOONEST_MS - 1).is_some());
            assert!(locks.waits(&key(), LATEST_MS).is_none());
        }
    }

    #[test]
    fn a_hold_is_asked_about_every_hour_and_forgotten_when_nobody_does() {
        let mut locks = Locks::default();
        locks.told(&key(), None, 0, 0);
        assert_eq!(locks.waits(&key(), HOUR - 1), Some(None));
        assert_eq!(locks.waits(&key(), HOUR), None);
        assert_eq!(locks.list(2 * HOUR - 1).len(), 1);
        assert!(locks.list(2 * HOUR).is_empty());
    }
}
