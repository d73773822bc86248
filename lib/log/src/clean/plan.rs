//! What of a log is to be cleaned, and how its segments are put together. Pure.

use std::ops::Range;

use crate::config::LogConfig;

/// A closed segment, as far as planning needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) base: i64,
    /// Exclusive.
    pub(crate) end: i64,
    pub(crate) bytes: u64,
    pub(crate) index_bytes: u64,
    /// -1 without timestamps.
    pub(crate) first_ms: i64,
    pub(crate) newest_ms: i64,
}

/// How dirty a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dirt {
    /// The first offset that was never looked at.
    pub first_dirty: i64,
    /// Up to here, exclusive, cleaning may go now.
    pub cleanable_end: i64,
    pub clean_bytes: u64,
    pub cleanable_bytes: u64,
    /// How long the oldest dirty record may have been there, beyond `max.compaction.lag.ms`; 0 if not.
    pub overdue_ms: i64,
    /// Timestamp of the oldest cleanable record.
    pub oldest_dirty_ms: Option<i64>,
    /// Whether it is time to clean.
    pub due: bool,
}

impl Dirt {
    /// Part of the bytes, in millionths, that was never looked at.
    pub fn ratio_ppm(&self) -> u64 {
        let all = self.clean_bytes.saturating_add(self.cleanable_bytes);
        (u128::from(self.cleanable_bytes) * 1_000_000)
            .checked_div(u128::from(all))
            .and_then(|ppm| u64::try_from(ppm).ok())
            .unwrap_or(0)
    }
}

/// Kafka's `LogCleanerManager.cleanableOffsets` and what follows from it: whole closed segments below
/// `bound`, none with a record younger than `min.compaction.lag.ms`.
pub(crate) fn dirt(
    parts: &[Part],
    clean_end: i64,
    bound: i64,
    config: &LogConfig,
    now_ms: i64,
) -> Dirt {
    let begin = parts.first().map_or(clean_end, |part| part.base);
    let first_dirty = clean_end.max(begin);
    let young = |part: &Part| {
        config.min_compaction_lag_ms > 0
            && part.end > first_dirty
            && part.newest_ms > now_ms.saturating_sub(config.min_compaction_lag_ms)
    };
    let usable = parts
        .iter()
        .take_while(|part| part.end <= bound && !young(part));
    let (mut found, mut oldest_ms) = (
        Dirt {
            first_dirty,
            cleanable_end: begin,
            ..Dirt::default()
        },
        None,
    );
    for part in usable {
        found.cleanable_end = part.end;
        if part.end <= first_dirty {
            found.clean_bytes += part.bytes;
        } else {
            found.cleanable_bytes += part.bytes;
            if part.first_ms >= 0 {
                oldest_ms.get_or_insert(part.first_ms);
            }
        }
    }
    let age_ms = oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
    found.oldest_dirty_ms = oldest_ms;
    found.overdue_ms = age_ms.saturating_sub(config.max_compaction_lag_ms).max(0);
    found.due = found.cleanable_bytes > 0
        && (found.overdue_ms > 0 || found.ratio_ppm() > u64::from(config.min_cleanable_dirty_ppm));
    found
}

/// Neighbours that fit one segment together, by what they are before cleaning.
pub(crate) fn groups(parts: &[Part], config: &LogConfig) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let mut from = 0;
    while from < parts.len() {
        let (mut bytes, mut index_bytes, mut to) = (0, 0, from);
        while let Some(part) = parts.get(to) {
            bytes += part.bytes;
            index_bytes += part.index_bytes;
            let fits = bytes <= config.segment_bytes
                && index_bytes <= config.segment_index_bytes
                && part.end - parts[from].base <= i64::from(i32::MAX);
            if to > from && !fits {
                break;
            }
            to += 1;
        }
        groups.push(from..to);
        from = to;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(base: i64, bytes: u64, ms: i64) -> Part {
        Part {
            base,
            end: base + 10,
            bytes,
            index_bytes: 8,
            first_ms: ms,
            newest_ms: ms + 5,
        }
    }

    #[test]
    fn the_ratio_the_lags_and_the_bound_decide() {
        let parts = [part(0, 60, 100), part(10, 20, 200), part(20, 40, 300)];
        let config = LogConfig::default();
        let all = dirt(&parts, 0, 100, &config, 1000);
        assert_eq!(
            (all.cleanable_end, all.cleanable_bytes, all.due),
            (30, 120, true)
        );
        let some = dirt(&parts, 10, 100, &config, 1000);
        assert_eq!((some.clean_bytes, some.cleanable_bytes), (60, 60));
        assert_eq!((some.ratio_ppm(), some.due), (500_000, false));
        // A mirror stands at 25: the segment that reaches over it is left alone.
        let bound = dirt(&parts, 0, 25, &config, 1000);
        assert_eq!((bound.cleanable_end, bound.cleanable_bytes), (20, 80));
        let young = LogConfig {
            min_compaction_lag_ms: 750,
            ..LogConfig::default()
        };
        assert_eq!(dirt(&parts, 0, 100, &young, 1000).cleanable_end, 20);
        let late = LogConfig {
            max_compaction_lag_ms: 799,
            ..LogConfig::default()
        };
        let late = dirt(&parts, 10, 100, &late, 1000);
        assert_eq!((late.overdue_ms, late.due), (1, true));
        assert!(!dirt(&parts, 30, 100, &config, 1000).due);
        assert_eq!(dirt(&[], 7, 100, &config, 1000).first_dirty, 7);
    }

    #[test]
    fn small_neighbours_are_put_together() {
        let config = LogConfig {
            segment_bytes: 100,
            ..LogConfig::default()
        };
        let parts = [
            part(0, 60, 0),
            part(10, 40, 0),
            part(20, 1, 0),
            part(30, 200, 0),
            part(40, 5, 0),
        ];
        assert_eq!(groups(&parts, &config), [0..2, 2..3, 3..4, 4..5]);
        assert!(groups(&[], &config).is_empty());
    }
}
