//! The one place where outcomes become tonic's answers.

use serde::Serialize;
use tonic::{Response, Status, metadata::MetadataValue};
use whimbrel_fleet::{MovePlan, TopicId};
use whimbrel_rpc::{
    address::uuid_bytes,
    controller::{CODE_KEY, LEADER_KEY},
    proto::controller as proto,
};

use super::security::Altered;
use crate::{raft::NotProposed, state::Outcome};

/// Longest message text: a refusal names a few things, not all.
const TEXT: usize = 1_000;

pub(super) fn refused(code: &str, message: &str) -> Status {
    let mut status = Status::failed_precondition(format!("{message:.TEXT$}"));
    if let Ok(code) = MetadataValue::try_from(code) {
        status.metadata_mut().insert(CODE_KEY, code);
    }
    status
}

pub(super) fn not_proposed(error: NotProposed) -> Status {
    let text = error.to_string();
    match error {
        NotProposed::NotLeader(leader) => {
            let mut status = Status::failed_precondition(text);
            if let Some(at) = leader.and_then(|at| MetadataValue::try_from(at.to_string()).ok()) {
                status.metadata_mut().insert(LEADER_KEY, at);
            }
            status
        }
        NotProposed::TooLarge(_) => Status::invalid_argument(text),
        NotProposed::Doubt(_) => Status::unavailable(text),
    }
}

pub(super) fn unexpected(outcome: &Outcome) -> Status {
    Status::internal(format!("the state answered {outcome:?}"))
}

pub(super) fn acls(altered: Altered) -> Result<Response<proto::AlterAclsReply>, Status> {
    let deleted = json(&altered.deleted)?;
    let proto::TopicReply {
        error_code,
        message,
        version,
        ..
    } = topic(altered.version, altered.outcome).into_inner();
    Ok(Response::new(proto::AlterAclsReply {
        error_code,
        message,
        deleted,
        version,
    }))
}

pub(super) fn topic(version: u64, outcome: Outcome) -> Response<proto::TopicReply> {
    let (error_code, message, topic_id) = match outcome {
        Outcome::Topic { topic_id } => (0, String::new(), topic_id),
        Outcome::Done => (0, String::new(), TopicId::nil()),
        Outcome::Kafka {
            error_code,
            message,
        } => (i32::from(error_code), message, TopicId::nil()),
        other => (-1, format!("{other:?}"), TopicId::nil()),
    };
    Response::new(proto::TopicReply {
        error_code,
        message,
        topic_id: uuid_bytes(topic_id),
        version,
    })
}

pub(super) fn plan(plan: &MovePlan) -> Result<Response<proto::MoveReply>, Status> {
    Ok(Response::new(proto::MoveReply { plan: json(plan)? }))
}

pub(super) fn json(value: &impl Serialize) -> Result<bytes::Bytes, Status> {
    match serde_json::to_vec(value) {
        Ok(text) => Ok(text.into()),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}
