//! Holds the markers of the transactions coordinated here while a cut of the logs is taken.
//!
//! Costs a transaction that nobody holds two turns of a lock, and no other write anything.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;
use whimbrel_fleet::cut::Gate;
use whimbrel_runtime::Clock;

#[derive(Debug)]
pub struct MarkerGate {
    gate: Mutex<Gate>,
    /// Something left, or a hold ended.
    changed: Notify,
    clock: Clock,
    /// No hold lasts longer, whoever asks: a producer waits for its markers before it may begin again.
    most_held: Duration,
}

/// A transaction whose markers are under way, until it is dropped.
#[derive(Debug)]
pub struct UnderWay(Arc<MarkerGate>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.gate.lock().leave();
        self.0.changed.notify_waiters();
    }
}

impl MarkerGate {
    #[must_use]
    pub fn new(clock: Clock, most_held: Duration) -> Arc<Self> {
        Arc::new(Self {
            gate: Mutex::default(),
            changed: Notify::new(),
            clock,
            most_held,
        })
    }

    /// Returns when no hold stands; the markers are under way until the answer is dropped.
    pub async fn enter(self: &Arc<Self>) -> UnderWay {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now_ms = self.clock.boot_ms();
            let entered = self.gate.lock().enter(now_ms);
            match entered {
                Ok(()) => return UnderWay(Arc::clone(self)),
                Err(until_ms) => {
                    let left = Duration::from_millis(until_ms.saturating_sub(now_ms));
                    self.clock.within(left, changed).await;
                }
            }
        }
    }

    /// Keeps new markers back for `span`, as far as this broker allows it, and returns once none is under way. False, with nothing
    /// held, if somebody else holds or the time was over before.
    pub async fn hold(&self, token: u64, span: Duration) -> bool {
        let span = span.min(self.most_held);
        let now_ms = self.clock.boot_ms();
        let until_ms = now_ms.saturating_add(u64::try_from(span.as_millis()).unwrap_or(0));
        if !self.gate.lock().hold(token, now_ms, until_ms) {
            return false;
        }
        let drained = self.clock.within(span, self.drained()).await.is_some();
        if !drained {
            self.release(token);
        }
        drained
    }

    async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.gate.lock().is_drained() {
                return;
            }
            changed.await;
        }
    }

    /// Lets markers through again. True if none came through since the hold began.
    pub fn release(&self, token: u64) -> bool {
        let stood = self.gate.lock().release(token, self.clock.boot_ms());
        self.changed.notify_waiters();
        stood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST_HELD: Duration = Duration::from_millis(100);

    fn gate() -> (Clock, Arc<MarkerGate>) {
        let clock = Clock::manual();
        (clock.clone(), MarkerGate::new(clock, MOST_HELD))
    }

    #[tokio::test]
    async fn a_hold_waits_for_what_is_under_way_and_keeps_back_what_comes() {
        let (_clock, gate) = gate();
        let first = gate.enter().await;
        let holding = gate.hold(1, MOST_HELD);
        tokio::pin!(holding);
        assert!(futures::poll!(holding.as_mut()).is_pending());
        let second = gate.enter();
        tokio::pin!(second);
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(holding.await);
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(gate.release(1));
        drop(second.await);
    }

    #[tokio::test]
    async fn a_hold_gives_up_when_its_time_is_over() {
        let (clock, gate) = gate();
        let slow = gate.enter().await;
        let holding = gate.hold(1, MOST_HELD);
        tokio::pin!(holding);
        assert!(futures::poll!(holding.as_mut()).is_pending());
        clock.advance(MOST_HELD);
        assert!(!holding.await);
        assert!(!gate.release(1));
        drop(gate.enter().await);
        drop(slow);
    }

    #[tokio::test]
    async fn a_hold_whose_holder_is_gone_ends_by_itself() {
        let (clock, gate) = gate();
        assert!(gate.hold(1, Duration::from_secs(9)).await);
        assert!(!gate.hold(2, MOST_HELD).await);
        let held = gate.enter();
        tokio::pin!(held);
        assert!(futures::poll!(held.as_mut()).is_pending());
        clock.advance(MOST_HELD);
        drop(held.await);
        assert!(!gate.release(1));
    }
}
