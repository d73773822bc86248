//! What a broker is told at start: plain data, from the `[broker]` table and the top of the config file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, RegionName};
use whimbrel_runtime::unit::{Size, Span};

use crate::{auth, fetch_sessions::Bounds, quotas::Defaults};

/// Every default has its reason beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Options {
    /// Fleet-wide unique.
    pub node_id: i32,
    pub region: RegionName,
    /// Kafka's `broker.rack`: consumers that name it as their `client.rack` read here what they may (KIP-392).
    /// The region's name when not set; those that name the region are served by its brokers in any case.
    pub rack: Option<String>,
    pub data_dir: PathBuf,
    /// Taken from the data directory, or from the controller at the first start, when not set.
    pub fleet_id: Option<String>,
    /// Where Kafka clients connect. Port 0 picks one.
    pub listen: HostPort,
    /// What clients are told to connect to; `listen` as bound when not set.
    pub advertise: Option<HostPort>,
    /// The replica stream, for our own processes only.
    pub replica_listen: HostPort,
    /// What other regions are told to connect to for the replica stream; `replica-listen` as bound when not
    /// set. A region is often reached through another address than its own processes use.
    pub advertise_replica: Option<HostPort>,
    /// tonic, for this node's tiering daemon.
    pub rpc_listen: HostPort,
    pub admin_listen: HostPort,
    pub controllers: Vec<HostPort>,
    /// This node's tiering daemon; without one nothing is freed and orphan tails stay in the data directory.
    pub tiering: Option<HostPort>,
    /// On, as in Kafka: many clients count on it.
    pub auto_create_topics: bool,
    /// 1, as in Kafka.
    pub default_partitions: i32,
    /// Kafka's `replica.lag.time.max.ms`: a follower that was not caught up for so long leaves the ack set.
    /// One that is down leaves it sooner, when its lease is over.
    pub replica_lag_time: Span,
    /// Allows a bind to other than loopback although there is no TLS and no authentication. `listen` alone needs it
    /// not where both are on; the other listeners are for our own processes and have neither.
    pub insecure_bind: bool,
    /// Who clients are is asked, and what they may do. Nobody is asked anything when not set.
    pub auth: Option<auth::Options>,
    /// TLS for Kafka clients.
    pub tls: Option<auth::Tls>,
    /// Room on the data directory's filesystem that clients' records may not take, so that offsets,
    /// checkpoints and epochs can still be written. 5 % of the filesystem, at most 1 GiB, when not set.
    pub disk_reserve: Option<Size>,
    /// Kafka's `log.retention.check.interval.ms`. Freeing local copies of what the bucket holds does not wait for it.
    pub retention_check_interval: Span,
    /// How often a consistent cut of each failover group at home here is taken, and the newest one that this
    /// region holds is looked for. At least twice `limits.cut-hold`; zero does neither. A restore loses what came after
    /// the newest cut, and each one costs markers a pause of milliseconds: five seconds weigh little of both.
    pub cut_interval: Span,
    pub cleaner: Cleaner,
    pub limits: Limits,
}

/// Compaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Cleaner {
    /// Memory for the keys of one log, while it is cleaned (Kafka's `log.cleaner.dedupe.buffer.size`): two
    /// million keys; a log with more is cleaned in several goes.
    pub memory: Size,
    /// Reading and writing together: a quarter of what a plain disk gives, so that acks do not feel it.
    pub bytes_per_second: Size,
    /// Pause when nothing is due: Kafka's `log.cleaner.backoff.ms`.
    pub backoff: Span,
    /// For so long a region whose copy does not move keeps a log from being cleaned above it. Then cleaning goes
    /// on, and that region's copy is stopped loudly (WB-206) when it is back. A week, as Kafka's retention has.
    pub region_patience: Span,
}

impl Default for Cleaner {
    fn default() -> Self {
        Self {
            memory: Size::mib(64),
            bytes_per_second: Size::mib(64),
            backoff: Span::secs(15),
            region_patience: Span::secs(7 * 24 * 3600),
        }
    }
}

/// Bounds on what clients and peers can make this process hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request: room for a produce request of thirty partitions with a full batch each.
    pub request_bytes: Size,
    /// All requests of all connections together, and what they are decoded to, above the 96 KiB that each connection may
    /// always hold.
    pub request_memory: Size,
    /// All answers that their readers have not taken yet, and what fetches remember that wait, above the 64 KiB that
    /// each connection may always hold. One answer gets at most an eighth of what is left: `fetch_bytes`, while there is
    /// nobody else.
    pub answer_memory: Size,
    /// Requests read ahead of their answers, per connection.
    pub pipeline: usize,
    /// Connections in all: each costs a few KiB and a descriptor.
    pub connections: usize,
    /// From one address: a crowd behind one gateway, and not the whole of `connections`.
    pub connections_per_ip: usize,
    /// A request that has begun must be complete by then.
    pub request_time: Span,
    /// Kafka's `connections.max.idle.ms`.
    pub idle_time: Span,
    /// A client that does not read for so long is closed.
    pub write_time: Span,
    /// Largest fetch answer: Kafka's `fetch.max.bytes` of the broker.
    pub fetch_bytes: Size,
    /// Fetch sessions in all: Kafka's `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions: usize,
    /// What all fetch sessions remember together: about 250,000 partitions.
    pub fetch_session_memory: Size,
    /// What a client (user and client id) may send in produce requests a second, where the fleet has no quota
    /// for it: more than a network card of today takes, so that only what runs wild meets it.
    pub client_produce_bytes: Size,
    /// The same of what it is sent in fetch answers.
    pub client_fetch_bytes: Size,
    /// The same of the time that its requests take, in hundredths of one core.
    pub client_request_percentage: u32,
    /// The same of partitions that it creates and deletes a second.
    pub client_mutations: u32,
    /// Connections a second from one address, where the fleet has no quota for it. Later ones wait.
    pub connections_per_second: u32,
    /// Connections a second from one address that may bring what no Kafka client sends, or a login that fails. Those that
    /// come from there after more of them wait up to two seconds before they are read. Room for probes and for a few misled clients; clients
    /// behind the same address keep their connections, and wait for new ones.
    pub bad_connections_per_second: u32,
    /// Credit granted to a mirror: what may be on its way, not yet fsynced.
    pub replica_credit: Size,
    /// How long writes are parked while a group moves away as planned.
    pub park_time: Span,
    /// How long an empty consumer group waits for more members before its first assignment: Kafka's
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay: Span,
    /// How long markers of transactions may be kept back while a cut is taken; it is given up then. A producer may have
    /// to wait so long before it can begin its next transaction.
    pub cut_hold: Span,
    /// The longest timeout a transactional producer may ask for: Kafka's `transaction.max.timeout.ms`.
    pub transaction_max_timeout: Span,
    /// Shortest session a classic member may ask for: Kafka's `group.min.session.timeout.ms`.
    pub group_min_session_timeout: Span,
    /// Longest session a classic member may ask for: Kafka's `group.max.session.timeout.ms`.
    pub group_max_session_timeout: Span,
    /// Most members of a group, of either protocol: Kafka's `group.max.size` and `group.consumer.max.size`. Kafka has no
    /// bound; a group's record, or what a heartbeat looks through, grows with its members.
    pub group_max_size: usize,
    /// How long positions outlive their use: Kafka's `offsets.retention.minutes`.
    pub offsets_retention: Span,
    /// A member of the consumer protocol that was not heard for so long is out: Kafka's
    /// `group.consumer.session.timeout.ms`.
    pub group_consumer_session_timeout: Span,
    /// How often members of the consumer protocol are told to be heard: Kafka's
    /// `group.consumer.heartbeat.interval.ms`.
    pub group_consumer_heartbeat_interval: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: Size::mib(32),
            request_memory: Size::mib(512),
            answer_memory: Size::mib(512),
            pipeline: 128,
            connections: 8_000,
            connections_per_ip: 4_000,
            request_time: Span::secs(30),
            idle_time: Span::secs(600),
            write_time: Span::secs(30),
            fetch_bytes: Size::mib(55),
            fetch_sessions: 1_000,
            fetch_session_memory: Size::mib(96),
            client_produce_bytes: Size::mib(4_096),
            client_fetch_bytes: Size::mib(8_192),
            client_request_percentage: 3_200,
            client_mutations: 20_000,
            connections_per_second: 2_000,
            bad_connections_per_second: 20,
            replica_credit: Size::mib(64),
            park_time: Span::millis(500),
            group_initial_rebalance_delay: Span::secs(3),
            cut_hold: Span::millis(100),
            transaction_max_timeout: Span::secs(15 * 60),
            group_min_session_timeout: Span::secs(6),
            group_max_session_timeout: Span::secs(30 * 60),
            group_max_size: 5_000,
            offsets_retention: Span::secs(7 * 24 * 3_600),
            group_consumer_session_timeout: Span::secs(45),
            group_consumer_heartbeat_interval: Span::secs(5),
        }
    }
}

impl Limits {
    pub(crate) fn fetch_sessions(&self) -> Bounds {
        Bounds {
            slots: self.fetch_sessions,
            bytes: usize::try_from(self.fetch_session_memory.0).unwrap_or(usize::MAX),
        }
    }
}

impl Limits {
    pub(crate) fn bad_connections(&self) -> f64 {
        f64::from(self.bad_connections_per_second.max(1))
    }

    pub(crate) fn quotas(&self) -> Defaults {
        // A rate of nothing would be no rate.
        let bytes = |size: Size| size.0.max(1) as f64;
        let number = |number: u32| f64::from(number.max(1));
        Defaults {
            produce_bytes: bytes(self.client_produce_bytes),
            fetch_bytes: bytes(self.client_fetch_bytes),
            request_percentage: number(self.client_request_percentage),
            mutations: number(self.client_mutations),
            connections: number(self.connections_per_second),
        }
    }
}

impl Options {
    /// What it would be wrong to start with: each problem in a sentence that names the key.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let every = self.cut_interval.0;
        if every.is_zero() || every >= self.limits.cut_hold.0.saturating_mul(2) {
            return Vec::new();
        }
        vec!["cut-interval must be 0s (no cuts) or at least twice limits.cut-hold".to_owned()]
    }
}

impl Default for Options {
    fn default() -> Self {
        let loopback = |port| HostPort::new("127.0.0.1", port);
        Self {
            node_id: 1,
            region: RegionName::from("east"),
            rack: None,
            data_dir: PathBuf::from("./broker-data"),
            fleet_id: None,
            listen: loopback(9092),
            advertise: None,
            replica_listen: loopback(0),
            advertise_replica: None,
            rpc_listen: loopback(0),
            admin_listen: loopback(0),
            controllers: Vec::new(),
            tiering: None,
            auto_create_topics: true,
            default_partitions: 1,
            replica_lag_time: Span::secs(30),
            insecure_bind: false,
            auth: None,
            tls: None,
            disk_reserve: None,
            retention_check_interval: Span::secs(300),
            cut_interval: Span::secs(5),
            cleaner: Cleaner::default(),
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_set_is_finite() {
        let Defaults {
            produce_bytes,
            fetch_bytes,
            request_percentage,
            mutations,
            connections,
        } = Limits::default().quotas();
        for rate in [
            produce_bytes,
            fetch_bytes,
            request_percentage,
            mutations,
            connections,
        ] {
            assert!(rate.is_finite() && rate > 0.0 && rate < 1e12, "{rate}");
        }
        let Limits {
            connections,
            connections_per_ip,
            ..
        } = Limits::default();
        assert!(connections_per_ip < connections && connections < 1_000_000);
    }
}
