//! CreateAcls: entries of the access control list, decided by the controller for all brokers.

use std::{sync::Arc, time::Duration};

use whimbrel_fleet::acl::{Acl, Operation, Pattern, PatternType, Permission, ResourceType};
use whimbrel_wire::{
    ErrorCode,
    messages::create_acls::{AclCreation, AclCreationResult, Request, Response},
};

use super::{create_topics::code_of, describe_acls::disabled};
use crate::broker::Broker;

/// Longest wait for the change to be in force here.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Entries that are sent to the controller at once.
const AT_ONCE: usize = 500;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    if broker.security.authority.is_none() {
        let results = request.creations.iter().map(|_| result(disabled()));
        return Response {
            results: results.collect(),
            ..Response::default()
        };
    }
    let mut results: Vec<AclCreationResult> = Vec::with_capacity(request.creations.len());
    let mut good = Vec::new();
    for creation in request.creations {
        match acl(creation) {
            Ok(acl) => {
                good.push((results.len(), acl));
                results.push(result((ErrorCode::NONE, String::new())));
            }
            Err(why) => results.push(result((ErrorCode::INVALID_REQUEST, why))),
        }
    }
    let mut newest = 0;
    for part in good.chunks(AT_ONCE) {
        let acls: Vec<Acl> = part.iter().map(|(_, acl)| acl.clone()).collect();
        match broker.controller.alter_acls(&acls, &[]).await {
            Ok(altered) => newest = altered.version.max(newest),
            Err(error) => {
                for (number, _) in part {
                    results[*number] = result(code_of(&error));
                }
            }
        }
    }
    if newest > 0 {
        broker.until_applied(newest, LONGEST_WAIT).await;
    }
    Response {
        results,
        ..Response::default()
    }
}

fn result((error_code, why): (ErrorCode, String)) -> AclCreationResult {
    AclCreationResult {
        error_code,
        error_message: (!error_code.is_none()).then_some(why),
    }
}

fn acl(creation: AclCreation) -> Result<Acl, String> {
    let unknown = |what: &str, code: i8| format!("{what} {code} cannot be an entry's");
    let (resource, pattern) = (creation.resource_type, creation.resource_pattern_type);
    let (operation, permission) = (creation.operation, creation.permission_type);
    let acl = Acl {
        on: Pattern {
            resource: ResourceType::from_code(resource)
                .ok_or_else(|| unknown("resource type", resource))?,
            pattern: PatternType::from_code(pattern)
                .ok_or_else(|| unknown("pattern type", pattern))?,
            name: creation.resource_name,
        },
        principal: creation.principal,
        host: creation.host,
        operation: Operation::from_code(operation)
            .ok_or_else(|| unknown("operation", operation))?,
        permission: Permission::from_code(permission)
            .ok_or_else(|| unknown("permission", permission))?,
    };
    match acl.refuse() {
        None => Ok(acl),
        Some(why) => Err(why),
    }
}
