//! AlterClientQuotas: decided by the controller, for all brokers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use whimbrel_fleet::quota::{Entity, QuotaChange, Rate, Who};
use whimbrel_wire::{
    ErrorCode,
    messages::alter_client_quotas::{EntityData, EntryData, EntryResult, Request, Response},
};

use super::{
    create_topics::code_of,
    describe_client_quotas::{CLIENT_ID, IP, USER},
};
use crate::broker::Broker;

/// Longest wait for the change to be in force here.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let (mut entries, mut newest) = (Vec::with_capacity(request.entries.len()), 0);
    for entry in request.entries {
        let done = match change(&entry) {
            Err(why) => Err((ErrorCode::INVALID_REQUEST, why)),
            Ok(change) => broker
                .controller
                .alter_client_quotas(&[change], request.validate_only)
                .await
                .map_err(|error| code_of(&error)),
        };
        let (error_code, error_message) = match done {
            Ok(version) => {
                newest = version.max(newest);
                (ErrorCode::NONE, None)
            }
            Err((code, why)) => (code, Some(why)),
        };
        entries.push(EntryResult {
            error_code,
            error_message,
            entity: entry.entity,
        });
    }
    if newest > 0 && !request.validate_only {
        broker.until_applied(newest, LONGEST_WAIT).await;
    }
    Response {
        entries,
        ..Response::default()
    }
}

fn change(entry: &EntryData) -> Result<QuotaChange, String> {
    let mut limits = BTreeMap::new();
    for op in &entry.ops {
        let rate = (!op.remove).then_some(Rate(op.value));
        if limits.insert(op.key.clone(), rate).is_some() {
            return Err(format!("{:.64} is named twice", op.key));
        }
    }
    Ok(QuotaChange {
        entity: entity(&entry.entity)?,
        limits,
    })
}

fn entity(parts: &[EntityData]) -> Result<Entity, String> {
    let mut entity = Entity::default();
    for part in parts {
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            IP => &mut entity.ip,
            other => return Err(format!("{other:.64} has no quotas")),
        };
        let who = part
            .entity_name
            .as_ref()
            .map_or(Who::Default, |name| Who::Named(name.clone()));
        if place.replace(who).is_some() {
            return Err(format!("{} is named twice", part.entity_type));
        }
    }
    Ok(entity)
}
