//! Uploads in parts that nobody will finish: what a death leaves in the bucket, where no listing of objects shows it.
//!
//! One is dead when its writer is fenced, or when it was begun more than a day ago by a clock that is believed: no
//! upload is tried for so long. What is dropped by mistake is begun anew by whoever missed it.

use std::collections::BTreeMap;

use super::Retention;
use crate::{
    format::{Key, Keys},
    store::StoreError,
};

/// Between two looks, and the age at which an upload is dead whoever began it. All tries of one take three hours.
pub(super) const DAY_MS: u64 = 86_400_000;

/// What is known when a listing is judged.
struct Judge {
    keys: Keys,
    /// Epochs of the shards that are ours.
    epochs: BTreeMap<u16, u64>,
    now_ms: Option<i64>,
}

impl Judge {
    fn is_dead(&self, key: &Key, begun_ms: Option<i64>) -> bool {
        let age_ms = self.now_ms.zip(begun_ms).map(|(now, begun)| now - begun);
        let is_old = age_ms.is_some_and(|age| age >= DAY_MS.cast_signed());
        match self.keys.parse_object(key) {
            Some(name) => {
                let ours = self.epochs.get(&name.shard());
                ours.is_some_and(|epoch| is_old || name.writer_epoch() < *epoch)
            }
            // Orphan tails have no owner: any daemon of the region may tidy up behind them.
            None => is_old && key.as_str().starts_with(&self.keys.orphans_prefix()),
        }
    }
}

impl Retention {
    /// A store that does not let us look is asked again another day: what is left costs money and harms nobody.
    pub(super) async fn drop_unfinished(&self) {
        match self.drop_dead().await {
            Ok(0) => {}
            Ok(dropped) => {
                tracing::info!(dropped, "uploads that nobody will finish were dropped");
            }
            Err(error) => {
                tracing::warn!(%error, "uploads that nobody will finish were not looked for");
            }
        }
    }

    async fn drop_dead(&self) -> Result<usize, StoreError> {
        let roots = self.committer.roots();
        let ours = roots.iter().filter(|root| self.owns(root));
        let judge = Judge {
            keys: self.keys.clone(),
            epochs: ours.map(|root| (root.shard, root.stamp.epoch)).collect(),
            now_ms: self.skew.believed_ms().await,
        };
        let is_dead = |key: &Key, begun_ms: Option<i64>| judge.is_dead(key, begun_ms);
        let mut dropped = 0;
        for prefix in [self.keys.data_prefix(), self.keys.orphans_prefix()] {
            dropped += self.store.drop_unfinished(&prefix, &is_dead).await?;
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::MergedName;

    const NOW_MS: i64 = 1_700_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    fn judge(now_ms: Option<i64>) -> Judge {
        Judge {
            keys: Keys::new("east"),
            epochs: [(3, 7)].into(),
            now_ms,
        }
    }

    fn merged(shard: u16, writer_epoch: u64) -> Key {
        Keys::new("east").merged(&MergedName {
            shard,
            writer_epoch,
            random: 9,
        })
    }

    #[test]
    fn the_fenced_and_the_old_are_dead() {
        let judge = judge(Some(NOW_MS));
        let young = Some(NOW_MS - HOUR_MS);
        assert!(judge.is_dead(&merged(3, 6), young));
        assert!(judge.is_dead(&merged(3, 6), None));
        assert!(!judge.is_dead(&merged(3, 7), young));
        assert!(!judge.is_dead(&merged(3, 7), None));
        assert!(judge.is_dead(&merged(3, 7), Some(NOW_MS - 25 * HOUR_MS)));
    }

    #[test]
    fn what_is_not_ours_or_not_known_stays() {
        let old = Some(NOW_MS - 25 * HOUR_MS);
        assert!(!judge(Some(NOW_MS)).is_dead(&merged(4, 1), old));
        // A clock in doubt ages nothing.
        assert!(!judge(None).is_dead(&merged(3, 7), old));
        let tail = Key::parse("v1/east/orphans/default/3/tail").unwrap();
        assert!(judge(Some(NOW_MS)).is_dead(&tail, old));
        assert!(!judge(Some(NOW_MS)).is_dead(&tail, Some(NOW_MS)));
        let elsewhere = Key::parse("v1/west/orphans/default/3/tail").unwrap();
        assert!(!judge(Some(NOW_MS)).is_dead(&elsewhere, old));
    }
}
