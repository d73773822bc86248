//! How soon the reader at the other end of a connection is back for more.
//!
//! One that comes back at once is near, and gets smaller pieces than it allows: they stay in a CPU's caches on their
//! way from the file to the socket and into the client, and asking more often costs little. One behind a longer way,
//! or with more to do, gets what it allows.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a near reader gets of a partition: what clients ask for unless told otherwise, and a batch as large as one may be.
const PIECE: usize = 1 << 20;
/// A near reader is back this soon after an answer, and takes this long for each of its bytes: 1 GB/s. Where the way
/// alone takes longer, small answers would cost more than they spare.
const NEAR_NS: u64 = 500_000;
const NS_A_BYTE: u64 = 1;
/// A reader stays near for so many answers that it takes its time with: a thread that had to wait for a CPU says
/// nothing of the way.
const PATIENCE: u8 = 8;

/// Of one connection.
#[derive(Debug, Default)]
pub struct Pace {
    /// Who asks until then is back at once.
    soon_until_ns: AtomicU64,
    /// Answers for which the reader counts as near.
    near_for: AtomicU8,
}

/// One request's view of it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    is_near: bool,
}

impl Pace {
    /// A request for records came.
    pub fn asked(&self, now_ns: u64) -> Reading {
        let left = if now_ns <= self.soon_until_ns.load(Ordering::Relaxed) {
            PATIENCE
        } else {
            let left = self.near_for.load(Ordering::Relaxed);
            left.saturating_sub(1)
        };
        self.near_for.store(left, Ordering::Relaxed);
        Reading { is_near: left > 0 }
    }

    /// An answer was written.
    pub fn written(&self, bytes: usize, now_ns: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let soon = NEAR_NS.saturating_add(bytes.saturating_mul(NS_A_BYTE));
        let until = now_ns.saturating_add(soon);
        self.soon_until_ns.store(until, Ordering::Relaxed);
    }
}

impl Reading {
    /// Most bytes of a partition, of those its reader allows; never less than `least`, which it waits for.
    pub fn limit(self, max_bytes: usize, least: usize) -> usize {
        if self.is_near {
            max_bytes.min(PIECE.max(least))
        } else {
            max_bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_back_at_once_is_near_and_one_that_takes_its_time_is_not() {
        for (bytes, came_ns, near) in [
            (0, NEAR_NS, true),
            (0, NEAR_NS + 1, false),
            (PIECE, NEAR_NS + PIECE as u64 * NS_A_BYTE, true),
            (PIECE, NEAR_NS * 4, false),
        ] {
            let pace = Pace::default();
            assert_eq!(pace.asked(1).limit(PIECE * 8, 1), PIECE * 8);
            pace.written(bytes, 0);
            let most = if near { PIECE } else { PIECE * 8 };
            assert_eq!(pace.asked(came_ns).limit(PIECE * 8, 1), most, "{came_ns}");
        }
    }

    #[test]
    fn one_slow_answer_does_not_make_a_reader_far_and_many_do() {
        let pace = Pace::default();
        pace.written(0, 0);
        assert!(pace.asked(0).is_near);
        for answer in 1..=PATIENCE {
            pace.written(0, 0);
            assert_eq!(pace.asked(u64::MAX).is_near, answer < PATIENCE, "{answer}");
        }
    }

    #[test]
    fn a_reader_that_waits_for_more_than_a_piece_gets_it() {
        let pace = Pace::default();
        pace.written(0, 0);
        let reading = pace.asked(1);
        assert_eq!(reading.limit(PIECE * 8, PIECE * 2), PIECE * 2);
        assert_eq!(reading.limit(7, 1), 7);
    }
}
