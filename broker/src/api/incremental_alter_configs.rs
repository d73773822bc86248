//! IncrementalAlterConfigs: changes that leave alone what they do not name.

use std::sync::Arc;

use whimbrel_fleet::topic_config::{Change, Op};
use whimbrel_wire::{
    ErrorCode,
    messages::incremental_alter_configs::{
        AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, Request, Response,
    },
};

use super::alter_configs::{Wanted, alter, each_once, no_value, told};
use crate::broker::Broker;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let wanted = request.resources.into_iter().map(wanted).collect();
    let outcomes = alter(broker, wanted, false, request.validate_only).await;
    let responses = outcomes.into_iter().map(|(resource_type, name, outcome)| {
        let (error_code, error_message) = told(outcome);
        AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name: name,
        }
    });
    Response {
        responses: responses.collect(),
        ..Response::default()
    }
}

fn wanted(resource: AlterConfigsResource) -> Wanted {
    let once = each_once(resource.configs.iter().map(|config| config.name.as_str()));
    Wanted {
        kind: resource.resource_type,
        name: resource.resource_name,
        changes: once.and_then(|()| resource.configs.into_iter().map(change).collect()),
    }
}

fn change(config: AlterableConfig) -> Result<Change, (ErrorCode, String)> {
    let op = match config.config_operation {
        0 => Op::Set,
        1 => return Ok(Change::delete(config.name)),
        2 => Op::Append,
        3 => Op::Subtract,
        other => {
            let why = format!("there is no operation {other}");
            return Err((ErrorCode::INVALID_REQUEST, why));
        }
    };
    let value = config.value.ok_or_else(|| no_value(&config.name))?;
    Ok(Change {
        op,
        ..Change::set(config.name, value)
    })
}
