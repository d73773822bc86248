//! Configs that can be set on brokers while they run: which there are and what they may be.
//!
//! The names are Kafka 4.2's dynamic broker configs, so that tools find what they set. All are kept and none has an
//! effect here: what a broker does is its file's to say. Refused are names that are not listed, secrets (the fleet's view
//! goes to everybody), and those whose silent lack of effect would hurt: limits that the file sets, and durability.

mod entries;

use crate::topic_config::{self, Entry, Refusal, Table};

const OF_TOPICS: &str = "Kept without effect: a topic that has no value of its own has the default, whatever stands here.";

/// How changes of them are judged.
pub const TABLE: Table = Table {
    entry,
    unknown: |name| format!("Cannot update these configs dynamically: {name:.128}"),
};

/// Where silence would be taken for a promise: a durability that topics set, limits that the broker's file sets.
const NOT_HERE: [&str; 4] = [
    "listeners",
    "max.connections",
    "max.connections.per.ip",
    "min.insync.replicas",
];

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
        doc: OF_TOPICS,
        works: false,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::topic_config::{Change, Op};

    #[test]
    fn names_rise_defaults_are_valid_and_all_say_that_they_do_nothing() {
        let all = all();
        assert!(all.windows(2).all(|w| w[0].name < w[1].name));
        assert!(entries::ENTRIES.windows(2).all(|w| w[0].name < w[1].name));
        for entry in &all {
            assert_eq!(TABLE.refuse(entry.name, entry.default), None);
            assert!(!entry.works && entry.doc.starts_with("Kept without effect"));
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
            ("min.insync.replicas", "2"),
        ] {
            assert!(TABLE.refuse(name, value).is_some(), "{name}");
        }
        assert!(check_default(&["sasl.enabled.mechanisms".to_owned()]).is_err());
        assert_eq!(check_default(&["background.threads".to_owned()]), Ok(()));
    }
}
