//! What a verification may cost: requests, bytes, money, and how fast it reads. Spent before a request is
//! made, so that a budget is never exceeded, whatever the request comes to.

use std::time::Duration;

use serde::Serialize;
use whimbrel_runtime::Clock;

use super::Request;
use crate::prices::{Class, Prices};

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spent {
    pub requests: u64,
    /// Read, tails included.
    pub bytes: u64,
    pub dollars: f64,
}

#[derive(Debug)]
pub struct Budget {
    clock: Clock,
    prices: Prices,
    begun_ns: u64,
    max_requests: u64,
    max_dollars: f64,
    /// Bytes per second; 0 is no limit.
    rate: u64,
    /// Bytes of blocks that may still be read.
    blocks: u64,
    pub spent: Spent,
    /// Something was not looked at because nothing was left for it.
    pub exhausted: bool,
}

impl Budget {
    pub fn new(request: &Request, prices: Prices, clock: Clock) -> Self {
        Self {
            begun_ns: clock.boot_ns(),
            clock,
            prices,
            max_requests: request.max_requests,
            max_dollars: request.max_dollars,
            rate: request.rate,
            blocks: request.bytes,
            spent: Spent::default(),
            exhausted: false,
        }
    }

    /// Pays for one GET or HEAD that reads `bytes`; waits where the rate asks for it. False when it cannot.
    pub async fn pay(&mut self, bytes: u64) -> bool {
        let dollars = self.prices.request(Class::Get) + self.prices.download(bytes);
        if self.spent.requests >= self.max_requests
            || self.spent.dollars + dollars > self.max_dollars
        {
            self.exhausted = true;
            return false;
        }
        self.spent.requests += 1;
        self.spent.bytes += bytes;
        self.spent.dollars += dollars;
        self.clock.sleep(self.ahead()).await;
        true
    }

    /// Blocks to read at once: at most `want` bytes, 0 when no more of them may be read.
    pub fn blocks(&mut self, want: u64) -> u64 {
        let may = want.min(self.blocks);
        self.blocks -= may;
        may
    }

    pub fn wants_blocks(&self) -> bool {
        self.blocks > 0
    }

    /// How far what was spent is ahead of the rate.
    fn ahead(&self) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let due_ns = u128::from(self.spent.bytes) * 1_000_000_000 / u128::from(self.rate);
        let passed_ns = u128::from(self.clock.boot_ns().saturating_sub(self.begun_ns));
        Duration::from_nanos(u64::try_from(due_ns.saturating_sub(passed_ns)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(query: &str) -> Budget {
        let request = Request::parse(query).unwrap();
        Budget::new(&request, Prices::load(None).unwrap(), Clock::manual())
    }

    #[tokio::test]
    async fn it_ends_with_the_requests_or_the_money() {
        let mut two = budget("max-requests=2");
        assert!(two.pay(10).await && two.pay(10).await && !two.pay(10).await);
        assert!(two.exhausted && two.spent.requests == 2 && two.spent.bytes == 20);
        // One GET costs 0.0000004.
        let mut cheap = budget("max-dollars=0.000001");
        assert!(cheap.pay(0).await && cheap.pay(0).await && !cheap.pay(0).await);
    }

    #[tokio::test]
    async fn reading_is_slowed_to_the_rate() {
        let slow = Budget {
            spent: Spent {
                bytes: 3 << 20,
                ..Spent::default()
            },
            ..budget("rate=1MiB")
        };
        assert_eq!(slow.ahead(), Duration::from_secs(3));
        slow.clock.advance(Duration::from_secs(2));
        assert_eq!(slow.ahead(), Duration::from_secs(1));
        slow.clock.advance(Duration::from_secs(2));
        assert_eq!(slow.ahead(), Duration::ZERO);
    }
}
