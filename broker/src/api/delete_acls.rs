//! DeleteAcls: whatever fits a filter goes, by the controller's list and not by what this broker has seen of it.

use std::sync::Arc;

use whimbrel_fleet::acl::{Acl, AclFilter};
use whimbrel_wire::{
    ErrorCode,
    messages::delete_acls::{
        DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, Request, Response,
    },
};

use super::{
    create_acls::LONGEST_WAIT,
    create_topics::code_of,
    describe_acls::{Asked, disabled, filter},
};
use crate::broker::Broker;

pub async fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let mut results = Vec::with_capacity(request.filters.len());
    let mut newest = 0;
    for asked in request.filters {
        let outcome = match (&broker.security.authority, read(asked)) {
            (None, _) => Err(disabled()),
            (Some(_), Err(why)) => Err((ErrorCode::INVALID_REQUEST, why)),
            (Some(_), Ok(filter)) => {
                let altered = broker.controller.alter_acls(&[], &[filter]).await;
                altered.map_err(|error| code_of(&error))
            }
        };
        results.push(match outcome {
            Ok(altered) => {
                newest = altered.version.max(newest);
                DeleteAclsFilterResult {
                    error_message: None,
                    matching_acls: altered.deleted.into_iter().map(gone).collect(),
                    ..DeleteAclsFilterResult::default()
                }
            }
            Err((error_code, why)) => DeleteAclsFilterResult {
                error_code,
                error_message: Some(why),
                matching_acls: Vec::new(),
            },
        });
    }
    if newest > 0 {
        broker.until_applied(newest, LONGEST_WAIT).await;
    }
    Response {
        filter_results: results,
        ..Response::default()
    }
}

fn read(asked: DeleteAclsFilter) -> Result<AclFilter, String> {
    filter(Asked {
        resource: asked.resource_type_filter,
        pattern: asked.pattern_type_filter,
        name: asked.resource_name_filter,
        principal: asked.principal_filter,
        host: asked.host_filter,
        operation: asked.operation,
        permission: asked.permission_type,
    })
}

fn gone(acl: Acl) -> DeleteAclsMatchingAcl {
    DeleteAclsMatchingAcl {
        error_message: None,
        resource_type: acl.on.resource.code(),
        resource_name: acl.on.name,
        pattern_type: acl.on.pattern.code(),
        principal: acl.principal,
        host: acl.host,
        operation: acl.operation.code(),
        permission_type: acl.permission.code(),
        ..DeleteAclsMatchingAcl::default()
    }
}
