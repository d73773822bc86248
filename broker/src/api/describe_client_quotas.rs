//! DescribeClientQuotas: whom the fleet has quotas for. What a broker grants without them is in its configs.

use std::sync::Arc;

use whimbrel_fleet::quota::{Entity, Quota, Who};
use whimbrel_wire::{
    ErrorCode,
    messages::describe_client_quotas::{
        ComponentData, EntityData, EntryData, Request, Response, ValueData,
    },
};

use crate::broker::Broker;

/// Kafka's names of an entity's parts.
pub const USER: &str = "user";
pub const CLIENT_ID: &str = "client-id";
pub const IP: &str = "ip";

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub fn handle(broker: &Arc<Broker>, request: &Request) -> Response {
    if let Err(why) = check(&request.components) {
        return Response {
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some(why),
            entries: None,
            ..Response::default()
        };
    }
    let catalog = broker.catalog();
    let entries = catalog
        .view
        .quotas
        .iter()
        .filter(|quota| matches(&quota.entity, request))
        .map(entry);
    Response {
        error_message: None,
        entries: Some(entries.collect()),
        ..Response::default()
    }
}

fn check(components: &[ComponentData]) -> Result<(), String> {
    for (at, component) in components.iter().enumerate() {
        let kind = component.entity_type.as_str();
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return Err(format!("{kind:.64} has no quotas"));
        }
        if components[..at].iter().any(|c| c.entity_type == kind) {
            return Err(format!("{kind} is named twice"));
        }
        let named = component.match_name.is_some();
        match component.match_type {
            EXACT if !named => return Err(format!("which {kind} is not said")),
            DEFAULT | ANY if named => return Err(format!("{kind} has a name too many")),
            EXACT | DEFAULT | ANY => {}
            other => return Err(format!("there is no match of type {other}")),
        }
    }
    let has = |kind: &str| components.iter().any(|c| c.entity_type == kind);
    if has(IP) && (has(USER) || has(CLIENT_ID)) {
        return Err("an address has quotas of its own only".to_owned());
    }
    Ok(())
}

/// An entity's parts, by Kafka's names.
fn parts(entity: &Entity) -> [(&'static str, &Option<Who>); 3] {
    [
        (USER, &entity.user),
        (CLIENT_ID, &entity.client_id),
        (IP, &entity.ip),
    ]
}

fn matches(entity: &Entity, request: &Request) -> bool {
    parts(entity).into_iter().all(|(kind, who)| {
        let asked = request.components.iter().find(|c| c.entity_type == kind);
        match (asked, who) {
            (None, Some(_)) => !request.strict,
            (None, None) => true,
            (Some(_), None) => false,
            (Some(asked), Some(who)) => match asked.match_type {
                EXACT => matches!(who, Who::Named(name) if Some(name) == asked.match_name.as_ref()),
                DEFAULT => *who == Who::Default,
                _ => true,
            },
        }
    })
}

fn entry(quota: &Quota) -> EntryData {
    let entity = parts(&quota.entity).into_iter().filter_map(|(kind, who)| {
        let entity_name = match who.as_ref()? {
            Who::Default => None,
            Who::Named(name) => Some(name.clone()),
        };
        Some(EntityData {
            entity_type: kind.to_owned(),
            entity_name,
        })
    });
    let values = quota.limits.iter().map(|(key, rate)| ValueData {
        key: key.clone(),
        value: rate.0,
    });
    EntryData {
        entity: entity.collect(),
        values: values.collect(),
    }
}
