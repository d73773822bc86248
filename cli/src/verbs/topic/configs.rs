//! A topic's configs: shown with their defaults, and changed.

use serde::Serialize;
use serde_json::json;
use whimbrel_fleet::{
    Topic, View,
    topic_config::{Change, ENTRIES},
};
use whimbrel_rpc::controller::{ControlError, TopicConfigChange};

use crate::{
    exit::{Exit, Refusal},
    output,
    verbs::fleet::At,
};

/// A topic with all its configs.
#[derive(Serialize)]
pub struct Described<'a> {
    #[serde(flatten)]
    topic: &'a Topic,
    all_configs: Vec<Config<'a>>,
}

#[derive(Serialize)]
struct Config<'a> {
    name: &'static str,
    value: &'a str,
    /// What was set for all brokers, or else the fleet's own.
    default: &'a str,
    /// The topic has a value of its own.
    set: bool,
    /// False where it is taken and changes nothing.
    works: bool,
    doc: &'static str,
}

impl<'a> Described<'a> {
    pub fn new(view: &'a View, topic: &'a Topic) -> Self {
        let of_all = |name| {
            view.configs
                .of_brokers
                .get(name)
                .filter(|_| !topic.internal)
        };
        let all_configs = ENTRIES.iter().map(|entry| {
            let set = topic.configs.get(entry.name);
            let beneath = entry.broker_name.and_then(of_all);
            let default = beneath.map_or(entry.default, String::as_str);
            Config {
                name: entry.name,
                value: set.map_or(default, String::as_str),
                default,
                set: set.is_some(),
                works: entry.works,
                doc: entry.doc,
            }
        });
        Self {
            topic,
            all_configs: all_configs.collect(),
        }
    }

    pub fn table(&self) -> String {
        let rows = self.all_configs.iter().map(|config| {
            let value = if config.set {
                format!("{} *", config.value)
            } else {
                config.value.to_owned()
            };
            [config.name.to_owned(), value, config.doc.to_owned()]
        });
        output::table(["CONFIG", "VALUE", "WHAT IT DOES"], rows)
    }
}

/// `NAME=VALUE` as it was typed.
pub fn pair(flag: &str, text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| Refusal::error(Exit::Usage, format!("{flag} {text}: write NAME=VALUE")))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub async fn alter(
    at: &At,
    name: String,
    set: &[String],
    unset: Vec<String>,
    validate_only: bool,
) -> anyhow::Result<Exit> {
    let mut changes = Vec::with_capacity(set.len() + unset.len());
    for text in set {
        let (name, value) = pair("--set", text)?;
        changes.push(Change::set(name, value));
    }
    changes.extend(unset.into_iter().map(Change::delete));
    if changes.is_empty() {
        return Err(Refusal::error(
            Exit::Usage,
            "name what to change: --set NAME=VALUE or --unset NAME".to_owned(),
        ));
    }
    let idle: Vec<&str> = ENTRIES
        .iter()
        .filter(|entry| !entry.works && changes.iter().any(|change| change.name == entry.name))
        .map(|entry| entry.name)
        .collect();
    let change = TopicConfigChange {
        name: name.clone(),
        changes: changes.clone(),
        replace: false,
        validate_only,
    };
    match at.controller().await?.alter_topic_configs(change).await {
        Ok(done) => {
            let value = json!({
                "name": name,
                "topic_id": done.topic_id,
                "changes": changes,
                "without_effect": idle,
                "changed": !validate_only,
            });
            output::print(at.format, &value, |_| {
                let mut text = if validate_only {
                    format!("{name}: {} change(s) would be taken", changes.len())
                } else {
                    format!("{name}: {} change(s), in all regions", changes.len())
                };
                for name in &idle {
                    text.push_str(&format!("\n{name} is kept without effect"));
                }
                text
            })?;
            Ok(Exit::Ok)
        }
        Err(ControlError::Kafka { message, .. }) => {
            Err(Refusal::error(Exit::Refused, format!("{name}: {message}")))
        }
        Err(error) => Err(error.into()),
    }
}
