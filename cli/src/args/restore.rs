//! `whimbrel restore ..`

use std::{fmt, str::FromStr};

use clap::Args as ClapArgs;

#[derive(Debug, ClapArgs)]
pub struct Restore {
    /// Bucket to read: file:///dir or s3://bucket/prefix?endpoint=http://..&region=.., as in the configuration.
    #[arg(long, value_name = "URL", required_unless_present = "abandon")]
    pub from: Option<String>,
    /// Region whose part of the bucket is read.
    #[arg(long, required_unless_present = "abandon")]
    pub region: Option<String>,
    /// As of then, in UTC, for example 2026-03-01T14:05:00Z; the newest that there is without it.
    #[arg(long, value_name = "TIME")]
    pub to_time: Option<Instant>,
    /// At the newest cut that the roots have whole, though objects of it are missing: what is lost of it is named.
    #[arg(long)]
    pub newest_cut: bool,
    /// Fill the fleet without what the plan names as missing: offsets stay as they were, and nothing stands there. A
    /// transaction that lies in part in such a range may come back in part.
    #[arg(long, requires = "apply")]
    pub accept_missing: bool,
    /// Where a topic asks for more copies than the region's brokers can hold, have it ask for what they can.
    #[arg(long, requires = "apply")]
    pub lower_min_insync: bool,
    /// Leave out what stands in the internal topics, which have to be read for it: groups, transactions.
    #[arg(long)]
    pub quick: bool,
    /// Fill the empty fleet of --fleet: what it was, its users and logs up to the cut; then that is where it is at home.
    /// It may be ended at any moment; the same command goes on.
    #[arg(long, requires = "plan", conflicts_with = "quick")]
    pub apply: bool,
    /// The plan that was seen: with another nothing is changed.
    #[arg(long, value_name = "HASH")]
    pub plan: Option<String>,
    /// Where this process serves the bucket to the fleet's brokers; HOST must be one that they can reach.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Serve beyond loopback, without TLS and authentication, on a network that only you can reach.
    #[arg(long)]
    pub insecure_bind: bool,
    /// Give up the restore that the fleet of --fleet has begun, before any of it has come home.
    #[arg(long, conflicts_with_all = ["apply", "from"])]
    pub abandon: bool,
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant(pub i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoInstant;

impl fmt::Display for NoInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write a time in UTC like 2026-03-01T14:05:00Z")
    }
}

impl std::error::Error for NoInstant {}

impl FromStr for Instant {
    type Err = NoInstant;

    fn from_str(text: &str) -> Result<Self, NoInstant> {
        read(text).map(Self).ok_or(NoInstant)
    }
}

/// RFC 3339 in UTC, with up to three digits of a second's fraction.
fn read(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}").parse().ok()?;
    let is_date = year >= 1970 && (1..=12).contains(&month) && day >= 1;
    if !is_date || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before: i64 = (1970..year)
        .map(|y| (1..=12).map(|m| days_of(y, m)).sum::<i64>())
        .sum();
    let days = before + (1..month).map(|m| days_of(year, m)).sum::<i64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000 + millis)
}

/// Digits only, as many as are expected.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, length) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != length || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_tiering::store::utc;

    use super::*;

    #[test]
    fn a_time_is_read_as_it_is_shown() {
        for ms in [0, 951_782_400_000, 1_709_164_800_000, 1_800_000_000_000] {
            assert_eq!(utc(ms).parse(), Ok(Instant(ms)), "{}", utc(ms));
        }
        let late: Instant = "2026-03-01T14:05:00.25Z".parse().unwrap();
        assert_eq!(
            (utc(late.0), late.0 % 1_000),
            ("2026-03-01T14:05:00Z".into(), 250)
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "1767225600",
            "2026-03-01",
            "2026-03-01T14:05:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:60Z",
            "2026-01-01T00:00:00.1234Z",
            "2026-01-01T00:00:00.+1Z",
            "+026-01-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00Zoo",
        ] {
            assert_eq!(text.parse::<Instant>(), Err(NoInstant), "{text}");
        }
    }
}
