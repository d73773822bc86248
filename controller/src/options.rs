//! A voter's settings: plain data, checked as a whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use whimbrel_fleet::{HostPort, RegionName, naming};

/// What the first start of a fleet agrees on. Every voter is given the same; later starts ignore it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bootstrap {
    pub fleet_id: String,
    pub regions: BTreeSet<RegionName>,
    /// Home of the default failover group.
    pub home: RegionName,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    pub voter_id: u64,
    /// The site this voter stands in; a witness site need not be a region of brokers.
    pub region: RegionName,
    pub data_dir: PathBuf,
    /// tonic address for brokers, daemons, tools and other voters.
    pub listen: HostPort,
    #[serde(default = "admin_listen")]
    pub admin_listen: HostPort,
    /// All voters, this one included, as this one reaches them.
    #[serde(with = "voters")]
    pub voters: BTreeMap<u64, HostPort>,
    /// How long a home may write after it was last heard by a majority. Failover waits a little longer.
    #[serde(default = "lease_ms")]
    pub lease_ms: u64,
    #[serde(default)]
    pub bootstrap: Option<Bootstrap>,
    /// 250 ms: several fit an election timeout even across continents.
    #[serde(default = "heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// 1 to 2 s: longer than a slow disk's sync and a busy machine's pauses, short beside a failover.
    #[serde(default = "election_min_ms")]
    pub election_min_ms: u64,
    #[serde(default = "election_max_ms")]
    pub election_max_ms: u64,
    /// How long a planned move waits for the home to seal and the target to catch up before it aborts.
    #[serde(default = "drain_ms")]
    pub drain_ms: u64,
    /// Listen on other than loopback without TLS and authentication.
    #[serde(default)]
    pub insecure_bind: bool,
}

fn admin_listen() -> HostPort {
    HostPort::new("127.0.0.1", 0)
}

fn lease_ms() -> u64 {
    1_000
}

fn heartbeat_ms() -> u64 {
    250
}

fn election_min_ms() -> u64 {
    1_000
}

fn election_max_ms() -> u64 {
    2_000
}

fn drain_ms() -> u64 {
    10_000
}

impl Options {
    pub fn new(
        voter_id: u64,
        region: RegionName,
        data_dir: PathBuf,
        listen: HostPort,
        voters: BTreeMap<u64, HostPort>,
    ) -> Self {
        Self {
            voter_id,
            region,
            data_dir,
            listen,
            admin_listen: admin_listen(),
            voters,
            lease_ms: lease_ms(),
            bootstrap: None,
            heartbeat_ms: heartbeat_ms(),
            election_min_ms: election_min_ms(),
            election_max_ms: election_max_ms(),
            drain_ms: drain_ms(),
            insecure_bind: false,
        }
    }

    /// Everything that is wrong with these options, all at once.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, what: String| {
            if !ok {
                problems.push(what);
            }
        };
        check(
            self.voters.contains_key(&self.voter_id),
            format!("voters: voter-id {} is not among them", self.voter_id),
        );
        check(
            self.voters.len() % 2 == 1 && self.voters.len() <= 7,
            format!("voters: {} of them; use 1, 3, 5 or 7", self.voters.len()),
        );
        check(
            (100..=60_000).contains(&self.lease_ms),
            format!("lease-ms: {} is not within 100 to 60000", self.lease_ms),
        );
        check(
            self.heartbeat_ms >= 10,
            format!("heartbeat-ms: {} is below 10", self.heartbeat_ms),
        );
        check(
            self.election_min_ms >= self.heartbeat_ms.saturating_mul(2),
            "election-min-ms: must be at least twice heartbeat-ms".to_owned(),
        );
        check(
            self.election_max_ms > self.election_min_ms,
            "election-max-ms: must be above election-min-ms".to_owned(),
        );
        for (name, at) in [
            ("listen", &self.listen),
            ("admin-listen", &self.admin_listen),
        ] {
            check(
                self.insecure_bind || at.is_loopback(),
                format!(
                    "{name}: {at} is not loopback, and there is no TLS: set insecure-bind to accept that"
                ),
            );
        }
        if let Some(b) = &self.bootstrap {
            check(
                !b.fleet_id.is_empty() && b.fleet_id.len() <= 64,
                "bootstrap.fleet-id: 1 to 64 characters".to_owned(),
            );
            check(
                b.regions.contains(&b.home),
                format!("bootstrap.home: {} is not among the regions", b.home),
            );
            for region in &b.regions {
                check(
                    naming::is_valid_label(region.as_str()),
                    format!(
                        "bootstrap.regions: {region} is not lower-case letters, digits and '-'"
                    ),
                );
            }
        }
        problems
    }
}

/// Keys of a TOML table are strings.
mod voters {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use whimbrel_fleet::HostPort;

    pub(super) fn serialize<S: Serializer>(
        voters: &BTreeMap<u64, HostPort>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let named: BTreeMap<String, &HostPort> =
            voters.iter().map(|(id, at)| (id.to_string(), at)).collect();
        named.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<u64, HostPort>, D::Error> {
        let named = BTreeMap::<String, HostPort>::deserialize(deserializer)?;
        let id = |name: String| {
            name.parse()
                .map_err(|_| D::Error::custom(format!("voter id `{name}` is not a number")))
        };
        named
            .into_iter()
            .map(|(name, at)| Ok((id(name)?, at)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_named_at_once() {
        let voters = BTreeMap::from([
            (1, HostPort::new("127.0.0.1", 1)),
            (2, HostPort::new("127.0.0.1", 2)),
        ]);
        let mut options = Options::new(
            3,
            "east".into(),
            "/tmp/x".into(),
            HostPort::new("0.0.0.0", 1),
            voters,
        );
        options.lease_ms = 1;
        options.bootstrap = Some(Bootstrap {
            fleet_id: String::new(),
            regions: BTreeSet::from(["East".into()]),
            home: "west".into(),
        });
        assert_eq!(options.problems().len(), 7, "{:#?}", options.problems());
    }

    #[test]
    fn voters_travel_with_text_keys() {
        let text = r#"{"voter-id":1,"region":"east","data-dir":"d","listen":"127.0.0.1:0","voters":{"1":"127.0.0.1:7001"}}"#;
        let options: Options = serde_json::from_str(text).unwrap();
        assert_eq!(options.voters[&1].port, 7001);
        assert_eq!(options.lease_ms, 1_000);
        let again: Options =
            serde_json::from_str(&serde_json::to_string(&options).unwrap()).unwrap();
        assert_eq!(again, options);
    }
}
