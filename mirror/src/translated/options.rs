//! Settings of a translated flow: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use whimbrel_client::Endpoint;
use whimbrel_runtime::unit::{Size, Span};

use super::pattern::Pattern;

/// A cluster to read from or to write to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Cluster {
    /// `host:port`, several separated by commas.
    pub bootstrap: String,
    /// Who we are there and whom we believe, as a file of Kafka's client properties: `security.protocol`,
    /// `sasl.mechanism`, `sasl.username`, `sasl.password`, `ssl.ca.location` and so on.
    #[serde(default)]
    pub client_config: Option<PathBuf>,
}

/// `[[mirror.flow]]` of a config file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct FlowOptions {
    /// Part of the offset map's topic and of the transactional id: letters, digits, dots, dashes, underscores.
    pub name: String,
    pub source: Cluster,
    pub target: Cluster,
    /// Topics that are copied, under the same name. Internal ones and offset maps never are.
    #[serde(default = "all")]
    pub topics: Vec<Pattern>,
    #[serde(default)]
    pub topics_exclude: Vec<Pattern>,
    /// Consumer groups whose positions are translated, in whichever direction they move.
    #[serde(default = "all")]
    pub groups: Vec<Pattern>,
    #[serde(default)]
    pub groups_exclude: Vec<Pattern>,
    /// How often group positions are looked at: what a group reads twice at worst when its region dies.
    #[serde(default = "default_group_interval")]
    pub group_interval: Span,
    /// How often topics and partitions are looked for.
    #[serde(default = "default_topic_interval")]
    pub topic_interval: Span,
    /// Records of one transaction. Larger ones cost less per record and make readers wait longer.
    #[serde(default = "default_transaction_bytes")]
    pub transaction_bytes: Size,
    /// Replication factor of topics created at the target; -1 leaves it to the target's default.
    #[serde(default = "default_replication_factor")]
    pub replication_factor: i16,
}

fn all() -> Vec<Pattern> {
    vec![Pattern("*".to_owned())]
}

const fn default_group_interval() -> Span {
    Span::secs(1)
}

const fn default_topic_interval() -> Span {
    Span::secs(10)
}

const fn default_transaction_bytes() -> Size {
    Size::mib(4)
}

const fn default_replication_factor() -> i16 {
    -1
}

/// Longest flow name: with the map's prefix it must fit a topic's 249 characters.
const MAX_NAME_LEN: usize = 200;

impl FlowOptions {
    pub fn new(
        name: impl Into<String>,
        source: impl Into<String>,
        target: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            source: Cluster {
                bootstrap: source.into(),
                client_config: None,
            },
            target: Cluster {
                bootstrap: target.into(),
                client_config: None,
            },
            topics: all(),
            topics_exclude: Vec::new(),
            groups: all(),
            groups_exclude: Vec::new(),
            group_interval: default_group_interval(),
            topic_interval: default_topic_interval(),
            transaction_bytes: default_transaction_bytes(),
            replication_factor: default_replication_factor(),
        }
    }

    /// Where the flow's map is kept, on the target.
    pub fn map_topic(&self) -> String {
        format!("{MAP_PREFIX}{}", self.name)
    }

    /// What cannot be used, in words: field and problem.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > MAX_NAME_LEN || !self.name.chars().all(legal) {
            problems.push((
                "name",
                format!(
                    "`{}` is not 1 to {MAX_NAME_LEN} letters, digits, dots, dashes or underscores",
                    self.name
                ),
            ));
        }
        for (place, cluster) in [
            ("source.bootstrap", &self.source),
            ("target.bootstrap", &self.target),
        ] {
            if let Err(error) = Endpoint::list(&cluster.bootstrap) {
                problems.push((place, error.to_string()));
            }
        }
        if self.source.bootstrap == self.target.bootstrap {
            problems.push((
                "target.bootstrap",
                "is the source: the flow would copy its own copies".to_owned(),
            ));
        }
        if self.transaction_bytes.0 == 0 {
            problems.push(("transaction-bytes", "must not be 0".to_owned()));
        }
        problems
    }
}

/// Topics of this prefix are offset maps and are never copied.
pub(crate) const MAP_PREFIX: &str = "__whimbrel_offset_map.";
