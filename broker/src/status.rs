//! What `/status`, `/readyz` and `/metrics` say, computed when asked.

use std::sync::{Arc, Weak};

use serde_json::{Value, json};
use tokio::sync::watch;
use whimbrel_log::Health;
use whimbrel_rpc::controller::Registration;

use crate::{
    broker::Broker,
    cold::Waiting,
    early_acks,
    partition::{Partition, Role},
    reports,
};

/// Ready: the disk is open and sound, this incarnation is registered, and metadata shows it.
pub fn ready(
    broker: &Arc<Broker>,
    registered: watch::Receiver<Registration>,
) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
    let broker = Arc::downgrade(broker);
    move || {
        let broker = broker.upgrade().ok_or("stopped")?;
        if let Some(failed) = broker.disk.failed() {
            return Err(format!("WB-109: {failed}"));
        }
        let state = registered.borrow().clone();
        match state {
            // Before its own view shows it, metadata would name a controller that is not among the brokers, and admin clients would wait.
            Registration::Done(_)
                if !broker
                    .catalog()
                    .view
                    .listed_brokers()
                    .any(|node| node.id == broker.node) =>
            {
                Err("registered, not in the metadata yet".to_owned())
            }
            Registration::Done(_) => Ok(()),
            Registration::Pending => Err("not registered yet".to_owned()),
            Registration::Refused { code, message } => Err(format!("WB-106: {code}: {message}")),
            Registration::Superseded => {
                Err("WB-107: a later start of this node took over".to_owned())
            }
        }
    }
}

pub fn status(broker: &Arc<Broker>) -> impl Fn() -> Value + Send + Sync + 'static {
    let broker = Arc::downgrade(broker);
    move || {
        broker
            .upgrade()
            .map_or(Value::Null, |broker| describe(&broker))
    }
}

fn describe(broker: &Broker) -> Value {
    let catalog = broker.catalog();
    let mut partitions: Vec<_> = catalog.partitions().collect();
    partitions
        .sort_by(|a, b| (a.log.topic(), a.at.partition).cmp(&(b.log.topic(), b.at.partition)));
    let leases = catalog
        .view
        .groups
        .values()
        .filter(|g| g.home == broker.region)
        .map(|group| {
            let position = broker.home(&group.name).position();
            json!({
                "group": group.name,
                "epoch": group.epoch,
                "held": broker.lease.check(&group.name, group.epoch),
                "covered": broker.lease.covers(&group.name, position),
                "position": position,
            })
        });
    let waits = broker.cold.waiting();
    json!({
        "role": "broker",
        "node": broker.node,
        "region": broker.region,
        "incarnation": broker.incarnation,
        "fleet": broker.fleet_id,
        "view_version": catalog.view.version,
        "disk_failed": broker.disk.failed().map(|f| f.to_string()),
        "disk_free_bytes": broker.disk.free_bytes().ok(),
        "disk_short": broker.disk.is_short(),
        "offenders": broker.offenders.named(),
        "early_acks_lost": early_acks::lost(&broker.disk),
        "leases": leases.collect::<Vec<_>>(),
        "behind_ms": reports::behind_ms(broker).collect::<std::collections::BTreeMap<_, _>>(),
        "cuts": broker.cuts.all(),
        "orphans": broker.orphans.reports(),
        "cleaner": broker.cleaner.status(broker.clock.wall_ms()),
        "partitions": partitions.into_iter().map(|p| partition(broker, p, waits.get(&p.at))).collect::<Vec<_>>(),
    })
}

fn partition(broker: &Broker, partition: &Partition, cold_wait: Option<&Waiting>) -> Value {
    let offsets = partition.log.offsets();
    let role = partition.role();
    let (name, leader_epoch) = match role {
        Role::Leader(terms) => ("leader", Some(terms.leader_epoch)),
        Role::Follower { .. } => ("follower", None),
        Role::None => ("none", None),
    };
    let home = broker
        .catalog()
        .group_of(partition.at)
        .is_some_and(|g| g.home == broker.region);
    let damaged = match partition.log.health() {
        Health::Good => None,
        Health::Damaged { reason } => Some(reason.to_string()),
    };
    json!({
        "topic": partition.log.topic(),
        "topic_id": partition.at.topic_id,
        "partition": partition.at.partition,
        "group": partition.home.group,
        "role": name,
        "region_role": if home { "home" } else { "follower" },
        "leader_epoch": leader_epoch,
        "log_start": offsets.log_start,
        "log_start_lost": offsets.known_log_start.is_none(),
        // Of what lies below, the lineage is lost here until the bucket tells it.
        "lineage_known_from": partition.log.lineage_known_from().map(|first| first.start_offset),
        "local_log_start": offsets.local_log_start,
        "tiered_end": partition.tiered_end(),
        "bucket_differs": partition.bucket_differs(),
        "high_watermark": partition.high_watermark(),
        "stream_end": partition.stream_end(),
        "durable_end": offsets.durable_end,
        "log_end": offsets.log_end,
        "source_end": partition.following.source_end(),
        "insync": partition.insync_size(),
        // Fewer records than this are acknowledged and not synced.
        "unsynced_bound": partition.unsynced_bound(),
        "damaged": damaged,
        // A consumer gets nothing because the bucket does not give it.
        "cold_wait": cold_wait,
    })
}

/// Gauges from positions and instants, set when scraped: they go on rising when the task they describe is
/// stuck.
pub fn scrape(broker: &Arc<Broker>) -> impl Fn() + Send + Sync + 'static {
    let broker: Weak<Broker> = Arc::downgrade(broker);
    move || {
        let Some(broker) = broker.upgrade() else {
            return;
        };
        let labels = [
            ("region", broker.region.to_string()),
            ("node", broker.node.to_string()),
            ("role", "broker".to_owned()),
        ];
        let (mut led, mut followed) = (0_u32, 0_u32);
        for partition in broker.catalog().partitions() {
            match partition.role() {
                Role::Leader(_) => led += 1,
                Role::Follower { .. } => followed += 1,
                Role::None => {}
            }
        }
        metrics::gauge!("whimbrel_partitions_led", &labels).set(f64::from(led));
        metrics::gauge!("whimbrel_partitions_followed", &labels).set(f64::from(followed));
        for (group, behind_ms) in reports::behind_ms(&broker) {
            let mut labels = labels.to_vec();
            labels.push(("group", group.to_string()));
            metrics::gauge!("whimbrel_mirror_behind_seconds", &labels)
                .set(behind_ms as f64 / 1_000.0);
        }
        for group in broker
            .catalog()
            .view
            .groups
            .values()
            .filter(|g| g.home == broker.region)
        {
            let mut labels = labels.to_vec();
            labels.push(("group", group.name.to_string()));
            metrics::gauge!("whimbrel_lease_held", &labels).set(f64::from(u8::from(
                broker.lease.check(&group.name, group.epoch),
            )));
        }
        for (group, newest) in broker.cuts.all() {
            let mut labels = labels.to_vec();
            labels.push(("group", group.to_string()));
            metrics::gauge!("whimbrel_cut_taken_timestamp_seconds", &labels)
                .set(newest.taken_ms as f64 / 1_000.0);
        }
        let waits = broker.cold.waiting();
        let longest = waits.values().map(|w| w.seconds).fold(0.0, f64::max);
        metrics::gauge!("whimbrel_cold_reads_waiting", &labels).set(waits.len() as f64);
        metrics::gauge!("whimbrel_cold_read_wait_seconds", &labels).set(longest);
        let orphaned: u64 = broker.orphans.reports().iter().map(|r| r.records).sum();
        metrics::gauge!("whimbrel_orphan_records", &labels).set(orphaned as f64);
        if let Ok(free) = broker.disk.free_bytes() {
            metrics::gauge!("whimbrel_disk_free_bytes", &labels).set(free as f64);
        }
        let cleaner = broker.cleaner.figures(broker.clock.wall_ms());
        metrics::gauge!("whimbrel_cleaner_dirty_ratio", &labels).set(cleaner.dirty_ratio);
        metrics::gauge!("whimbrel_cleaner_oldest_dirty_seconds", &labels)
            .set(cleaner.lag_ms as f64 / 1_000.0);
        metrics::gauge!("whimbrel_cleaner_uncleanable_logs", &labels)
            .set(cleaner.uncleanable as f64);
        metrics::counter!("whimbrel_cleaner_read_bytes_total", &labels)
            .absolute(cleaner.bytes_before);
        metrics::counter!("whimbrel_cleaner_kept_bytes_total", &labels)
            .absolute(cleaner.bytes_after);
        metrics::gauge!("whimbrel_disk_short", &labels)
            .set(f64::from(u8::from(broker.disk.is_short())));
    }
}
