//! What a broker runs with, under the names that Kafka's tools look for. Read-only: the file decides.
//!
//! Kafka's defaults for topics (`log.*`) stand here with the values that topics without their own have.

use whimbrel_fleet::topic_config::{self, Kind};

use crate::options::Options;

/// One config of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub name: &'static str,
    pub value: String,
    pub kind: Kind,
    /// Another value than the default.
    pub set: bool,
    pub doc: &'static str,
}

/// All of them, by name.
pub fn all(options: &Options) -> Vec<Config> {
    let default = Options::default();
    let mut all: Vec<Config> = own(options)
        .into_iter()
        .zip(own(&default))
        .map(|((name, kind, value, doc), (.., usual, _))| Config {
            set: value != usual,
            name,
            value,
            kind,
            doc,
        })
        .collect();
    let of_topics = topic_config::ENTRIES.iter().filter_map(|entry| {
        Some(Config {
            name: entry.broker_name?,
            value: entry.default.to_owned(),
            kind: entry.kind,
            set: false,
            doc: entry.doc,
        })
    });
    all.extend(of_topics);
    all.sort_by_key(|config| config.name);
    all
}

type Own = (&'static str, Kind, String, &'static str);

fn own(options: &Options) -> Vec<Own> {
    let limits = &options.limits;
    let listener = |at: &whimbrel_fleet::HostPort| format!("PLAINTEXT://{at}");
    let advertised = options.advertise.as_ref().unwrap_or(&options.listen);
    vec![
        (
            "advertised.listeners",
            Kind::List,
            listener(advertised),
            "Where clients are told to connect.",
        ),
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            options.auto_create_topics.to_string(),
            "Whether a producer's first look for a topic creates it.",
        ),
        (
            "broker.id",
            Kind::Int,
            options.node_id.to_string(),
            "Fleet-wide unique.",
        ),
        (
            "broker.rack",
            Kind::String,
            options.region.to_string(),
            "The region this broker stands in.",
        ),
        (
            "connections.max.idle.ms",
            Kind::Long,
            millis(limits.idle_time.0),
            "A connection without requests is closed after so long.",
        ),
        (
            "default.replication.factor",
            Kind::Int,
            "1".to_owned(),
            "Copies inside each region of a topic that asks for no number.",
        ),
        (
            "fetch.max.bytes",
            Kind::Int,
            limits.fetch_bytes.0.to_string(),
            "Largest fetch answer.",
        ),
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            millis(limits.group_initial_rebalance_delay.0),
            "How long an empty group waits for more members before its first assignment.",
        ),
        (
            "listeners",
            Kind::List,
            listener(&options.listen),
            "Where this broker listens for clients.",
        ),
        (
            "log.dirs",
            Kind::String,
            options.data_dir.display().to_string(),
            "The one data directory.",
        ),
        (
            "max.connections",
            Kind::Int,
            limits.connections.to_string(),
            "Connections in all.",
        ),
        (
            "max.connections.per.ip",
            Kind::Int,
            limits.connections_per_ip.to_string(),
            "Connections from one address.",
        ),
        (
            "node.id",
            Kind::Int,
            options.node_id.to_string(),
            "Fleet-wide unique.",
        ),
        (
            "num.partitions",
            Kind::Int,
            options.default_partitions.to_string(),
            "Partitions of a topic that asks for no number.",
        ),
        (
            "offsets.topic.num.partitions",
            Kind::Int,
            "50".to_owned(),
            "Partitions that keep the positions of consumer groups.",
        ),
        (
            "queued.max.request.bytes",
            Kind::Long,
            limits.request_memory.0.to_string(),
            "What requests of all connections may hold together.",
        ),
        (
            "socket.request.max.bytes",
            Kind::Int,
            limits.request_bytes.0.to_string(),
            "Longest request.",
        ),
    ]
}

fn millis(span: std::time::Duration) -> String {
    span.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_once_and_a_changed_option_counts_as_set() {
        let options = Options {
            default_partitions: 4,
            ..Options::default()
        };
        let all = all(&options);
        assert!(all.windows(2).all(|w| w[0].name < w[1].name));
        let set: Vec<_> = all
            .iter()
            .filter(|c| c.set)
            .map(|c| (c.name, &*c.value))
            .collect();
        assert_eq!(set, [("num.partitions", "4")]);
        assert!(
            all.iter()
                .any(|c| c.name == "log.cleanup.policy" && c.value == "delete")
        );
    }
}
