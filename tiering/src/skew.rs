//! May the wall clock be believed? Retention by time deletes, so a clock that is far off would delete
//! everything or keep it for ever.
//!
//! Two witnesses: the store's own time of a root that we wrote, beside the time that we wrote into it; and
//! CLOCK_BOOTTIME, which does not jump. While either disagrees, nothing is deleted because of its age.

use std::sync::Arc;

use parking_lot::Mutex;
use whimbrel_runtime::Clock;

use crate::{committer::Committer, format::Keys, store::Store};

/// No retention is so short that an hour matters, no clock that is kept is off by one.
const TOLERATED_MS: i64 = 3_600_000;

/// Why the clock is doubted, for the status; `None` while it is believed.
pub type Doubt = Arc<Mutex<Option<String>>>;

#[derive(Clone, Debug)]
pub struct Skew {
    store: Arc<dyn Store>,
    keys: Keys,
    committer: Committer,
    clock: Clock,
    /// Wall and boot clock at the start.
    begun: (i64, u64),
    doubt: Doubt,
}

impl Skew {
    pub fn new(
        store: Arc<dyn Store>,
        keys: Keys,
        committer: Committer,
        clock: Clock,
        doubt: Doubt,
    ) -> Self {
        Self {
            store,
            keys,
            committer,
            begun: (clock.wall_ms(), clock.boot_ms()),
            clock,
            doubt,
        }
    }

    /// The wall clock, where nothing speaks against it. Said once when that changes.
    pub async fn believed_ms(&self) -> Option<i64> {
        let now = (self.clock.wall_ms(), self.clock.boot_ms());
        let found = match jumped(self.begun, now) {
            Some(reason) => Some(reason),
            None => self.store_differs().await,
        };
        let mut doubt = self.doubt.lock();
        if *doubt != found {
            match &found {
                Some(reason) => {
                    tracing::error!(code = "WB-319", reason, "nothing is deleted by its age")
                }
                None => tracing::info!("the clock is believed again"),
            }
            doubt.clone_from(&found);
        }
        found.is_none().then_some(now.0)
    }

    /// Whether the store dates a root of ours otherwise than we did when we wrote it.
    async fn store_differs(&self) -> Option<String> {
        let root = self
            .committer
            .roots()
            .into_iter()
            .max_by_key(|r| r.written_ms)?;
        // A store that does not answer or tells no time is no witness; nothing is deleted without it either.
        let meta = self.store.head(&self.keys.root(root.shard)).await.ok()?;
        let off = root.written_ms.saturating_sub(meta.modified_ms?);
        (off.abs() > TOLERATED_MS).then(|| {
            format!(
                "this machine's clock is {} the store's",
                ahead_or_behind(off)
            )
        })
    }
}

/// Whether the wall clock went another way than the clock that counts from the start of the machine.
fn jumped(begun: (i64, u64), now: (i64, u64)) -> Option<String> {
    let wall = now.0.saturating_sub(begun.0);
    let boot = i64::try_from(now.1.saturating_sub(begun.1)).unwrap_or(i64::MAX);
    let off = wall.saturating_sub(boot);
    (off.abs() > TOLERATED_MS).then(|| {
        format!(
            "this machine's clock has jumped; it is {} where it was",
            ahead_or_behind(off)
        )
    })
}

fn ahead_or_behind(off_ms: i64) -> String {
    let hours = off_ms.unsigned_abs() / 3_600_000;
    let word = if off_ms < 0 { "behind" } else { "ahead of" };
    format!("{hours} h {word}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_told_from_time_that_passed() {
        let year_ms = 365 * 86_400_000;
        assert_eq!(jumped((0, 0), (year_ms, year_ms.unsigned_abs())), None);
        assert!(
            jumped((0, 0), (year_ms, 1_000))
                .unwrap()
                .contains("8759 h ahead")
        );
        assert!(
            jumped((year_ms, 0), (1_000, 1_000))
                .unwrap()
                .contains("behind")
        );
    }
}
