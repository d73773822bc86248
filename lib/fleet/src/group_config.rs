//! Configs of consumer groups (KIP-848): which there are and what they may be, as Kafka 4.2 has them.
//!
//! A group has configs before it has members, and keeps them when it is deleted. Bounds are Kafka's defaults of
//! `group.consumer.min.session.timeout.ms` and its kin.

use crate::topic_config::{Entry, Kind, Rule, Table};

/// A member of the consumer protocol that is silent for so long is out.
pub const SESSION_TIMEOUT_MS: &str = "consumer.session.timeout.ms";
/// How often members of the consumer protocol are heard.
pub const HEARTBEAT_INTERVAL_MS: &str = "consumer.heartbeat.interval.ms";
/// What a session may last: from, to.
pub const SESSION_BOUNDS_MS: (i64, i64) = (45_000, 60_000);
/// What may lie between two heartbeats: from, to. Always less than any session.
pub const HEARTBEAT_BOUNDS_MS: (i64, i64) = (5_000, 15_000);

const INT: i64 = i32::MAX as i64;
const NO_SHARE_GROUPS: &str = "Kept without effect: there are no share groups here.";
const NO_STREAMS_GROUPS: &str =
    "Kept without effect: there are no groups of the streams protocol here.";

/// How changes of them are judged.
pub const TABLE: Table = Table {
    entry: |name| ENTRIES.iter().find(|entry| entry.name == name).copied(),
    unknown: |name| format!("Unknown group config name: {name:.128}"),
};

/// All of them, by name.
pub const ENTRIES: &[Entry] = &[
    Entry {
        works: true,
        ..kept(
            HEARTBEAT_INTERVAL_MS,
            Some("group.consumer.heartbeat.interval.ms"),
            "5000",
            Rule::Whole(HEARTBEAT_BOUNDS_MS.0, HEARTBEAT_BOUNDS_MS.1),
            "How often members of the consumer protocol are heard.",
        )
    },
    Entry {
        works: true,
        ..kept(
            SESSION_TIMEOUT_MS,
            Some("group.consumer.session.timeout.ms"),
            "45000",
            Rule::Whole(SESSION_BOUNDS_MS.0, SESSION_BOUNDS_MS.1),
            "A member of the consumer protocol that is silent for so long is out.",
        )
    },
    Entry {
        kind: Kind::String,
        ..kept(
            "share.auto.offset.reset",
            None,
            "latest",
            Rule::Text,
            NO_SHARE_GROUPS,
        )
    },
    kept(
        "share.heartbeat.interval.ms",
        None,
        "5000",
        Rule::Whole(5_000, 15_000),
        NO_SHARE_GROUPS,
    ),
    Entry {
        kind: Kind::String,
        ..kept(
            "share.isolation.level",
            None,
            "read_uncommitted",
            Rule::OneOf(&["read_committed", "read_uncommitted"]),
            NO_SHARE_GROUPS,
        )
    },
    kept(
        "share.record.lock.duration.ms",
        None,
        "30000",
        Rule::Whole(15_000, 60_000),
        NO_SHARE_GROUPS,
    ),
    kept(
        "share.session.timeout.ms",
        None,
        "45000",
        Rule::Whole(45_000, 60_000),
        NO_SHARE_GROUPS,
    ),
    kept(
        "streams.heartbeat.interval.ms",
        None,
        "5000",
        Rule::Whole(5_000, 15_000),
        NO_STREAMS_GROUPS,
    ),
    kept(
        "streams.initial.rebalance.delay.ms",
        None,
        "3000",
        Rule::Whole(0, INT),
        NO_STREAMS_GROUPS,
    ),
    kept(
        "streams.num.standby.replicas",
        None,
        "0",
        Rule::Whole(0, 2),
        NO_STREAMS_GROUPS,
    ),
    kept(
        "streams.session.timeout.ms",
        None,
        "45000",
        Rule::Whole(45_000, 60_000),
        NO_STREAMS_GROUPS,
    ),
];

const fn kept(
    name: &'static str,
    broker_name: Option<&'static str>,
    default: &'static str,
    rule: Rule,
    doc: &'static str,
) -> Entry {
    Entry {
        name,
        broker_name,
        kind: Kind::Int,
        default,
        rule,
        doc,
        works: false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topic_config::Change;

    #[test]
    fn every_default_is_valid_and_what_does_nothing_says_so() {
        assert!(ENTRIES.windows(2).all(|w| w[0].name < w[1].name));
        for entry in ENTRIES {
            assert_eq!(TABLE.refuse(entry.name, entry.default), None);
            assert_eq!(entry.works, !entry.doc.starts_with("Kept without effect"));
        }
        assert!(SESSION_BOUNDS_MS.0 > HEARTBEAT_BOUNDS_MS.1);
    }

    #[test]
    fn values_out_of_bounds_and_unknown_names_are_refused() {
        let none = BTreeMap::new();
        for (name, value) in [
            (SESSION_TIMEOUT_MS, "44999"),
            (SESSION_TIMEOUT_MS, "60001"),
            (HEARTBEAT_INTERVAL_MS, "soon"),
            ("retention.ms", "1"),
        ] {
            let change = [Change::set(name, value)];
            assert!(TABLE.changed(&none, &change, false).is_err(), "{name}");
        }
        let change = [Change::set(SESSION_TIMEOUT_MS, "50000")];
        let after = TABLE.changed(&none, &change, false).unwrap();
        assert_eq!(after[SESSION_TIMEOUT_MS], "50000");
    }
}
