//! DescribeAcls: entries of the access control list, by resource.

use std::sync::Arc;

use whimbrel_fleet::acl::{
    Acl, AclFilter, Operation, PatternFilter, PatternType, Permission, ResourceType,
};
use whimbrel_wire::{
    ErrorCode,
    messages::describe_acls::{AclDescription, DescribeAclsResource, Request, Response},
};

use crate::broker::Broker;

/// Kafka's numbers of what fits everything, and of patterns that speak of a name.
const ANY: i8 = 1;
const MATCH: i8 = 2;

/// What Kafka says where nobody is authorized for anything.
pub fn disabled() -> (ErrorCode, String) {
    let why = "No Authorizer is configured on the broker: [broker.auth] is not set";
    (ErrorCode::SECURITY_DISABLED, why.to_owned())
}

pub fn handle(broker: &Arc<Broker>, request: Request) -> Response {
    let filter = filter(Asked {
        resource: request.resource_type_filter,
        pattern: request.pattern_type_filter,
        name: request.resource_name_filter,
        principal: request.principal_filter,
        host: request.host_filter,
        operation: request.operation,
        permission: request.permission_type,
    });
    let refused = match (&broker.security.authority, filter) {
        (None, _) => disabled(),
        (Some(_), Err(why)) => (ErrorCode::INVALID_REQUEST, why),
        (Some(_), Ok(filter)) => return described(broker, &filter),
    };
    Response {
        error_code: refused.0,
        error_message: Some(refused.1),
        ..Response::default()
    }
}

fn described(broker: &Broker, filter: &AclFilter) -> Response {
    let catalog = broker.catalog();
    let mut resources: Vec<DescribeAclsResource> = Vec::new();
    let mut of: Option<Acl> = None;
    // They come in the order of what they speak of.
    for acl in catalog.view.acls.matching(filter) {
        if of.as_ref().is_none_or(|before| before.on != acl.on) {
            resources.push(DescribeAclsResource {
                resource_type: acl.on.resource.code(),
                resource_name: acl.on.name.clone(),
                pattern_type: acl.on.pattern.code(),
                acls: Vec::new(),
            });
        }
        if let Some(resource) = resources.last_mut() {
            resource.acls.push(AclDescription {
                principal: acl.principal.clone(),
                host: acl.host.clone(),
                operation: acl.operation.code(),
                permission_type: acl.permission.code(),
            });
        }
        of = Some(acl);
    }
    Response {
        error_message: None,
        resources,
        ..Response::default()
    }
}

/// A filter in Kafka's numbers.
#[derive(Debug)]
pub struct Asked {
    pub resource: i8,
    pub pattern: i8,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

/// The filter, or why it is none.
pub fn filter(asked: Asked) -> Result<AclFilter, String> {
    let pattern = match asked.pattern {
        ANY => PatternFilter::Any,
        MATCH => PatternFilter::Match,
        code => PatternFilter::Exactly(
            PatternType::from_code(code).ok_or_else(|| unknown("pattern type", code))?,
        ),
    };
    Ok(AclFilter {
        resource: wanted("resource type", asked.resource, ResourceType::from_code)?,
        pattern,
        name: asked.name,
        principal: asked.principal,
        host: asked.host,
        operation: wanted("operation", asked.operation, Operation::from_code)?,
        permission: wanted("permission", asked.permission, Permission::from_code)?,
    })
}

fn wanted<T>(what: &str, code: i8, read: impl Fn(i8) -> Option<T>) -> Result<Option<T>, String> {
    match code {
        ANY => Ok(None),
        code => read(code).map(Some).ok_or_else(|| unknown(what, code)),
    }
}

fn unknown(what: &str, code: i8) -> String {
    format!("{what} {code} is not known")
}
