//! Settings of the mirror daemon: plain data.

use std::{collections::BTreeSet, path::PathBuf};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, RegionName};
use whimbrel_runtime::unit::Size;

use crate::{codes, translated::FlowOptions};

/// `[mirror]` of a config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// Whose brokers are filled. One daemon per region is enough.
    pub region: RegionName,
    /// Unique among the mirrors of the region.
    #[serde(default)]
    pub node_id: i32,
    /// `/status`, `/metrics`, `/verify`.
    #[serde(default = "default_admin_listen")]
    pub admin_listen: HostPort,
    /// Without controllers only the translated flows run.
    #[serde(default)]
    pub controllers: Vec<HostPort>,
    /// Refuses to follow another fleet, where given.
    #[serde(default)]
    pub fleet_id: Option<String>,
    /// Bytes on their way into one broker of the region: promised to sources or not fsynced yet. 64 MiB
    /// fill 5 Gbit/s at 100 ms round trip.
    #[serde(default = "default_credit_bytes")]
    pub credit_bytes: Size,
    /// Who `verify` is to the fleet's brokers, where they ask: a file of Kafka's client properties.
    #[serde(default)]
    pub client_config: Option<PathBuf>,
    /// Lets the admin endpoint listen beyond loopback, where anybody may read lag and start audits.
    #[serde(default)]
    pub insecure_bind: bool,
    /// `[[mirror.flow]]`: flows from or to clusters that somebody else runs.
    #[serde(default, rename = "flow")]
    pub flows: Vec<FlowOptions>,
}

/// Any free port of loopback: only this host may ask, unless told otherwise.
fn default_admin_listen() -> HostPort {
    HostPort::new("127.0.0.1", 0)
}

const fn default_credit_bytes() -> Size {
    Size::mib(64)
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {place}: {problem}", code = codes::OPTIONS)]
pub struct Problem {
    pub place: String,
    pub problem: String,
}

impl Options {
    pub fn new(region: RegionName, controllers: Vec<HostPort>) -> Self {
        Self {
            region,
            node_id: 0,
            admin_listen: default_admin_listen(),
            controllers,
            fleet_id: None,
            credit_bytes: default_credit_bytes(),
            client_config: None,
            insecure_bind: false,
            flows: Vec::new(),
        }
    }

    /// All problems at once.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |place: &str, problem: &str| {
            problems.push(Problem {
                place: place.to_owned(),
                problem: problem.to_owned(),
            });
        };
        if self.region.as_str().is_empty() {
            add("mirror.region", "names no region");
        }
        if self.credit_bytes < Size::mib(1) {
            add(
                "mirror.credit-bytes",
                "less than 1MiB leaves no room for one batch of the default size",
            );
        }
        if !self.admin_listen.is_loopback() && !self.insecure_bind {
            add(
                "mirror.admin-listen",
                "is not loopback and has neither TLS nor authentication; set insecure-bind = true if that is meant",
            );
        }
        let mut names = BTreeSet::new();
        for flow in &self.flows {
            let place = |field: &str| format!("mirror.flow.{}.{field}", flow.name);
            for (field, problem) in flow.problems() {
                add(&place(field), &problem);
            }
            if !names.insert(&flow.name) {
                add(&place("name"), "is the name of another flow too");
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut options = Options::new("west".into(), Vec::new());
        assert_eq!(options.problems(), []);
        options.credit_bytes = Size(5);
        options.admin_listen = HostPort::new("0.0.0.0", 1);
        options.flows = vec![
            FlowOptions::new("a b", "x:1", "x:1"),
            FlowOptions::new("f", "", "x:1"),
        ];
        let places: Vec<_> = options.problems().into_iter().map(|p| p.place).collect();
        let wanted = [
            "mirror.credit-bytes",
            "mirror.admin-listen",
            "mirror.flow.a b.name",
            "mirror.flow.a b.target.bootstrap",
            "mirror.flow.f.source.bootstrap",
        ];
        assert_eq!(places, wanted);
    }
}
