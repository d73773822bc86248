//! Since when a shard's holds were not heard of, by the owner's own clock.

use std::{collections::BTreeMap, time::Duration};

use uuid::Uuid;

use crate::root::Hold;

/// When each hold was taken or renewed last. A new owner begins without, and counts from the first look.
#[derive(Debug, Default)]
pub(super) struct Heard(BTreeMap<Uuid, u64>);

impl Heard {
    pub(super) fn hear(&mut self, nonce: Uuid, now_ms: u64) {
        self.0.insert(nonce, now_ms);
    }

    /// Those of `holds` that were silent for so long. What does not stand is forgotten.
    pub(super) fn silent(&mut self, holds: &[Hold], now_ms: u64, patience: Duration) -> Vec<Uuid> {
        self.0
            .retain(|nonce, _| holds.iter().any(|hold| hold.nonce == *nonce));
        let mut silent = Vec::new();
        for hold in holds {
            let heard_ms = *self.0.entry(hold.nonce).or_insert(now_ms);
            if u128::from(now_ms.saturating_sub(heard_ms)) >= patience.as_millis() {
                silent.push(hold.nonce);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(nonce: u128) -> Hold {
        Hold {
            region: "west".to_owned(),
            incarnation: Uuid::nil(),
            nonce: Uuid::from_u128(nonce),
            since_ms: 0,
            before: 0,
        }
    }

    #[test]
    fn a_hold_is_silent_so_long_after_it_was_heard_of_or_found() {
        let (a, b) = (hold(1), hold(2));
        let patience = Duration::from_millis(100);
        let mut heard = Heard::default();
        heard.hear(a.nonce, 1_000);
        let both = [a.clone(), b.clone()];
        // The other one was found in the root of an earlier owner.
        assert!(heard.silent(&both, 1_050, patience).is_empty());
        assert_eq!(heard.silent(&both, 1_100, patience), [a.nonce]);
        heard.hear(a.nonce, 1_120);
        assert_eq!(heard.silent(&both, 1_150, patience), [b.nonce]);
        assert_eq!(heard.silent(&both, 1_220, patience), [a.nonce, b.nonce]);
        assert!(heard.silent(&[], 9_000, patience).is_empty());
        assert!(heard.0.is_empty());
    }
}
