//! What a follower region's partition knows from the source's frames: the high watermark it was told,
//! and how far behind it is, in time.
//!
//! Behind is (source clock in the last frame - append time of the first record missing here) plus the
//! local monotonic time since that frame (design section 7). It is computed when asked, so it rises by
//! itself while frames are away.

use parking_lot::Mutex;
use whimbrel_fleet::RegionEpoch;
use whimbrel_rpc::replica::Batches;

#[derive(Debug)]
pub struct Following {
    last: Mutex<Last>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    leader_epoch: i32,
    /// Of the frame.
    region_epoch: Option<RegionEpoch>,
    log_start: i64,
    high_watermark: i64,
    log_end: i64,
    held_end: i64,
    source_clock_ms: i64,
    next_append_time_ms: i64,
    /// Of the frame, or of the start of following.
    boot_ns: u64,
    /// A frame came since following began: the source found our lineage to be a part of its own.
    confirmed: bool,
}

impl Following {
    pub fn new(boot_ns: u64) -> Self {
        Self {
            last: Mutex::new(Last {
                leader_epoch: -1,
                region_epoch: None,
                log_start: 0,
                high_watermark: 0,
                log_end: 0,
                held_end: 0,
                source_clock_ms: 0,
                next_append_time_ms: -1,
                boot_ns,
                confirmed: false,
            }),
        }
    }

    /// Begins to follow: nothing is known of the source's progress, so lag counts from now.
    pub fn begin(&self, boot_ns: u64) {
        let mut last = self.last.lock();
        *last = Last {
            high_watermark: last.high_watermark,
            ..Self::new(boot_ns).last.into_inner()
        };
    }

    pub fn frame(&self, frame: &Batches, boot_ns: u64) {
        let mut last = self.last.lock();
        *last = Last {
            leader_epoch: frame.leader_epoch,
            region_epoch: Some(frame.region_epoch),
            log_start: frame.log_start,
            high_watermark: frame.high_watermark,
            log_end: frame.log_end,
            held_end: frame.held_end,
            source_clock_ms: frame.source_clock_ms,
            next_append_time_ms: frame.next_append_time_ms,
            boot_ns,
            confirmed: true,
        };
    }

    /// The log was cut or is to be: nothing is confirmed until the source sends again.
    pub fn unconfirm(&self) {
        self.last.lock().confirmed = false;
    }

    pub fn is_confirmed(&self) -> bool {
        self.last.lock().confirmed
    }

    /// Of the leader, as the source last said; -1 before that.
    pub fn leader_epoch(&self) -> i32 {
        self.last.lock().leader_epoch
    }

    /// The log start as the home's leader said it in this region epoch; `None` while nothing is confirmed. A source
    /// that does not know it says 0.
    pub fn log_start(&self, region_epoch: RegionEpoch) -> Option<i64> {
        let last = self.last.lock();
        let said = last.confirmed && last.region_epoch == Some(region_epoch);
        Some(last.log_start).filter(|start| said && *start > 0)
    }

    pub fn high_watermark(&self) -> i64 {
        self.last.lock().high_watermark
    }

    /// The source's fsynced end when it last spoke.
    pub fn source_end(&self) -> i64 {
        self.last.lock().log_end
    }

    /// Below this every region but the home holds everything fsynced; 0 before the source has said so.
    pub fn held_end(&self) -> i64 {
        self.last.lock().held_end
    }

    pub fn behind_ms(&self, boot_ns: u64) -> u64 {
        let last = *self.last.lock();
        let silent_ms = boot_ns.saturating_sub(last.boot_ns) / 1_000_000;
        let missing_ms = match last.next_append_time_ms {
            ..0 => 0,
            appended_ms => {
                u64::try_from(last.source_clock_ms.saturating_sub(appended_ms)).unwrap_or(0)
            }
        };
        missing_ms.saturating_add(silent_ms)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use whimbrel_fleet::{RegionEpoch, TopicPartition};

    use super::*;

    fn frame(source_clock_ms: i64, next_append_time_ms: i64) -> Batches {
        Batches {
            at: TopicPartition::default_for_tests(),
            region_epoch: RegionEpoch(1),
            leader_epoch: 1,
            log_start: 0,
            log_end: 10,
            log_bytes: 100,
            high_watermark: 10,
            last_stable_offset: 10,
            held_end: 10,
            source_clock_ms,
            next_append_time_ms,
            records: Bytes::new(),
        }
    }

    trait ForTests {
        fn default_for_tests() -> Self;
    }

    impl ForTests for TopicPartition {
        fn default_for_tests() -> Self {
            Self::new(uuid::Uuid::nil(), 0)
        }
    }

    #[test]
    fn a_log_start_counts_while_it_is_the_word_of_this_epochs_home() {
        let following = Following::new(0);
        let told = |log_start| Batches {
            log_start,
            ..frame(1, -1)
        };
        assert_eq!(following.log_start(RegionEpoch(1)), None);
        following.frame(&told(7), 0);
        assert_eq!(following.log_start(RegionEpoch(1)), Some(7));
        assert_eq!(following.log_start(RegionEpoch(2)), None);
        following.unconfirm();
        assert_eq!(following.log_start(RegionEpoch(1)), None);
        following.frame(&told(0), 0);
        assert_eq!(
            following.log_start(RegionEpoch(1)),
            None,
            "it is not known there"
        );
        following.frame(&told(8), 0);
        following.begin(1);
        assert_eq!(following.log_start(RegionEpoch(1)), None);
    }

    #[test]
    fn lag_rises_while_the_source_is_silent() {
        let following = Following::new(0);
        following.frame(&frame(10_000, -1), 5_000_000_000);
        assert_eq!(following.behind_ms(5_000_000_000), 0);
        assert_eq!(following.behind_ms(7_000_000_000), 2_000);
    }

    #[test]
    fn a_missing_record_counts_from_its_append_at_the_source() {
        let following = Following::new(0);
        following.frame(&frame(10_000, 9_000), 0);
        assert_eq!(following.behind_ms(500_000_000), 1_500);
    }

    #[test]
    fn without_any_frame_lag_counts_from_the_start() {
        assert_eq!(Following::new(0).behind_ms(3_000_000_000), 3_000);
    }
}
