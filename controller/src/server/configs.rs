//! Changes of configs and of client quotas: judged here by the fleet's tables; configs are committed only if
//! nobody changed them meanwhile.

use tonic::Status;
use whimbrel_fleet::{
    Topic,
    quota::QuotaChange,
    resource_config::Resource,
    topic_config::{self, Change, Refusal},
};
use whimbrel_rpc::proto::controller as proto;

use super::{Server, requests};
use crate::state::{Command, NewTopic, Outcome, State, kafka};

/// Configs of one change: more than the table has make no sense.
const MAX_CHANGES: usize = 64;
/// How often a change is made anew because another one came first.
const TRIES: usize = 8;

/// Configs that a topic is to begin with.
pub(super) fn check(topic: &NewTopic) -> Result<(), Outcome> {
    topic_config::check_all(&topic.configs)
        .and_then(|()| match topic.internal {
            true => topic_config::check_internal(&topic.configs),
            false => Ok(()),
        })
        .map_err(|refusal| Outcome::kafka(kafka::INVALID_CONFIG, refusal.0))
}

impl Server {
    /// The view's version that shows the change, and what it came to.
    pub(super) async fn alter_configs(
        &self,
        request: &proto::AlterTopicConfigsRequest,
    ) -> Result<(u64, Outcome), Status> {
        let changes = requests::config_changes(&request.changes)?;
        for _ in 0..TRIES {
            let state = self.confirm().await?;
            let version = state.view.version;
            let Some(topic) = state.view.topics.get(&request.name) else {
                let why = format!("there is no topic {}", request.name);
                return Ok((
                    version,
                    Outcome::kafka(kafka::UNKNOWN_TOPIC_OR_PARTITION, why),
                ));
            };
            let command = match alter(topic, &changes, request.replace) {
                Ok(command) => command,
                Err(refusal) => return Ok((version, refusal)),
            };
            if request.validate_only {
                return Ok((version, Outcome::Topic { topic_id: topic.id }));
            }
            match self.propose(command).await? {
                (_, Outcome::Stale) => {}
                done => return Ok(done),
            }
        }
        let why = format!("others change the configs of {} all the time", request.name);
        Ok((
            self.state().view.version,
            Outcome::kafka(kafka::UNKNOWN_SERVER_ERROR, why),
        ))
    }
}

impl Server {
    /// The view's version that shows the change of a broker's or a group's configs, and what it came to.
    pub(super) async fn alter_resource(
        &self,
        request: &proto::AlterResourceConfigsRequest,
    ) -> Result<(u64, Outcome), Status> {
        let resource = requests::resource(&request.resource)?;
        let changes = requests::config_changes(&request.changes)?;
        for _ in 0..TRIES {
            let state = self.confirm().await?;
            let version = state.view.version;
            let command = match alter_resource(&state, &resource, &changes, request.replace) {
                Ok(command) => command,
                Err(refusal) => return Ok((version, refusal)),
            };
            if request.validate_only {
                return Ok((version, Outcome::Done));
            }
            match self.propose(command).await? {
                (_, Outcome::Stale) => {}
                done => return Ok(done),
            }
        }
        let why = "others change these configs all the time";
        Ok((
            self.state().view.version,
            Outcome::kafka(kafka::UNKNOWN_SERVER_ERROR, why),
        ))
    }

    /// The view's version that shows the change of quotas, and what it came to.
    pub(super) async fn alter_quotas(
        &self,
        request: &proto::AlterClientQuotasRequest,
    ) -> Result<(u64, Outcome), Status> {
        let changes = requests::quota_changes(&request.changes)?;
        if let Some(why) = changes.iter().find_map(QuotaChange::refuse) {
            let refusal = Outcome::kafka(kafka::INVALID_REQUEST, why);
            return Ok((self.state().view.version, refusal));
        }
        if request.validate_only {
            return Ok((self.confirm().await?.view.version, Outcome::Done));
        }
        self.propose(Command::AlterClientQuotas { changes }).await
    }
}

fn check_count(changes: &[Change]) -> Result<(), Outcome> {
    if changes.len() <= MAX_CHANGES {
        return Ok(());
    }
    let why = format!("more than {MAX_CHANGES} configs");
    Err(Outcome::kafka(kafka::INVALID_CONFIG, why))
}

fn alter_resource(
    state: &State,
    resource: &Resource,
    changes: &[Change],
    replace: bool,
) -> Result<Command, Outcome> {
    check_count(changes)?;
    state.check_resource(resource)?;
    // Kafka's codes: they differ.
    let code = match resource {
        Resource::Brokers | Resource::Broker(_) => kafka::INVALID_REQUEST,
        Resource::Group(_) => kafka::INVALID_CONFIG,
    };
    let configs = &state.view.configs;
    let after = configs
        .changed(resource, changes, replace)
        .map_err(|refusal| Outcome::kafka(code, refusal.0))?;
    Ok(Command::AlterResourceConfigs {
        resource: resource.clone(),
        before: configs.get(resource).cloned().unwrap_or_default(),
        after,
    })
}

fn alter(topic: &Topic, changes: &[Change], replace: bool) -> Result<Command, Outcome> {
    check_count(changes)?;
    let refused = |refusal: Refusal| Outcome::kafka(kafka::INVALID_CONFIG, refusal.0);
    let after = topic_config::changed(&topic.configs, changes, replace).map_err(refused)?;
    if topic.internal {
        topic_config::check_internal(&after).map_err(refused)?;
    }
    Ok(Command::AlterTopicConfigs {
        topic_id: topic.id,
        before: topic.configs.clone(),
        after,
    })
}
