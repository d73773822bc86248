//! Configs that can be set on brokers while they run: which there are and what they may be.
//!
//! The names are Kafka 4.2's dynamic broker configs, so that tools find what they set, and two that Kafka reads from
//! its file. What is set for all brokers at once is in force where it is a default of topics; all else is kept without
//! effect: what one broker does is its file's to say. Refused are names that are not listed, secrets (the fleet's view
//! goes to everybody), and those whose silent lack of effect would hurt: limits that the file sets, and for one
//! broker alone what must be the same on all.

mod entries;

use crate::topic_config::{self, Entry, Refusal, Table};

/// Copies inside each region of a topic that does not say.
pub const DEFAULT_COPIES: &str = "default.replication.factor";
/// Partitions of a topic that does not say.
pub const DEFAULT_PARTITIONS: &str = "num.partitions";
const MIN_INSYNC: &str = "min.insync.replicas";

/// What one broker may not have for itself.
const OF_ALL: [&str; 3] = [DEFAULT_COPIES, DEFAULT_PARTITIONS, MIN_INSYNC];

const OF_TOPICS: &str = "Set for all brokers at once: the value of topics that have none of their own. Kept without effect on one broker.";
const OF_TOPICS_KEPT: &str = "Kept without effect, as on topics.";

/// How changes of them are judged.
pub const TABLE: Table = Table {
    entry,
    unknown: |name| format!("Cannot update these configs dynamically: {name:.128}"),
};

/// Where silence would be taken for a promise: limits that the broker's file sets.
const NOT_HERE: [&str; 3] = ["listeners", "max.connections", "max.connections.per.ip"];

/// All of them, by name.
pub fn all() -> Vec<Entry> {
    let of_topics = topic_config::ENTRIES.iter().filter_map(of_topics);
    let mut all: Vec<Entry> = entries::ENTRIES.iter().copied().chain(of_topics).collect();
    all.sort_by_key(|entry| entry.name);
    all
}

fn entry(name: &str) -> Option<Entry> {
    let at = entries::ENTRIES.binary_search_by(|entry| entry.name.cmp(name));
    at.ok().map(|at| entries::ENTRIES[at]).or_else(|| {
        let mut of_topics = topic_config::ENTRIES.iter().filter_map(of_topics);
        of_topics.find(|entry| entry.name == name)
    })
}

/// The default of a topic's config, as brokers have it.
fn of_topics(entry: &Entry) -> Option<Entry> {
    let name = entry.broker_name.filter(|name| !NOT_HERE.contains(name))?;
    Some(Entry {
        name,
        broker_name: None,
        doc: if entry.works {
            OF_TOPICS
        } else {
            OF_TOPICS_KEPT
        },
        ..*entry
    })
}

/// Why these cannot be set for all brokers at once: Kafka wants to be told which broker's security is meant.
pub fn check_default<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), Refusal> {
    let of_one = |name: &&String| {
        ["ssl.", "sasl.", "listener"]
            .iter()
            .any(|start| name.starts_with(start))
            || *name == "principal.builder.class"
    };
    match names.into_iter().find(of_one) {
        Some(name) => Err(Refusal(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: {name}"
        ))),
        None => Ok(()),
    }
}

/// Why these cannot be set for one broker: whoever leads must do by them.
pub fn check_one<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), Refusal> {
    match names
        .into_iter()
        .find(|name| OF_ALL.contains(&name.as_str()))
    {
        Some(name) => Err(Refusal(format!(
            "Cannot update these configs for one broker, only for all of them: {name}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topic_config::{Change, Op};

    #[test]
    fn names_rise_defaults_are_valid_and_what_does_nothing_says_so() {
        let all = all();
        assert!(all.windows(2).all(|w| w[0].name < w[1].name));
        assert!(entries::ENTRIES.windows(2).all(|w| w[0].name < w[1].name));
        for entry in &all {
            assert_eq!(TABLE.refuse(entry.name, entry.default), None);
            let idle = entry.doc.starts_with("Kept without effect");
            assert_eq!(entry.works, !idle, "{}", entry.name);
        }
    }

    #[test]
    fn known_ones_are_kept_and_secrets_and_limits_of_the_file_are_not() {
        let none = BTreeMap::new();
        let append = Change {
            op: Op::Append,
            ..Change::set("log.cleanup.policy", "compact")
        };
        let changes = [Change::set("background.threads", "9"), append];
        let after = TABLE.changed(&none, &changes, false).unwrap();
        assert_eq!(after["log.cleanup.policy"], "delete,compact");
        for (name, value) in [
            ("background.threads", "0"),
            ("node.id", "1"),
            ("no.such.config", "1"),
            ("sasl.jaas.config", "x"),
            ("ssl.keystore.password", "x"),
            ("listener.name.external.ssl.keystore.location", "x"),
            ("max.connections", "1"),
            ("min.insync.replicas", "0"),
            ("default.replication.factor", "0"),
            ("num.partitions", "10001"),
        ] {
            assert!(TABLE.refuse(name, value).is_some(), "{name}");
        }
        assert!(check_default(&["sasl.enabled.mechanisms".to_owned()]).is_err());
        assert_eq!(check_default(&["background.threads".to_owned()]), Ok(()));
        assert!(check_one(&[MIN_INSYNC.to_owned()]).is_err());
        assert_eq!(check_one(&["background.threads".to_owned()]), Ok(()));
    }
}
