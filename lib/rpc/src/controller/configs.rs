//! Configs of brokers and of consumer groups.

use whimbrel_fleet::{resource_config::Resource, topic_config::Change};

use super::{
    call::Again,
    client::ControllerClient,
    error::ControlError,
    security::{json, refused},
};
use crate::proto::controller as proto;

/// A change of one resource's configs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceConfigChange {
    pub resource: Resource,
    pub changes: Vec<Change>,
    /// Configs that are not named lose their values.
    pub replace: bool,
    /// Everything is checked, nothing is changed.
    pub validate_only: bool,
}

impl ControllerClient {
    /// The view shows the change from the answered version on. A repeated change comes out the same.
    pub async fn alter_resource_configs(
        &self,
        change: ResourceConfigChange,
    ) -> Result<u64, ControlError> {
        let request = proto::AlterResourceConfigsRequest {
            resource: json("alter_resource_configs", &change.resource)?,
            changes: json("alter_resource_configs", &change.changes)?,
            replace: change.replace,
            validate_only: change.validate_only,
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("alter_resource_configs", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.alter_resource_configs(request).await }
        });
        let reply = reply.await?;
        refused(reply.error_code, reply.message)?;
        Ok(reply.version)
    }
}
