//! Ceilings: how far a home broker may have acknowledged, reserved at a quorum before it does.
//!
//! The loss bound at a failover is *ceiling held by the surviving majority - durable here*: a
//! reservation made beforehand, so it can never lie below the truth.

use serde::{Deserialize, Serialize};

/// Sums over the partitions that one broker leads for one failover group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Sum of end offsets.
    pub records: u64,
    /// Sum of bytes appended since each log began.
    pub bytes: u64,
}

/// The highest position that a broker may acknowledge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    pub position: Position,
    /// Order of renewals within one incarnation; a voter keeps the newest, not the largest.
    pub sequence: u64,
}

impl Ceiling {
    /// True while an ack that brings the broker to `position` is covered.
    pub fn covers(&self, position: Position) -> bool {
        position.records <= self.position.records && position.bytes <= self.position.bytes
    }
}

/// What a broker asks for next: where it stands, and ahead of that what it wrote in the last renewal
/// period times two, never less than `floor` so that a quiet broker can begin.
pub fn ask_ahead(now: Position, previous: Position, floor: Position) -> Position {
    let ahead = |now: u64, previous: u64, floor: u64| {
        now.saturating_add(now.saturating_sub(previous).saturating_mul(2).max(floor))
    };
    Position {
        records: ahead(now.records, previous.records, floor.records),
        bytes: ahead(now.bytes, previous.bytes, floor.bytes),
    }
}

/// How much can be lost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossBound {
    AtMost(Position),
    /// No surviving majority holds a ceiling: only an operator who accepts that may go on.
    Unknown,
}

impl LossBound {
    /// `held` is the highest ceiling that a majority of voters could name, per home broker.
    pub fn of(held: Option<Position>, durable: Position) -> Self {
        held.map_or(Self::Unknown, |held| {
            Self::AtMost(Position {
                records: held.records.saturating_sub(durable.records),
                bytes: held.bytes.saturating_sub(durable.bytes),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(records: u64, bytes: u64) -> Position {
        Position { records, bytes }
    }

    #[test]
    fn a_quiet_broker_asks_for_the_floor() {
        assert_eq!(ask_ahead(at(10, 100), at(10, 100), at(5, 50)), at(15, 150));
    }

    #[test]
    fn a_busy_broker_asks_for_two_periods() {
        assert_eq!(
            ask_ahead(at(110, 1100), at(10, 100), at(5, 50)),
            at(310, 3100)
        );
    }

    #[test]
    fn both_sums_must_fit() {
        let ceiling = Ceiling {
            position: at(10, 100),
            sequence: 1,
        };
        assert!(ceiling.covers(at(10, 100)));
        assert!(!ceiling.covers(at(11, 1)));
        assert!(!ceiling.covers(at(1, 101)));
    }

    #[test]
    fn no_ceiling_means_unknown_and_never_zero() {
        assert_eq!(LossBound::of(None, at(1, 1)), LossBound::Unknown);
        assert_eq!(
            LossBound::of(Some(at(9, 90)), at(4, 100)),
            LossBound::AtMost(at(5, 0))
        );
    }
}
