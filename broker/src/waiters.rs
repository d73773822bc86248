//! Parked fetches of one partition, woken when there may be something new.
//!
//! A fetch that stands at many partitions is told which of them woke it, so that it looks at those alone.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One parked request; it may stand at many partitions, once at each.
pub type Waiter = Arc<Parked>;

/// Below this nothing is swept: an idle partition's list stays this small.
const SWEEP_FROM: usize = 32;

#[derive(Debug, Default)]
pub struct Parked {
    notify: Notify,
    /// Under which numbers it was woken.
    woken: Mutex<Vec<usize>>,
}

impl Parked {
    /// Until something woke it; at once when something has.
    pub async fn notified(&self) {
        self.notify.notified().await;
    }

    /// Where it was woken since it was last asked; it does not stand there any more.
    pub fn take(&self) -> Vec<usize> {
        std::mem::take(&mut self.woken.lock())
    }

    /// Wakes it for another reason than something new.
    pub fn nudge(&self) {
        self.notify.notify_one();
    }

    fn wake(&self, number: usize) {
        self.woken.lock().push(number);
        self.notify.notify_one();
    }
}

#[derive(Debug, Default)]
pub struct Waiters {
    parked: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    list: Vec<(Weak<Parked>, usize)>,
    sweep_at: usize,
}

impl Waiters {
    /// `waiter` is notified once, at the next [`Self::wake`], and told this number.
    pub fn park(&self, waiter: &Waiter, number: usize) {
        let mut parked = self.parked.lock();
        if parked.list.len() >= parked.sweep_at.max(SWEEP_FROM) {
            parked.list.retain(|(w, _)| w.strong_count() > 0);
            parked.sweep_at = parked.list.len().saturating_mul(2);
        }
        parked.list.push((Arc::downgrade(waiter), number));
    }

    pub fn wake(&self) {
        let woken = std::mem::take(&mut self.parked.lock().list);
        for (waiter, number) in woken {
            if let Some(waiter) = waiter.upgrade() {
                waiter.wake(number);
            }
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
            waiters.park(&Waiter::default(), 0);
        }
        assert!(waiters.parked.lock().list.len() <= SWEEP_FROM);
    }

    #[tokio::test]
    async fn a_wake_before_the_wait_is_not_lost_and_says_where() {
        let (first, second, waiter) = (Waiters::default(), Waiters::default(), Waiter::default());
        first.park(&waiter, 3);
        second.park(&waiter, 7);
        second.wake();
        waiter.notified().await;
        assert_eq!(waiter.take(), [7]);
        assert!(waiter.take().is_empty());
        first.wake();
        second.wake();
        waiter.notified().await;
        assert_eq!(waiter.take(), [3]);
    }
}
