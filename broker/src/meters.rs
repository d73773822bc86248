//! Counters that are raised where something happens, made once: a lookup per request would cost more than
//! many requests do.

use std::collections::BTreeMap;

use metrics::{Counter, Gauge, Label};
use whimbrel_wire::ApiKey;

use crate::api::OFFERED;

/// What every metric of this process carries.
pub fn labels(region: &str, node: i32) -> Vec<Label> {
    vec![
        Label::new("region", region.to_owned()),
        Label::new("node", node.to_string()),
        Label::new("role", "broker"),
    ]
}

pub struct Meters {
    labels: Vec<Label>,
    requests: BTreeMap<ApiKey, Counter>,
    pub connections: Gauge,
    pub connections_refused: Counter,
    /// Those that wait because of what came from their address.
    pub connections_slowed: Counter,
    pub authentications_failed: Counter,
    pub local_freed_bytes: Counter,
    /// Records sent to consumers.
    pub fetched_bytes: Counter,
    pub replica_sent_bytes: Counter,
    pub replica_received_bytes: Counter,
    /// Cuts that were recorded.
    pub cuts: Counter,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    /// After the process's recorder was installed.
    pub fn new(region: &str, node: i32) -> Self {
        let labels = labels(region, node);
        let counter = |name: &'static str| metrics::counter!(name, labels.clone());
        let of_api = |api: ApiKey| {
            let mut labels = labels.clone();
            labels.push(Label::new("api", api.name()));
            metrics::counter!("whimbrel_requests_total", labels)
        };
        Self {
            requests: OFFERED.iter().map(|api| (*api, of_api(*api))).collect(),
            connections: metrics::gauge!("whimbrel_connections", labels.clone()),
            connections_refused: counter("whimbrel_connections_refused_total"),
            connections_slowed: counter("whimbrel_connections_slowed_total"),
            fetched_bytes: counter("whimbrel_fetched_bytes_total"),
            authentications_failed: counter("whimbrel_authentications_failed_total"),
            local_freed_bytes: counter("whimbrel_local_freed_bytes_total"),
            replica_sent_bytes: counter("whimbrel_replica_sent_bytes_total"),
            replica_received_bytes: counter("whimbrel_replica_received_bytes_total"),
            cuts: counter("whimbrel_cuts_total"),
            labels,
        }
    }

    pub fn request(&self, api: ApiKey) {
        if let Some(counter) = self.requests.get(&api) {
            counter.increment(1);
        }
    }

    /// A cut could not be taken; rare enough to be looked up.
    pub fn cut_missed(&self, reason: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("reason", reason));
        metrics::counter!("whimbrel_cuts_missed_total", labels).increment(1);
    }

    /// A connection was closed by us; rare enough to be looked up.
    pub fn closed(&self, reason: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("reason", reason));
        metrics::counter!("whimbrel_connections_closed_total", labels).increment(1);
    }
}
