//! Configs of brokers and of consumer groups, as all processes see them; those of topics are the topic's own.

use std::{borrow::Cow, collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    NodeId, broker_config, group_config,
    topic_config::{self, Change, Refusal},
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
        match resource {
            Resource::Brokers => broker_config::check_default(after.keys())?,
            Resource::Broker(_) => broker_config::check_one(after.keys())?,
            Resource::Group(_) => {}
        }
        check_size(resource, &after)?;
        Ok(after)
    }

    /// A topic's values with the defaults of all brokers beneath them, by the names that topics have for them.
    pub fn beneath<'a>(&'a self, own: &'a Values) -> Cow<'a, Values> {
        let set = topic_config::ENTRIES.iter().filter_map(|entry| {
            let value = self.of_brokers.get(entry.broker_name?)?;
            (!own.contains_key(entry.name)).then_some((entry.name, value))
        });
        let mut all = Cow::Borrowed(own);
        if !self.of_brokers.is_empty() {
            for (name, value) in set {
                all.to_mut().insert(name.to_owned(), value.clone());
            }
        }
        all
    }

    /// A number that was set for all brokers, if one was that can be read.
    pub fn of_all<T: FromStr>(&self, name: &str) -> Option<T> {
        self.of_brokers.get(name)?.parse().ok()
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
    fn a_topic_has_what_was_set_for_all_brokers_where_it_has_no_value_of_its_own() {
        let set = |all: &[(&str, &str)]| -> Values {
            let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
            all.iter().map(pair).collect()
        };
        let own = set(&[("segment.bytes", "2048")]);
        let mut configs = Configs::default();
        assert_eq!(*configs.beneath(&own), own);
        configs.of_brokers = set(&[
            ("log.retention.ms", "60000"),
            ("log.segment.bytes", "4096"),
            ("message.max.bytes", "500"),
            ("num.io.threads", "3"),
        ]);
        let wanted = set(&[
            ("max.message.bytes", "500"),
            ("retention.ms", "60000"),
            ("segment.bytes", "2048"),
        ]);
        assert_eq!(*configs.beneath(&own), wanted);
        assert_eq!(configs.of_all("num.io.threads"), Some(3_i32));
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
