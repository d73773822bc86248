//! The table, by name, without the defaults of topic configs. What does not work here says why.

use super::{DEFAULT_COPIES, DEFAULT_PARTITIONS};
use crate::{
    naming::MAX_PARTITIONS,
    topic_config::{Entry, Kind, Rule},
};

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;
const FROM_ONE: Rule = Rule::Whole(1, INT);

const THREADS: &str = "Kept without effect: there are no threads for this alone here.";
const PLUGINS: &str = "Kept without effect: no foreign classes are loaded here.";
const COPIES: &str = "Kept without effect: copying is not held back by a rate.";
const LISTENERS: &str = "Kept without effect: listeners and their security are read from the broker's file when it starts.";
const CLEANER: &str = "Kept without effect: the cleaner has bounds of its own.";
const CONNECTIONS: &str = "Kept without effect: bounds of connections are read from the broker's file when it starts; rates of addresses are quotas.";
const PRODUCERS: &str =
    "Kept without effect: what is known of producers is kept and checked always.";
const TIERS: &str = "Kept without effect: the tiering daemon's own file decides.";
const KERBEROS: &str = "Kept without effect: there is no Kerberos here.";
const LOGINS: &str = "Kept without effect: brokers do not log in to each other by SASL.";

pub(super) const ENTRIES: &[Entry] = &[
    kept("background.threads", Kind::Int, "10", FROM_ONE, THREADS),
    kept("config.providers", Kind::List, "", Rule::Text, PLUGINS),
    works(
        DEFAULT_COPIES,
        Kind::Int,
        "1",
        Rule::Whole(1, 32),
        "Copies inside each region of a topic that does not say. Set for all brokers at once.",
    ),
    kept(
        "follower.replication.throttled.rate",
        Kind::Long,
        "9223372036854775807",
        Rule::Whole(0, LONG),
        COPIES,
    ),
    kept(
        "leader.replication.throttled.rate",
        Kind::Long,
        "9223372036854775807",
        Rule::Whole(0, LONG),
        COPIES,
    ),
    kept(
        "listener.security.protocol.map",
        Kind::String,
        "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "log.cleaner.backoff.ms",
        Kind::Long,
        "15000",
        Rule::Whole(0, LONG),
        CLEANER,
    ),
    kept(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long,
        "134217728",
        Rule::Whole(0, LONG),
        CLEANER,
    ),
    kept(
        "log.cleaner.io.buffer.load.factor",
        Kind::Double,
        "0.9",
        Rule::Number,
        CLEANER,
    ),
    kept(
        "log.cleaner.io.buffer.size",
        Kind::Int,
        "524288",
        Rule::Whole(0, INT),
        CLEANER,
    ),
    kept(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Double,
        "1.7976931348623157E308",
        Rule::Number,
        CLEANER,
    ),
    kept(
        "log.cleaner.threads",
        Kind::Int,
        "1",
        Rule::Whole(0, INT),
        CLEANER,
    ),
    kept(
        "log.flush.interval.messages",
        Kind::Long,
        "1",
        Rule::Whole(1, LONG),
        "Kept without effect: only a topic that names flush.messages itself is acknowledged before the sync.",
    ),
    kept(
        "max.connection.creation.rate",
        Kind::Int,
        "2147483647",
        Rule::Whole(0, INT),
        CONNECTIONS,
    ),
    kept(
        "max.connections.per.ip.overrides",
        Kind::String,
        "",
        Rule::Text,
        CONNECTIONS,
    ),
    kept(
        "metric.reporters",
        Kind::List,
        "org.apache.kafka.common.metrics.JmxReporter",
        Rule::Text,
        PLUGINS,
    ),
    kept("num.io.threads", Kind::Int, "8", FROM_ONE, THREADS),
    kept("num.network.threads", Kind::Int, "3", FROM_ONE, THREADS),
    works(
        DEFAULT_PARTITIONS,
        Kind::Int,
        "1",
        Rule::Whole(1, MAX_PARTITIONS as i64),
        "Partitions of a topic that does not say. Set for all brokers at once.",
    ),
    kept(
        "num.recovery.threads.per.data.dir",
        Kind::Int,
        "2",
        FROM_ONE,
        THREADS,
    ),
    kept("num.replica.fetchers", Kind::Int, "1", FROM_ONE, THREADS),
    kept(
        "principal.builder.class",
        Kind::Class,
        "org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder",
        Rule::Text,
        PLUGINS,
    ),
    kept(
        "producer.id.expiration.ms",
        Kind::Int,
        "86400000",
        FROM_ONE,
        PRODUCERS,
    ),
    kept(
        "remote.fetch.max.wait.ms",
        Kind::Int,
        "500",
        FROM_ONE,
        TIERS,
    ),
    kept(
        "remote.list.offsets.request.timeout.ms",
        Kind::Long,
        "30000",
        Rule::Whole(1, LONG),
        TIERS,
    ),
    kept(
        "remote.log.index.file.cache.total.size.bytes",
        Kind::Long,
        "1073741824",
        Rule::Whole(1, LONG),
        TIERS,
    ),
    kept(
        "remote.log.manager.copier.thread.pool.size",
        Kind::Int,
        "10",
        FROM_ONE,
        TIERS,
    ),
    kept(
        "remote.log.manager.copy.max.bytes.per.second",
        Kind::Long,
        "9223372036854775807",
        Rule::Whole(1, LONG),
        TIERS,
    ),
    kept(
        "remote.log.manager.expiration.thread.pool.size",
        Kind::Int,
        "10",
        FROM_ONE,
        TIERS,
    ),
    kept(
        "remote.log.manager.fetch.max.bytes.per.second",
        Kind::Long,
        "9223372036854775807",
        Rule::Whole(1, LONG),
        TIERS,
    ),
    kept(
        "remote.log.manager.follower.thread.pool.size",
        Kind::Int,
        "2",
        FROM_ONE,
        TIERS,
    ),
    kept(
        "remote.log.reader.threads",
        Kind::Int,
        "10",
        FROM_ONE,
        TIERS,
    ),
    kept(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        Kind::Long,
        "9223372036854775807",
        Rule::Whole(0, LONG),
        COPIES,
    ),
    kept(
        "sasl.enabled.mechanisms",
        Kind::List,
        "GSSAPI",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "sasl.kerberos.kinit.cmd",
        Kind::String,
        "/usr/bin/kinit",
        Rule::Text,
        KERBEROS,
    ),
    kept(
        "sasl.kerberos.min.time.before.relogin",
        Kind::Long,
        "60000",
        Rule::Whole(i64::MIN, LONG),
        KERBEROS,
    ),
    kept(
        "sasl.kerberos.principal.to.local.rules",
        Kind::List,
        "DEFAULT",
        Rule::Text,
        KERBEROS,
    ),
    kept(
        "sasl.kerberos.service.name",
        Kind::String,
        "",
        Rule::Text,
        KERBEROS,
    ),
    kept(
        "sasl.kerberos.ticket.renew.jitter",
        Kind::Double,
        "0.05",
        Rule::Number,
        KERBEROS,
    ),
    kept(
        "sasl.kerberos.ticket.renew.window.factor",
        Kind::Double,
        "0.8",
        Rule::Number,
        KERBEROS,
    ),
    kept(
        "sasl.login.refresh.buffer.seconds",
        Kind::Short,
        "300",
        Rule::Whole(0, 3_600),
        LOGINS,
    ),
    kept(
        "sasl.login.refresh.min.period.seconds",
        Kind::Short,
        "60",
        Rule::Whole(0, 900),
        LOGINS,
    ),
    kept(
        "sasl.login.refresh.window.factor",
        Kind::Double,
        "0.8",
        Rule::Number,
        LOGINS,
    ),
    kept(
        "sasl.login.refresh.window.jitter",
        Kind::Double,
        "0.05",
        Rule::Number,
        LOGINS,
    ),
    kept(
        "sasl.mechanism.inter.broker.protocol",
        Kind::String,
        "GSSAPI",
        Rule::Text,
        LOGINS,
    ),
    kept("ssl.cipher.suites", Kind::List, "", Rule::Text, LISTENERS),
    kept(
        "ssl.client.auth",
        Kind::String,
        "none",
        Rule::OneOf(&["required", "requested", "none"]),
        LISTENERS,
    ),
    kept(
        "ssl.enabled.protocols",
        Kind::List,
        "TLSv1.2,TLSv1.3",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "ssl.endpoint.identification.algorithm",
        Kind::String,
        "https",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "ssl.engine.factory.class",
        Kind::Class,
        "",
        Rule::Text,
        PLUGINS,
    ),
    kept(
        "ssl.keymanager.algorithm",
        Kind::String,
        "SunX509",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "ssl.protocol",
        Kind::String,
        "TLSv1.3",
        Rule::Text,
        LISTENERS,
    ),
    kept("ssl.provider", Kind::String, "", Rule::Text, LISTENERS),
    kept(
        "ssl.secure.random.implementation",
        Kind::String,
        "",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "ssl.trustmanager.algorithm",
        Kind::String,
        "PKIX",
        Rule::Text,
        LISTENERS,
    ),
    kept(
        "transaction.partition.verification.enable",
        Kind::Boolean,
        "true",
        Rule::Boolean,
        PRODUCERS,
    ),
];

const fn works(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    doc: &'static str,
) -> Entry {
    Entry {
        works: true,
        ..kept(name, kind, default, rule, doc)
    }
}

const fn kept(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    rule: Rule,
    doc: &'static str,
) -> Entry {
    Entry {
        name,
        broker_name: None,
        kind,
        default,
        rule,
        doc,
        works: false,
    }
}
