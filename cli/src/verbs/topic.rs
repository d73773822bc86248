//! `topic`: create, list and describe through the controller; produce and consume as a Kafka client.

mod configs;
mod records;
mod waits;

use serde_json::json;
use whimbrel_fleet::Topic as FleetTopic;
use whimbrel_rpc::controller::{ControlError, NewTopic};

pub(super) use records::{client, partitions};

use super::fleet::At;
use crate::{
    args::Topic,
    exit::{Exit, Refusal},
    output,
};

pub async fn run(verb: Topic, at: &At) -> anyhow::Result<Exit> {
    match verb {
        Topic::Create {
            name,
            partitions,
            replication_factor,
            configs,
        } => create(at, name, partitions, replication_factor, &configs).await,
        Topic::List => list(at).await,
        Topic::Describe { name, all } => describe(at, &name, all).await,
        Topic::Alter {
            name,
            set,
            unset,
            dry_run,
        } => configs::alter(at, name, &set, unset, dry_run).await,
        Topic::Produce {
            name,
            partition,
            command_config,
        } => records::produce(at, &name, partition, command_config.as_deref()).await,
        Topic::Consume {
            name,
            partition,
            from_beginning,
            max,
            follow,
            timeout,
            command_config,
        } => {
            records::consume(
                at,
                records::Wanted {
                    name,
                    partition,
                    from_beginning,
                    max,
                    follow,
                    timeout: timeout.map(|t| t.0),
                },
                command_config.as_deref(),
            )
            .await
        }
    }
}

async fn create(
    at: &At,
    name: String,
    partitions: i32,
    replication_factor: i32,
    given: &[String],
) -> anyhow::Result<Exit> {
    let mut topic = NewTopic::new(name.clone(), partitions);
    topic.replication_factor = i16::try_from(replication_factor)?;
    for config in given {
        let (key, value) = configs::pair("--config", config)?;
        topic.configs.insert(key, value);
    }
    match at.controller().await?.create_topic(topic).await {
        Ok(created) => {
            let value =
                json!({"name": name, "topic_id": created.topic_id, "partitions": partitions});
            output::print(at.format, &value, |_| {
                format!("created {name} with {partitions} partition(s), in all regions")
            })?;
            Ok(Exit::Ok)
        }
        Err(ControlError::Kafka { message, .. }) => {
            Err(Refusal::error(Exit::Refused, format!("{name}: {message}")))
        }
        Err(error) => Err(error.into()),
    }
}

async fn list(at: &At) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let topics: Vec<_> = view
        .topics
        .values()
        .map(|t| {
            let home = view.group_of(t).map(|g| g.home.to_string());
            json!({"name": t.name, "id": t.id, "partitions": t.partitions.len(), "group": t.group, "home": home, "internal": t.internal})
        })
        .collect();
    output::print(at.format, &topics, |topics| {
        let row = |t: &serde_json::Value| {
            [&t["name"], &t["partitions"], &t["group"], &t["home"]]
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
        };
        output::table(
            ["TOPIC", "PARTITIONS", "GROUP", "HOME"],
            topics.iter().filter(|t| t["internal"] == false).map(row),
        )
    })?;
    Ok(Exit::Ok)
}

async fn describe(at: &At, name: &str, all: bool) -> anyhow::Result<Exit> {
    let view = at.view().await?;
    let topic: &FleetTopic = view
        .topics
        .get(name)
        .ok_or_else(|| Refusal::error(Exit::Failed, format!("topic {name} does not exist")))?;
    let described = configs::Described::new(&view, topic);
    output::print(at.format, &described, |described| {
        let own: Vec<String> = topic
            .configs
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let configs = if all {
            format!("\n{}\n", described.table())
        } else {
            format!("configs: {}\n", own.join(" "))
        };
        let rows = topic.partitions.iter().enumerate().map(|(index, p)| {
            let replicas: Vec<String> = p
                .replicas
                .iter()
                .map(|(region, nodes)| {
                    format!(
                        "{region}:{}",
                        nodes
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .join("+")
                    )
                })
                .collect();
            [
                index.to_string(),
                output::or_dash(p.leader),
                p.leader_epoch.to_string(),
                replicas.join(" "),
            ]
        });
        format!(
            "{} ({})\n{configs}\n{}",
            topic.name,
            topic.id,
            output::table(["PARTITION", "LEADER", "EPOCH", "REPLICAS"], rows)
        )
    })?;
    Ok(Exit::Ok)
}
