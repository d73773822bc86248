//! Parked fetches of one partition, woken when there may be something new.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One parked request; it may stand at many partitions.
pub type Waiter = Arc<Notify>;

/// Below this nothing is swept: an idle partition's list stays this small.
const SWEEP_FROM: usize = 32;

#[derive(Debug, Default)]
pub struct Waiters {
    parked: Mutex<Parked>,
}

#[derive(Debug, Default)]
struct Parked {
    list: Vec<Weak<Notify>>,
    sweep_at: usize,
}

impl Waiters {
    /// `waiter` is notified once, at the next [`Self::wake`].
    pub fn park(&self, waiter: &Waiter) {
        let mut parked = self.parked.lock();
        if parked.list.len() >= parked.sweep_at.max(SWEEP_FROM) {
            parked.list.retain(|w| w.strong_count() > 0);
            parked.sweep_at = parked.list.len().saturating_mul(2);
        }
        parked.list.push(Arc::downgrade(waiter));
    }

    pub fn wake(&self) {
        let woken = std::mem::take(&mut self.parked.lock().list);
        for waiter in woken.iter().filter_map(Weak::upgrade) {
            waiter.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_that_gave_up_are_swept() {
        let waiters = Waiters::default();
        for _ in 0..10_000 {
            waiters.park(&Waiter::default());
        }
        assert!(waiters.parked.lock().list.len() <= SWEEP_FROM);
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_lost() {
        let (waiters, waiter) = (Waiters::default(), Waiter::default());
        waiters.park(&waiter);
        waiters.wake();
        waiter.notified().await;
    }
}
