//! Configs of brokers and of consumer groups, as all processes see them; those of topics are the topic's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    NodeId, broker_config, group_config,
    topic_config::{Change, Refusal},
};

/// Longest name of a group that has configs.
const MAX_NAME: usize = 1_024;
/// Most bytes of names and values of one resource: they are in everybody's view.
const MAX_BYTES: usize = 32 << 10;

/// Names and values.
pub type Values = BTreeMap<String, String>;

/// What has configs besides topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// All brokers that have no value of their own.
    Brokers,
    Broker(NodeId),
    /// Whether there is such a group or not.
    Group(String),
}

/// All of them; what has no value is not in here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configs {
    pub of_brokers: Values,
    pub brokers: BTreeMap<NodeId, Values>,
    pub groups: BTreeMap<String, Values>,
}

impl Configs {
    /// A resource's own values.
    pub fn get(&self, resource: &Resource) -> Option<&Values> {
        match resource {
            Resource::Brokers => Some(&self.of_brokers),
            Resource::Broker(id) => self.brokers.get(id),
            Resource::Group(name) => self.groups.get(name),
        }
    }

    pub fn set(&mut self, resource: Resource, values: Values) {
        match resource {
            Resource::Brokers => self.of_brokers = values,
            Resource::Broker(id) if values.is_empty() => {
                self.brokers.remove(&id);
            }
            Resource::Broker(id) => {
                self.brokers.insert(id, values);
            }
            Resource::Group(name) if values.is_empty() => {
                self.groups.remove(&name);
            }
            Resource::Group(name) => {
                self.groups.insert(name, values);
            }
        }
    }

    /// What the values would be after the changes. With `replace`, those not named lose theirs.
    pub fn changed(
        &self,
        resource: &Resource,
        changes: &[Change],
        replace: bool,
    ) -> Result<Values, Refusal> {
        let none = Values::new();
        let before = self.get(resource).unwrap_or(&none);
        let table = match resource {
            Resource::Brokers | Resource::Broker(_) => broker_config::TABLE,
            Resource::Group(_) => group_config::TABLE,
        };
        let after = table.changed(before, changes, replace)?;
        if *resource == Resource::Brokers {
            broker_config::check_default(after.keys())?;
        }
        check_size(resource, &after)?;
        Ok(after)
    }

    /// A group's own value, if it has one that can be read.
    pub fn of_group(&self, group: &str, name: &str) -> Option<i32> {
        self.groups.get(group)?.get(name)?.parse().ok()
    }
}

/// Whether they are no more than is kept.
pub fn check_size(resource: &Resource, values: &Values) -> Result<(), Refusal> {
    if let Resource::Group(name) = resource
        && (name.is_empty() || name.len() > MAX_NAME)
    {
        return Err(Refusal(format!("a group's name has 1 to {MAX_NAME} bytes")));
    }
    let bytes: usize = values.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > MAX_BYTES {
        return Err(Refusal(format!("the configs would have {bytes} bytes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_and_go_with_their_resource() {
        let mut configs = Configs::default();
        for resource in [
            Resource::Brokers,
            Resource::Broker(NodeId(1)),
            Resource::Group("g".into()),
        ] {
            let name = match resource {
                Resource::Group(_) => group_config::SESSION_TIMEOUT_MS,
                _ => "log.retention.ms",
            };
            let set = [Change::set(name, "50000")];
            let values = configs.changed(&resource, &set, false).unwrap();
            configs.set(resource.clone(), values);
            assert_eq!(configs.get(&resource).unwrap()[name], "50000");
            let text = serde_json::to_string(&configs).unwrap();
            assert_eq!(serde_json::from_str::<Configs>(&text).unwrap(), configs);
            let gone = configs.changed(&resource, &[], true).unwrap();
            configs.set(resource, gone);
            assert_eq!(configs, Configs::default());
        }
    }

    #[test]
    fn what_is_too_much_is_refused() {
        let configs = Configs::default();
        let long = "x".repeat(4_000);
        let names = broker_config::all();
        let texts = names.iter().filter(|e| {
            e.name.starts_with("ssl.") && e.default.is_empty()
                || e.name.starts_with("sasl.kerberos")
        });
        let changes: Vec<_> = texts.map(|e| Change::set(e.name, &*long)).collect();
        let broker = Resource::Broker(NodeId(1));
        assert!(configs.changed(&broker, &changes, false).is_err());
        for name in [String::new(), "g".repeat(MAX_NAME + 1)] {
            assert!(configs.changed(&Resource::Group(name), &[], false).is_err());
        }
        let set = [Change::set("sasl.kerberos.kinit.cmd", "/bin/kinit")];
        assert!(configs.changed(&broker, &set, false).is_ok());
        assert!(configs.changed(&Resource::Brokers, &set, false).is_err());
    }
}
