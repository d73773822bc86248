//! Settings of the mirror daemon: plain data.

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, RegionName};
use whimbrel_runtime::unit::Size;

use crate::codes;

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
    /// Lets the admin endpoint listen beyond loopback, where anybody may read lag and start audits.
    #[serde(default)]
    pub insecure_bind: bool,
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
            insecure_bind: false,
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
        problems
    }
}
