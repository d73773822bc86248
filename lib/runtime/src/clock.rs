//! Time, as something that is handed in.
//!
//! Wall time is for people, for records' timestamps and for retention; never for safety. Leases use
//! CLOCK_BOOTTIME, which counts suspend and never goes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Where a manual clock begins: 2026-01-01T00:00:00Z, so that timestamps look like timestamps.
const MANUAL_START_MS: i64 = 1_767_225_600_000;

#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug, Default)]
struct Manual {
    elapsed_ns: AtomicU64,
    moved: Notify,
}

impl Clock {
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// A clock that stands still until [`Clock::advance`].
    pub fn manual() -> Self {
        Self(Kind::Manual(Arc::default()))
    }

    /// Milliseconds since 1970, as the machine believes.
    pub fn wall_ms(&self) -> i64 {
        match &self.0 {
            Kind::System => {
                let t = clock_gettime(ClockId::Realtime);
                t.tv_sec
                    .saturating_mul(1_000)
                    .saturating_add(t.tv_nsec / 1_000_000)
            }
            Kind::Manual(m) => {
                MANUAL_START_MS
                    + i64::try_from(m.elapsed_ns.load(Ordering::SeqCst) / 1_000_000)
                        .unwrap_or(i64::MAX / 2)
            }
        }
    }

    /// Nanoseconds on CLOCK_BOOTTIME.
    pub fn boot_ns(&self) -> u64 {
        match &self.0 {
            Kind::System => {
                let t = clock_gettime(ClockId::Boottime);
                u64::try_from(t.tv_sec)
                    .unwrap_or(0)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(u64::try_from(t.tv_nsec).unwrap_or(0))
            }
            Kind::Manual(m) => m.elapsed_ns.load(Ordering::SeqCst),
        }
    }

    /// Milliseconds on CLOCK_BOOTTIME.
    pub fn boot_ms(&self) -> u64 {
        self.boot_ns() / 1_000_000
    }

    /// Returns when so much time has passed on this clock since this call (not since the first poll).
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send + 'static {
        let until_ns = self.boot_ns().saturating_add(nanos(duration));
        let clock = self.clone();
        async move {
            match &clock.0 {
                Kind::System => {
                    // The kernel may have suspended in between: CLOCK_BOOTTIME decides, tokio's timer only wakes.
                    while let Some(left) = until_ns
                        .checked_sub(clock.boot_ns())
                        .filter(|left| *left > 0)
                    {
                        tokio::time::sleep(Duration::from_nanos(left)).await;
                    }
                }
                Kind::Manual(m) => m.reached(until_ns).await,
            }
        }
    }

    /// The result of `work`, or `None` when it took longer than `deadline` on this clock.
    pub async fn within<F: Future>(&self, deadline: Duration, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(deadline) => None,
        }
    }

    /// Moves a manual clock; a system clock cannot be moved and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(m) = &self.0 {
            m.elapsed_ns.fetch_add(nanos(by), Ordering::SeqCst);
            m.moved.notify_waiters();
        }
    }
}

impl Manual {
    async fn reached(&self, until_ns: u64) {
        loop {
            let moved = self.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.elapsed_ns.load(Ordering::SeqCst) >= until_ns {
                return;
            }
            moved.await;
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_sleep_ends_when_the_clock_is_moved() {
        let clock = Clock::manual();
        let sleeper = clock.sleep(Duration::from_secs(5));
        tokio::pin!(sleeper);
        clock.advance(Duration::from_secs(4));
        assert!(futures_poll(sleeper.as_mut()).await.is_none());
        clock.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.boot_ms(), 5_000);
    }

    async fn futures_poll<F: Future>(work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = std::future::ready(()) => None,
        }
    }

    #[test]
    fn the_system_clock_moves_forward() {
        let clock = Clock::system();
        let before = clock.boot_ns();
        assert!(clock.boot_ns() >= before);
        assert!(clock.wall_ms() > MANUAL_START_MS);
    }
}
