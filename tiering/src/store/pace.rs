//! How many requests a second a prefix gets. A store that says "slow down" is believed: the rate of that
//! prefix is halved, from what it really was, and rises again by a fixed step for every second that goes
//! well (additive increase, multiplicative decrease). Without that every retry makes the storm longer.
//!
//! Pure: no task, no clock; instants come in as nanoseconds.

use std::collections::BTreeMap;

/// Above what S3 promises for one prefix nothing is gained by pacing.
const MOST: u64 = 5_500;
/// A request a second still finds out when the store is well again.
const LEAST: u64 = 1;
/// Requests a second won back for every second without a refusal: from the floor to a usual daemon's
/// hundred requests a second in ten seconds.
const STEP: u64 = 10;
/// Below every request's deadline.
const LONGEST_NS: u64 = 10 * SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// The rates of all prefixes that were asked for.
#[derive(Debug, Default)]
pub struct Pace {
    prefixes: BTreeMap<String, Rate>,
}

#[derive(Debug)]
struct Rate {
    per_second: u64,
    /// When the next request may go.
    next_ns: u64,
    /// The last cut: answers to requests that went before it say nothing new.
    cut_ns: u64,
    /// Since when nothing was won back.
    raised_ns: u64,
    /// Requests since `second_ns`, and in the second before.
    second_ns: u64,
    this_second: u64,
    last_second: u64,
}

impl Rate {
    fn new(now_ns: u64) -> Self {
        Self {
            per_second: MOST,
            next_ns: 0,
            cut_ns: 0,
            raised_ns: now_ns,
            second_ns: now_ns,
            this_second: 0,
            last_second: 0,
        }
    }

    fn count(&mut self, now_ns: u64) {
        let seconds = now_ns.saturating_sub(self.second_ns) / SECOND_NS;
        if seconds > 0 {
            self.last_second = if seconds == 1 { self.this_second } else { 0 };
            self.this_second = 0;
            self.second_ns += seconds * SECOND_NS;
        }
        self.this_second += 1;
    }
}

impl Pace {
    /// Takes a place and returns the instant at which the request may go.
    pub fn take(&mut self, prefix: &str, now_ns: u64) -> u64 {
        let rate = self.rate(prefix, now_ns);
        rate.count(now_ns);
        if rate.per_second >= MOST {
            return now_ns;
        }
        // Those who gave up waiting left their places behind: nobody waits for more than this.
        let at_ns = rate.next_ns.clamp(now_ns, now_ns + LONGEST_NS);
        rate.next_ns = at_ns + SECOND_NS / rate.per_second;
        at_ns
    }

    /// What came of a request that went at `sent_ns`.
    pub fn answered(&mut self, prefix: &str, sent_ns: u64, now_ns: u64, slow_down: bool) {
        let rate = self.rate(prefix, now_ns);
        if slow_down {
            rate.raised_ns = now_ns;
            if sent_ns >= rate.cut_ns {
                let real = rate.this_second.max(rate.last_second);
                rate.per_second = (rate.per_second.min(real) / 2).max(LEAST);
                rate.cut_ns = now_ns;
            }
            return;
        }
        let seconds = now_ns.saturating_sub(rate.raised_ns) / SECOND_NS;
        if seconds > 0 {
            rate.raised_ns = now_ns;
            // A silent hour is one good second, not 3,600 of them.
            rate.per_second = (rate.per_second + STEP).min(MOST);
        }
    }

    /// Prefixes that are slowed down now, with their requests a second.
    pub fn slowed(&self) -> Vec<(String, u64)> {
        let all = self.prefixes.iter();
        all.filter(|(_, rate)| rate.per_second < MOST)
            .map(|(prefix, rate)| (prefix.clone(), rate.per_second))
            .collect()
    }

    fn rate(&mut self, prefix: &str, now_ns: u64) -> &mut Rate {
        if !self.prefixes.contains_key(prefix) {
            self.prefixes.insert(prefix.to_owned(), Rate::new(now_ns));
        }
        self.prefixes
            .entry(prefix.to_owned())
            .or_insert_with(|| Rate::new(now_ns))
    }
}

/// `v1/<region>/<kind>` of a key: what a store may slow down by itself, and few enough to be kept for ever.
pub fn prefix_of(key: &str) -> &str {
    key.match_indices('/')
        .nth(2)
        .map_or(key, |(at, _)| &key[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = "v1/east/data";

    /// Sends as fast as it may for a second; the number sent.
    fn second(pace: &mut Pace, now: &mut u64, slow_down: bool) -> u64 {
        let (end, mut sent) = (*now + SECOND_NS, 0);
        while *now < end {
            let at = pace.take(DATA, *now);
            // A healthy store answers in five milliseconds.
            *now = at + 5_000_000;
            pace.answered(DATA, at, *now, slow_down);
            sent += 1;
        }
        sent
    }

    #[test]
    fn a_store_that_says_slow_down_gets_fewer_and_fewer_requests() {
        let (mut pace, mut now) = (Pace::default(), SECOND_NS);
        let well = second(&mut pace, &mut now, false);
        assert_eq!(well, 200);
        let told: Vec<_> = (0..10).map(|_| second(&mut pace, &mut now, true)).collect();
        assert!(told.is_sorted_by(|a, b| a >= b), "{told:?}");
        assert!(told[0] <= 20 && told[9] <= LEAST + 1, "{told:?}");
        assert_eq!(pace.slowed(), [(DATA.to_owned(), LEAST)]);
    }

    #[test]
    fn it_wins_its_rate_back_a_step_a_second() {
        let (mut pace, mut now) = (Pace::default(), SECOND_NS);
        second(&mut pace, &mut now, false);
        for _ in 0..10 {
            second(&mut pace, &mut now, true);
        }
        let mut before = LEAST;
        for _ in 0..15 {
            second(&mut pace, &mut now, false);
            let rate = pace.slowed()[0].1;
            assert!(
                rate >= before && rate <= before + 2 * STEP,
                "{before} {rate}"
            );
            before = rate;
        }
        assert!(before > 10 * STEP, "{before}");
    }

    #[test]
    fn one_storm_is_one_cut_and_other_prefixes_do_not_feel_it() {
        let (mut pace, now) = (Pace::default(), SECOND_NS);
        for _ in 0..100 {
            assert_eq!(pace.take(DATA, now), now);
        }
        for _ in 0..100 {
            pace.answered(DATA, now, now + 1, true);
        }
        assert_eq!(pace.slowed(), [(DATA.to_owned(), 50)]);
        let root = prefix_of("v1/east/root/3");
        assert_eq!(root, "v1/east/root");
        assert_eq!((0..9).map(|_| pace.take(root, now)).max(), Some(now));
        assert!((0..9).map(|_| pace.take(DATA, now)).max() > Some(now + SECOND_NS / 10));
    }
}
