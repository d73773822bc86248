//! Requests as types: what is malformed is refused before anything else sees it.

use serde::de::DeserializeOwned;
use tonic::Status;
use whimbrel_fleet::{
    Clamp, Daemon, MoveMode, Node, NodeId,
    acl::{Acl, AclFilter},
    credential::CredentialChange,
    naming,
    quota::QuotaChange,
    resource_config::Resource,
    restore::MOST_BYTES,
    topic_config::Change,
};
use whimbrel_rpc::{address::uuid_from, controller::MoveRequest, proto::controller as proto};

use super::answer;
use crate::{codes, state::NewTopic};

/// Longest description of a process.
const ENTITY_BYTES: usize = 16 << 10;
/// Longest list of config changes: sixty-four of the longest.
const CHANGES_BYTES: usize = 512 << 10;

fn entity<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Status> {
    if json.len() > ENTITY_BYTES {
        return Err(Status::invalid_argument(format!(
            "a {what} of {} bytes",
            json.len()
        )));
    }
    parse(what, json)
}

fn parse<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(json)
        .map_err(|e| Status::invalid_argument(format!("unreadable {what}: {e}")))
}

pub(super) fn node(json: &[u8]) -> Result<Node, Status> {
    entity("node", json)
}

pub(super) fn daemon(json: &[u8]) -> Result<Daemon, Status> {
    entity("daemon", json)
}

pub(super) fn restore(json: &[u8]) -> Result<whimbrel_fleet::Restore, Status> {
    entity("restore", json)
}

/// What no command of the log can hold is not read either.
pub(super) fn description(json: &[u8]) -> Result<whimbrel_fleet::restore::Description, Status> {
    if json.len() > MOST_BYTES {
        let message = format!(
            "a description of {} bytes, and the most is {MOST_BYTES}",
            json.len()
        );
        return Err(answer::refused(codes::BAD_RESTORE, &message));
    }
    parse("description", json)
}

pub(super) fn clamps(json: &[u8]) -> Result<Vec<Clamp>, Status> {
    parse("list of clamps", json)
}

fn changes<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, Status> {
    if json.len() > CHANGES_BYTES {
        return Err(Status::invalid_argument(format!(
            "changes of {} bytes",
            json.len()
        )));
    }
    parse(what, json)
}

pub(super) fn config_changes(json: &[u8]) -> Result<Vec<Change>, Status> {
    changes("list of config changes", json)
}

pub(super) fn resource(json: &[u8]) -> Result<Resource, Status> {
    entity("resource", json)
}

pub(super) fn quota_changes(json: &[u8]) -> Result<Vec<QuotaChange>, Status> {
    changes("list of quota changes", json)
}

pub(super) fn credential_changes(json: &[u8]) -> Result<Vec<CredentialChange>, Status> {
    changes("list of credentials", json)
}

pub(super) fn acls(json: &[u8]) -> Result<Vec<Acl>, Status> {
    changes("list of acls", json)
}

pub(super) fn acl_filters(json: &[u8]) -> Result<Vec<AclFilter>, Status> {
    changes("list of filters", json)
}

pub(super) fn topic(request: proto::CreateTopicRequest) -> Result<NewTopic, Status> {
    Ok(NewTopic {
        name: request.name,
        topic_id: uuid_from(&request.topic_id)
            .map_err(|e| Status::invalid_argument(e.to_string()))?,
        partitions: request.partitions,
        replication_factor: i16::try_from(request.replication_factor).unwrap_or(i16::MAX),
        configs: request.configs.into_iter().collect(),
        internal: request.internal,
        copies: copies(request.copies),
    })
}

/// Of each partition its home copies.
pub(super) fn copies(asked: Vec<proto::Copies>) -> Vec<Vec<NodeId>> {
    let nodes = |one: proto::Copies| one.nodes.into_iter().map(NodeId).collect();
    asked.into_iter().map(nodes).collect()
}

pub(super) fn move_request(request: proto::MoveRequest) -> Result<MoveRequest, Status> {
    let mode = match request.mode.as_str() {
        "switchover" => MoveMode::Switchover,
        "failover" => MoveMode::Failover,
        "failback" => MoveMode::Failback,
        other => {
            return Err(answer::refused(
                codes::BAD_REQUEST,
                &format!("`{other:.40}` is no mode: switchover, failover or failback"),
            ));
        }
    };
    if !naming::is_valid_label(&request.to) || !naming::is_valid_label(&request.group) {
        return Err(answer::refused(
            codes::BAD_REQUEST,
            "a group and a region are named by lower-case letters, digits and '-'",
        ));
    }
    let accept_loss = serde_json::from_slice(&request.accept_loss).map_err(|e| {
        answer::refused(
            codes::BAD_REQUEST,
            &format!("unreadable accepted loss: {e}"),
        )
    })?;
    Ok(MoveRequest {
        group: request.group.into(),
        to: request.to.into(),
        mode,
        accept_loss,
        plan: Some(request.plan).filter(|p| !p.is_empty()),
        declare_lost: request.declare_lost,
    })
}
