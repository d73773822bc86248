//! How much room the filesystem has left, and how much of it is kept back.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// Most that is kept back by default: checkpoints of a million partitions take 100 MiB, and minutes of
/// group offsets fit besides.
const RESERVE_MOST: u64 = 1 << 30;
/// And no more than this part of a small filesystem, which would else take no writes at all.
const RESERVE_PART: u64 = 20;
/// A disk that was short takes writes again when this part of the reserve is free above it, so that it
/// does not change its mind with every segment that goes.
const SLACK_PART: u64 = 10;

/// Not measured, not set.
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Room {
    free: AtomicU64,
    reserve: AtomicU64,
    /// 1 while short.
    short: AtomicU64,
}

impl Default for Room {
    fn default() -> Self {
        Room {
            free: AtomicU64::new(UNKNOWN),
            reserve: AtomicU64::new(UNKNOWN),
            short: AtomicU64::new(0),
        }
    }
}

impl Room {
    pub(crate) fn measure(&self, dir: &File) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(dir)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let total = stat.f_blocks.saturating_mul(stat.f_frsize);
        if self.reserve.load(Ordering::Relaxed) == UNKNOWN {
            self.set_reserve(RESERVE_MOST.min(total / RESERVE_PART));
        }
        self.free.store(free, Ordering::Relaxed);
        self.judge();
        Ok(free)
    }

    pub(crate) fn set_reserve(&self, bytes: u64) {
        // The largest number stands for "not set".
        self.reserve
            .store(bytes.min(UNKNOWN - 1), Ordering::Relaxed);
        self.judge();
    }

    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) == 1
    }

    fn judge(&self) {
        let (free, reserve) = (
            self.free.load(Ordering::Relaxed),
            self.reserve.load(Ordering::Relaxed),
        );
        if free == UNKNOWN || reserve == UNKNOWN {
            return;
        }
        let enough = reserve.saturating_add(reserve / SLACK_PART);
        if free < reserve {
            self.short.store(1, Ordering::Relaxed);
        } else if free >= enough {
            self.short.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_disk_takes_writes_again_only_with_some_slack() {
        let room = Room::default();
        assert!(!room.is_short());
        room.set_reserve(1000);
        for (free, short) in [
            (1000, false),
            (999, true),
            (1000, true),
            (1099, true),
            (1100, false),
        ] {
            room.free.store(free, Ordering::Relaxed);
            room.judge();
            assert_eq!(room.is_short(), short, "{free}");
        }
        room.set_reserve(u64::MAX);
        assert!(room.is_short());
    }
}
