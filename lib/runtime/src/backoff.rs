//! Exponential back-off with jitter.

use std::time::Duration;

use crate::random;

#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            next: min,
        }
    }

    /// How long to wait now; doubles up to the maximum, with 20 % of jitter.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends and is asked for, not iterated"
    )]
    pub fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.max);
        random::jitter(now, 20)
    }

    /// Something worked: begin again at the minimum.
    pub fn reset(&mut self) {
        self.next = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_the_maximum_and_begins_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let near = |d: Duration, ms: u64| {
            d >= Duration::from_millis(ms * 8 / 10) && d <= Duration::from_millis(ms * 12 / 10)
        };
        assert!(near(backoff.next(), 100));
        assert!(near(backoff.next(), 200));
        assert!(near(backoff.next(), 350));
        assert!(near(backoff.next(), 350));
        backoff.reset();
        assert!(near(backoff.next(), 100));
    }
}
