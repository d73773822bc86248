//! What a broker runs with, under the names that Kafka's tools look for: the file decides.
//!
//! Kafka's defaults for topics (`log.*`) stand here with the values that topics without their own have.

use whimbrel_fleet::{
    HostPort,
    group_config::{HEARTBEAT_BOUNDS_MS, SESSION_BOUNDS_MS},
    topic_config::{self, Kind},
};

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
    let mut all = Vec::from(identity(options));
    all.extend(bounds(options));
    all.extend(consumer_groups(options));
    all.extend(groups(options));
    all
}

/// Who it is, where it listens, and what it gives to topics that do not say.
fn identity(options: &Options) -> [Own; 11] {
    let listener = |at: &HostPort| format!("PLAINTEXT://{at}");
    let advertised = options.advertise.as_ref().unwrap_or(&options.listen);
    let id = options.node_id.to_string();
    let created = options.auto_create_topics.to_string();
    let rack = options.rack.clone();
    let rack = rack.unwrap_or_else(|| options.region.to_string());
    let folder = options.data_dir.display().to_string();
    let partitions = options.default_partitions.to_string();
    let one = "1".to_owned();
    let offsets = "50".to_owned();
    [
        (
            "advertised.listeners",
            Kind::List,
            listener(advertised),
            "Where clients are told to connect.",
        ),
        (
            "auto.create.topics.enable",
            Kind::Boolean,
            created,
            "Whether a look for a topic that is not there creates it.",
        ),
        ("broker.id", Kind::Int, id.clone(), "Fleet-wide unique."),
        (
            "broker.rack",
            Kind::String,
            rack,
            "Where this broker stands: its region, unless it was told a place in it.",
        ),
        (
            "default.replication.factor",
            Kind::Int,
            one,
            "Copies inside each region of a topic that does not say.",
        ),
        (
            "listeners",
            Kind::List,
            listener(&options.listen),
            "Where this broker listens for clients.",
        ),
        (
            "log.dir",
            Kind::String,
            folder.clone(),
            "The data directory.",
        ),
        ("log.dirs", Kind::String, folder, "The data directory."),
        ("node.id", Kind::Int, id, "Fleet-wide unique."),
        (
            "num.partitions",
            Kind::Int,
            partitions,
            "Partitions of a topic that does not say.",
        ),
        (
            "offsets.topic.num.partitions",
            Kind::Int,
            offsets,
            "Partitions that keep the positions of groups.",
        ),
    ]
}

/// What clients can make it hold.
fn bounds(options: &Options) -> [Own; 9] {
    let limits = &options.limits;
    let idle = millis(limits.idle_time.0);
    let fetch = limits.fetch_bytes.0.to_string();
    let memory = limits.request_memory.0.to_string();
    let request = limits.request_bytes.0.to_string();
    let (all, per_ip) = (
        limits.connections.to_string(),
        limits.connections_per_ip.to_string(),
    );
    let sessions = limits.fetch_sessions.to_string();
    let retention = millis(options.retention_check_interval.0);
    let of_sasl = options.auth.as_ref();
    let of_sasl = of_sasl.filter(|auth| !auth.mechanisms.is_empty());
    let reauth = of_sasl.map_or_else(|| "0".to_owned(), |auth| millis(auth.max_reauth.0));
    [
        (
            "connections.max.idle.ms",
            Kind::Long,
            idle,
            "A connection without requests is closed then.",
        ),
        (
            "connections.max.reauth.ms",
            Kind::Long,
            reauth,
            "Who has proved who it is has to prove it again then.",
        ),
        ("fetch.max.bytes", Kind::Int, fetch, "Largest fetch answer."),
        (
            "log.retention.check.interval.ms",
            Kind::Long,
            retention,
            "How often log starts are moved by retention.",
        ),
        ("max.connections", Kind::Int, all, "Connections in all."),
        (
            "max.connections.per.ip",
            Kind::Int,
            per_ip,
            "Connections from one address.",
        ),
        (
            "max.incremental.fetch.session.cache.slots",
            Kind::Int,
            sessions,
            "Fetch sessions in all.",
        ),
        (
            "queued.max.request.bytes",
            Kind::Long,
            memory,
            "What all requests may hold together.",
        ),
        (
            "socket.request.max.bytes",
            Kind::Int,
            request,
            "Longest request.",
        ),
    ]
}

/// What groups of the consumer protocol may do.
fn consumer_groups(options: &Options) -> [Own; 8] {
    let limits = &options.limits;
    let size = limits.group_max_size.to_string();
    [
        (
            "group.consumer.assignors",
            Kind::List,
            "uniform,range".to_owned(),
            "Assignors of the consumer protocol, the default first.",
        ),
        (
            "group.consumer.heartbeat.interval.ms",
            Kind::Int,
            millis(limits.group_consumer_heartbeat_interval.0),
            "How often members of the consumer protocol are heard.",
        ),
        (
            "group.consumer.max.heartbeat.interval.ms",
            Kind::Int,
            HEARTBEAT_BOUNDS_MS.1.to_string(),
            "Longest heartbeat interval a group may be given.",
        ),
        (
            "group.consumer.max.session.timeout.ms",
            Kind::Int,
            SESSION_BOUNDS_MS.1.to_string(),
            "Longest session a group may be given.",
        ),
        (
            "group.consumer.min.heartbeat.interval.ms",
            Kind::Int,
            HEARTBEAT_BOUNDS_MS.0.to_string(),
            "Shortest heartbeat interval a group may be given.",
        ),
        (
            "group.consumer.min.session.timeout.ms",
            Kind::Int,
            SESSION_BOUNDS_MS.0.to_string(),
            "Shortest session a group may be given.",
        ),
        (
            "group.consumer.max.size",
            Kind::Int,
            size,
            "Most members of a group of the consumer protocol.",
        ),
        (
            "group.consumer.session.timeout.ms",
            Kind::Int,
            millis(limits.group_consumer_session_timeout.0),
            "A member of the consumer protocol that is silent for so long is out.",
        ),
    ]
}

/// What classic groups may do, and what all keep.
fn groups(options: &Options) -> [Own; 5] {
    let limits = &options.limits;
    let size = limits.group_max_size.to_string();
    let retention_minutes = limits.offsets_retention.0.as_secs() / 60;
    [
        (
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            millis(limits.group_initial_rebalance_delay.0),
            "How long an empty group waits for more members.",
        ),
        (
            "group.max.session.timeout.ms",
            Kind::Int,
            millis(limits.group_max_session_timeout.0),
            "Longest session a classic member may ask for.",
        ),
        (
            "group.max.size",
            Kind::Int,
            size,
            "Most members of a classic group.",
        ),
        (
            "group.min.session.timeout.ms",
            Kind::Int,
            millis(limits.group_min_session_timeout.0),
            "Shortest session a classic member may ask for.",
        ),
        (
            "offsets.retention.minutes",
            Kind::Int,
            retention_minutes.to_string(),
            "How long positions outlive their use.",
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
