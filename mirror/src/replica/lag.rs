//! How far a partition is behind: stored instants and positions in, numbers out.
//!
//! Nothing here is set by the work it measures. Asked again later, with no frame in between, the answer
//! is higher by the time that passed.

use std::collections::VecDeque;

use whimbrel_rpc::replica::Batches;

/// Where the source stood in its last frame.
#[derive(Clone, Copy, Debug)]
struct Seen {
    boot_ms: u64,
    source_clock_ms: i64,
    log_end: i64,
    log_bytes: u64,
}

/// Records passed on and not yet fsynced at the target.
#[derive(Clone, Copy, Debug)]
struct InFlight {
    end_offset: i64,
    bytes: u64,
    /// Append time of the first of them at the source.
    appended_ms: Option<i64>,
}

/// A partition's distance from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    pub records: u64,
    pub bytes: u64,
    pub behind_ms: u64,
}

#[derive(Debug)]
pub struct Progress {
    /// When this partition began to be wanted: until a first frame came, it is behind by at least that.
    since_boot_ms: u64,
    seen: Option<Seen>,
    in_flight: VecDeque<InFlight>,
    /// Append time of the first record that was not sent to us yet.
    next_append_ms: Option<i64>,
    /// Clock of the source in the first frame that left something out, for when append times are unknown.
    short_since_ms: Option<i64>,
    target_end: i64,
    target_bytes: u64,
}

impl Progress {
    pub fn new(boot_ms: u64) -> Self {
        Self {
            since_boot_ms: boot_ms,
            seen: None,
            in_flight: VecDeque::new(),
            next_append_ms: None,
            short_since_ms: None,
            target_end: 0,
            target_bytes: 0,
        }
    }

    pub fn source_end(&self) -> Option<i64> {
        self.seen.map(|seen| seen.log_end)
    }

    pub fn target_end(&self) -> i64 {
        self.target_end
    }

    /// The target said where it stands. Returns the bytes that were in flight and are not any more.
    pub fn at(&mut self, end_offset: i64, log_bytes: Option<u64>) -> u64 {
        self.target_end = end_offset;
        self.target_bytes = log_bytes.unwrap_or(self.target_bytes);
        self.next_append_ms = None;
        let bytes = self.in_flight.iter().map(|f| f.bytes).sum();
        self.in_flight.clear();
        bytes
    }

    /// Bytes that the target's log held when it last named its position.
    pub fn target_bytes_are(&mut self, log_bytes: u64) {
        self.target_bytes = log_bytes;
    }

    /// A frame is passed on; `end_offset` is the end of its records, where it has some.
    pub fn forwarded(&mut self, frame: &Batches, end_offset: Option<i64>, boot_ms: u64) {
        let unknown_ms = self.short_since_ms.unwrap_or(frame.source_clock_ms);
        let first_append_ms = self.next_append_ms.or(Some(unknown_ms));
        if let Some(end_offset) = end_offset {
            let bytes = frame.records.len() as u64;
            self.in_flight.push_back(InFlight {
                end_offset,
                bytes,
                appended_ms: first_append_ms,
            });
        }
        self.next_append_ms = (frame.next_append_time_ms >= 0).then_some(frame.next_append_time_ms);
        self.seen = Some(Seen {
            boot_ms,
            source_clock_ms: frame.source_clock_ms,
            log_end: frame.log_end,
            log_bytes: frame.log_bytes,
        });
        let short = frame.log_end > self.target_end;
        self.short_since_ms = short.then(|| self.short_since_ms.unwrap_or(frame.source_clock_ms));
    }

    /// Everything below `end_offset` is fsynced at the target. Returns the bytes that this settles.
    pub fn durable(&mut self, end_offset: i64) -> u64 {
        self.target_end = self.target_end.max(end_offset);
        let mut settled = 0_u64;
        while let Some(first) = self
            .in_flight
            .front()
            .filter(|f| f.end_offset <= end_offset)
        {
            settled = settled.saturating_add(first.bytes);
            self.in_flight.pop_front();
        }
        self.target_bytes = self.target_bytes.saturating_add(settled);
        if self
            .seen
            .is_some_and(|seen| seen.log_end <= self.target_end)
        {
            self.short_since_ms = None;
        }
        settled
    }

    /// Append time at the source of the first record that the target does not have.
    fn first_missing_ms(&self) -> Option<i64> {
        self.in_flight
            .front()
            .map_or(self.next_append_ms, |first| first.appended_ms)
    }

    pub fn lag(&self, boot_ms: u64) -> Lag {
        let Some(seen) = self.seen else {
            return Lag {
                records: 0,
                bytes: 0,
                behind_ms: boot_ms.saturating_sub(self.since_boot_ms),
            };
        };
        let missing = seen.log_end > self.target_end;
        let first_ms = self
            .first_missing_ms()
            .or(self.short_since_ms)
            .filter(|_| missing);
        let age_ms = first_ms.map_or(0, |first| seen.source_clock_ms.saturating_sub(first));
        let age_ms = u64::try_from(age_ms).unwrap_or(0);
        Lag {
            records: u64::try_from(seen.log_end.saturating_sub(self.target_end)).unwrap_or(0),
            bytes: if missing {
                seen.log_bytes.saturating_sub(self.target_bytes)
            } else {
                0
            },
            behind_ms: age_ms.saturating_add(boot_ms.saturating_sub(seen.boot_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;
    use whimbrel_fleet::{RegionEpoch, TopicPartition};

    use super::*;

    fn frame(log_end: i64, clock_ms: i64, next_append_time_ms: i64, bytes: usize) -> Batches {
        Batches {
            at: TopicPartition::new(Uuid::nil(), 0),
            region_epoch: RegionEpoch(1),
            leader_epoch: 1,
            log_start: 0,
            log_end,
            log_bytes: u64::try_from(log_end).unwrap() * 10,
            high_watermark: log_end,
            last_stable_offset: log_end,
            held_end: log_end,
            source_clock_ms: clock_ms,
            next_append_time_ms,
            records: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn seconds_behind_keep_rising_when_the_source_is_silent() {
        let mut progress = Progress::new(1_000);
        assert_eq!(progress.lag(1_500).behind_ms, 500);
        progress.forwarded(&frame(0, 50_000, -1, 0), None, 2_000);
        assert_eq!(progress.lag(2_000).behind_ms, 0);
        assert_eq!(progress.lag(9_000).behind_ms, 7_000);
    }

    #[test]
    fn the_first_missing_record_is_the_oldest_one_not_fsynced_here() {
        let mut progress = Progress::new(0);
        progress.at(0, Some(0));
        progress.forwarded(&frame(30, 50_000, 47_000, 0), None, 100);
        let lag = progress.lag(100);
        assert_eq!((lag.records, lag.bytes, lag.behind_ms), (30, 300, 3_000));
        progress.forwarded(&frame(30, 50_010, 49_000, 100), Some(10), 110);
        assert_eq!(progress.lag(110).behind_ms, 3_010);
        assert_eq!(progress.durable(10), 100);
        assert_eq!(progress.lag(110).behind_ms, 1_010);
        progress.forwarded(&frame(30, 50_020, -1, 200), Some(30), 120);
        assert_eq!(progress.durable(30), 200);
        let lag = progress.lag(150);
        assert_eq!((lag.records, lag.bytes, lag.behind_ms), (0, 0, 30));
    }

    #[test]
    fn without_append_times_it_counts_from_when_something_was_first_missing() {
        let mut progress = Progress::new(0);
        progress.forwarded(&frame(5, 10_000, -1, 0), None, 0);
        progress.forwarded(&frame(5, 14_000, -1, 0), None, 4_000);
        assert_eq!(progress.lag(4_500).behind_ms, 4_500);
    }
}
