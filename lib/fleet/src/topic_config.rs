//! Topic configs: which there are, what they may be, and how a change comes out.
//!
//! Names, types and defaults are those of Kafka 4.2 (`TopicConfig`); what is not listed is refused. The one
//! place where values are judged: brokers show the table to clients, the controller refuses by it before
//! anything is committed, the command line prints it. What is committed already is never judged again, so
//! that a log replays the same under a later table.

mod change;
mod entries;

use std::collections::BTreeMap;

pub use change::{Change, Op, Refusal, changed, check_all, check_internal};
pub use entries::ENTRIES;

/// Kafka's `ConfigDef.Type`, as DescribeConfigs numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Boolean = 1,
    String = 2,
    Int = 3,
    Short = 4,
    Long = 5,
    Double = 6,
    List = 7,
    Class = 8,
}

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    Boolean,
    /// A whole number between the two.
    Whole(i64, i64),
    /// -1, or a whole number between the two.
    WholeOrNone(i64, i64),
    /// A number between 0 and 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// Any of these, separated by commas, each once; or none.
    SomeOf(&'static [&'static str]),
    /// `*`, nothing, or pairs `partition:broker` separated by commas.
    Replicas,
    /// A finite number.
    Number,
    /// A text of any kind, also an empty one, of no more bytes than are kept of any value.
    Text,
}

/// Longest text.
const TEXT: usize = 4_096;

/// A config that may be set on a topic, a group or a broker.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub name: &'static str,
    /// The broker config whose value a topic without its own has, where Kafka has one.
    pub broker_name: Option<&'static str>,
    pub kind: Kind,
    pub default: &'static str,
    pub rule: Rule,
    /// What it does here.
    pub doc: &'static str,
    /// False where it is taken and kept, and changes nothing; `doc` says why.
    pub works: bool,
}

/// Bounds what a bucket may lack of a partition, in milliseconds.
pub const UPLOAD_WITHIN: &str = "whimbrel.upload.within.ms";

/// How many records may be acknowledged before they are synced, and one more.
pub const FLUSH_MESSAGES: &str = "flush.messages";

/// The config of that name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    ENTRIES
        .binary_search_by(|entry| entry.name.cmp(name))
        .ok()
        .map(|at| &ENTRIES[at])
}

/// Which configs a kind of resource has.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The config of that name.
    pub entry: fn(&str) -> Option<Entry>,
    /// What is said of a name that is not listed.
    pub unknown: fn(&str) -> String,
}

/// Those of topics.
const TABLE: Table = Table {
    entry: |name| entry(name).copied(),
    unknown: |name| format!("Unknown topic config name: {name:.128}"),
};

impl Table {
    /// Why a value cannot be a config's.
    pub fn refuse(&self, name: &str, value: &str) -> Option<String> {
        let Some(entry) = (self.entry)(name) else {
            return Some((self.unknown)(name));
        };
        let why = entry.rule.refuse(value)?;
        Some(format!(
            "Invalid value {value:.128} for configuration {name}: {why}"
        ))
    }
}

/// Why a value cannot be a topic config's.
pub fn refuse(name: &str, value: &str) -> Option<String> {
    TABLE.refuse(name, value)
}

/// A topic's value of a config, its own or the default. `None` for a name that is not listed.
pub fn value<'a>(configs: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    configs
        .get(name)
        .map(String::as_str)
        .or_else(|| entry(name).map(|entry| entry.default))
}

/// A list's parts, without spaces and empty ones.
fn parts(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
}

impl Rule {
    /// Why `value` does not keep to it.
    fn refuse(self, value: &str) -> Option<String> {
        let (kept, wanted) = match self {
            Self::Boolean => (
                value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false"),
                "it is true or false".to_owned(),
            ),
            Self::Whole(least, most) => (
                whole(value, least, most),
                format!("it is a whole number from {least} to {most}"),
            ),
            Self::WholeOrNone(least, most) => (
                value == "-1" || whole(value, least, most),
                format!("it is -1, or a whole number from {least} to {most}"),
            ),
            Self::Ratio => (
                value
                    .parse::<f64>()
                    .is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
                "it is a number from 0 to 1".to_owned(),
            ),
            Self::OneOf(allowed) => (
                allowed.contains(&value),
                format!("it is one of {}", allowed.join(", ")),
            ),
            Self::SomeOf(allowed) => (
                some_of(value, allowed),
                format!(
                    "it is a list, empty or without repetition, of {}",
                    allowed.join(", ")
                ),
            ),
            Self::Replicas => (
                value == "*" || parts(value).all(is_replica),
                "it is *, or a list of partition:broker".to_owned(),
            ),
            Self::Number => (
                value.parse::<f64>().is_ok_and(f64::is_finite),
                "it is a number".to_owned(),
            ),
            Self::Text => (value.len() <= TEXT, format!("it has at most {TEXT} bytes")),
        };
        (!kept).then_some(wanted)
    }
}

fn whole(value: &str, least: i64, most: i64) -> bool {
    value
        .parse::<i64>()
        .is_ok_and(|number| (least..=most).contains(&number))
}

fn some_of(value: &str, allowed: &[&str]) -> bool {
    let parts: Vec<&str> = parts(value).collect();
    let each_once = parts
        .iter()
        .enumerate()
        .all(|(at, part)| allowed.contains(part) && !parts[..at].contains(part));
    each_once && (value.is_empty() || !parts.is_empty())
}

fn is_replica(pair: &str) -> bool {
    pair.split_once(':').is_some_and(|(partition, broker)| {
        partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_rise_and_every_default_is_valid() {
        for entry in ENTRIES {
            assert_eq!(refuse(entry.name, entry.default), None, "{}", entry.name);
            assert!(!entry.doc.is_empty(), "{}", entry.name);
        }
        assert!(ENTRIES.windows(2).all(|w| w[0].name < w[1].name));
    }

    #[test]
    fn all_of_kafka_4_2_are_listed() {
        // As a Kafka 4.2 broker answers DescribeConfigs of a topic (`kafka-configs --describe --all`).
        let kafkas = "cleanup.policy compression.gzip.level compression.lz4.level compression.type \
            compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms \
            follower.replication.throttled.replicas index.interval.bytes \
            leader.replication.throttled.replicas local.retention.bytes local.retention.ms \
            max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms \
            message.timestamp.before.max.ms message.timestamp.type min.cleanable.dirty.ratio \
            min.compaction.lag.ms min.insync.replicas preallocate remote.log.copy.disable \
            remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms \
            segment.bytes segment.index.bytes segment.jitter.ms segment.ms \
            unclean.leader.election.enable";
        let listed = ENTRIES.iter().map(|entry| entry.name);
        let listed = listed.filter(|name| !name.starts_with("whimbrel."));
        assert!(listed.eq(kafkas.split_whitespace()));
        assert_eq!(entry("segment.ms").map(|e| e.name), Some("segment.ms"));
        assert!(entry("message.format.version").is_none());
    }

    #[test]
    fn unknown_names_and_values_out_of_range_are_refused_with_the_reason() {
        for (name, value) in [
            ("sasl.jaas.config", "x"),
            ("segment.bytes", "1023"),
            ("segment.bytes", "1 GiB"),
            ("cleanup.policy", "compact;rm"),
            ("cleanup.policy", "delete,delete"),
            ("cleanup.policy", ","),
            ("compression.type", "brotli"),
            ("compression.gzip.level", "0"),
            ("retention.ms", "99999999999999999999"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("unclean.leader.election.enable", "true"),
            ("leader.replication.throttled.replicas", "0:1,2"),
        ] {
            assert!(refuse(name, value).is_some(), "{name}={value}");
        }
        for (name, value) in [
            ("segment.bytes", "1024"),
            ("cleanup.policy", "compact, delete"),
            ("cleanup.policy", ""),
            ("compression.gzip.level", "-1"),
            ("preallocate", "TRUE"),
            ("leader.replication.throttled.replicas", "0:1,2:3"),
            ("follower.replication.throttled.replicas", "*"),
        ] {
            assert_eq!(refuse(name, value), None, "{name}={value}");
        }
        let why = refuse("segment.ms", "0").unwrap();
        assert!(
            why.contains("segment.ms") && why.contains("from 1"),
            "{why}"
        );
    }
}
