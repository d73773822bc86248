//! Somebody who asks, and what the access control list says to it.

use std::net::IpAddr;

use whimbrel_fleet::{
    View,
    acl::{Asked, CLUSTER, Decision, Operation, ResourceType, USER_PREFIX},
};

use super::Options;

/// Who has proven nothing.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// Who asks, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Without its `User:`.
    pub user: String,
    /// With its `User:`.
    pub principal: String,
    pub host: String,
    /// Nothing of the list applies.
    pub is_super: bool,
    /// What holds where the list says nothing.
    unspoken: bool,
}

impl Caller {
    pub fn new(user: String, host: IpAddr, options: &Options) -> Self {
        let principal = format!("{USER_PREFIX}{user}");
        let is_super = options
            .super_users
            .iter()
            .any(|name| *name == user || *name == principal);
        Self {
            user,
            principal,
            host: host.to_canonical().to_string(),
            is_super,
            unspoken: options.allow_everyone_if_no_acl,
        }
    }

    fn asked(&self, operation: Operation) -> Asked<'_> {
        Asked {
            principal: &self.principal,
            host: &self.host,
            operation,
        }
    }

    fn may(&self, decision: Decision) -> bool {
        match decision {
            Decision::Allowed => true,
            Decision::Denied => false,
            Decision::Unspoken => self.unspoken,
        }
    }

    /// Whether it may do that with the resource of that name.
    pub fn can(
        &self,
        view: &View,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> bool {
        self.is_super || self.may(view.acls.decide(resource, name, &self.asked(operation)))
    }

    pub fn can_cluster(&self, view: &View, operation: Operation) -> bool {
        self.can(view, operation, ResourceType::Cluster, CLUSTER)
    }

    /// Whether it may do that with any resource of the type.
    pub fn can_any(&self, view: &View, operation: Operation, resource: ResourceType) -> bool {
        self.is_super || self.may(view.acls.decide_any(resource, &self.asked(operation)))
    }
}
