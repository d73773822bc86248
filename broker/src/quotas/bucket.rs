//! A token bucket that can go into debt: what was used is charged after the fact, and the debt is how long
//! the client has to be quiet.

use std::time::Duration;

/// A second of the rate may be used at once.
const BURST_S: f64 = 1.0;
/// Nobody is kept quiet for longer: one large request of a client with a tiny rate must not cost it for ever.
pub const LONGEST: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// A second.
    rate: f64,
    /// Negative is debt.
    tokens: f64,
    at_ns: u64,
}

impl Bucket {
    /// Full.
    pub fn new(rate: f64, now_ns: u64) -> Self {
        Self {
            rate,
            tokens: rate * BURST_S,
            at_ns: now_ns,
        }
    }

    /// Another rate from now on; a debt stays what it is in time.
    pub fn set_rate(&mut self, rate: f64, now_ns: u64) {
        if self.rate.total_cmp(&rate).is_eq() {
            return;
        }
        self.fill(now_ns);
        self.tokens *= rate / self.rate;
        self.rate = rate;
    }

    /// Charges what was used; how long until the debt, if there is one, is paid.
    pub fn charge(&mut self, used: f64, now_ns: u64) -> Duration {
        self.fill(now_ns);
        self.tokens = (self.tokens - used).max(-self.rate * LONGEST.as_secs_f64());
        self.debt()
    }

    /// How long until the debt is paid.
    pub fn owes(&mut self, now_ns: u64) -> Duration {
        self.fill(now_ns);
        self.debt()
    }

    /// Nothing was used for a while: it is as good as new.
    pub fn is_full(&mut self, now_ns: u64) -> bool {
        self.fill(now_ns);
        self.tokens >= self.rate * BURST_S
    }

    fn debt(&self) -> Duration {
        Duration::from_secs_f64((-self.tokens / self.rate).clamp(0.0, LONGEST.as_secs_f64()))
    }

    fn fill(&mut self, now_ns: u64) {
        let passed = Duration::from_nanos(now_ns.saturating_sub(self.at_ns)).as_secs_f64();
        self.at_ns = self.at_ns.max(now_ns);
        self.tokens = (self.tokens + passed * self.rate).min(self.rate * BURST_S);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_is_free_and_debt_is_time() {
        let mut bucket = Bucket::new(100.0, 0);
        assert_eq!(bucket.charge(100.0, 0), Duration::ZERO);
        assert_eq!(bucket.charge(50.0, 0), Duration::from_millis(500));
        assert_eq!(bucket.owes(SECOND / 4), Duration::from_millis(250));
        assert_eq!(bucket.owes(SECOND), Duration::ZERO);
        assert!(bucket.is_full(2 * SECOND));
    }

    #[test]
    fn debt_has_a_longest() {
        let mut bucket = Bucket::new(1.0, 0);
        assert_eq!(bucket.charge(1e12, 0), LONGEST);
        assert_eq!(bucket.owes(30 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_new_rate_keeps_the_time_that_is_owed() {
        let mut bucket = Bucket::new(100.0, 0);
        bucket.charge(300.0, 0);
        bucket.set_rate(10.0, 0);
        assert_eq!(bucket.owes(0), Duration::from_secs(2));
        assert_eq!(bucket.charge(10.0, 0), Duration::from_secs(3));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// A client that is quiet for as long as it is told never has more than the rate and one burst.
        #[test]
        fn who_keeps_quiet_stays_within_the_rate(rate in 1_u32..10_000, uses in prop::collection::vec((0.0_f64..3.0, 0_u64..2_000_000_000), 1..60)) {
            let rate = f64::from(rate);
            let mut bucket = Bucket::new(rate, 0);
            let (mut now_ns, mut used) = (0_u64, 0.0);
            for (share, idle_ns) in uses {
                used += share * rate;
                let quiet = bucket.charge(share * rate, now_ns);
                now_ns += u64::try_from(quiet.as_nanos()).unwrap() + idle_ns;
                let may = rate * (now_ns as f64 / 1e9 + BURST_S);
                prop_assert!(used <= may * 1.000_001 + 1e-6, "{used} of {may}");
                prop_assert!(bucket.owes(now_ns) < Duration::from_micros(1));
            }
        }
    }
}
