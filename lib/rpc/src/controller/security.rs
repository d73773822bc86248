//! Users' credentials and the access control list.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use whimbrel_fleet::{
    acl::{Acl, AclFilter},
    credential::CredentialChange,
};

use super::{call::Again, client::ControllerClient, error::ControlError};
use crate::proto::controller as proto;

/// A change of the access control list that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclsAltered {
    pub deleted: Vec<Acl>,
    /// The view shows it from this version on.
    pub version: u64,
}

impl ControllerClient {
    /// The view shows the change from the answered version on. A repeated change comes out the same.
    pub async fn alter_credentials(
        &self,
        changes: &[CredentialChange],
    ) -> Result<u64, ControlError> {
        let request = proto::AlterCredentialsRequest {
            changes: json("alter_credentials", &changes)?,
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("alter_credentials", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.alter_credentials(request).await }
        });
        let reply = reply.await?;
        refused(reply.error_code, reply.message)?;
        Ok(reply.version)
    }

    /// Takes away whatever fits a filter, and adds entries. A repeated change comes out the same, but that it names
    /// no longer what the first one took away.
    pub async fn alter_acls(
        &self,
        create: &[Acl],
        delete: &[AclFilter],
    ) -> Result<AclsAltered, ControlError> {
        let request = proto::AlterAclsRequest {
            create: json("alter_acls", &create)?,
            delete: json("alter_acls", &delete)?,
        };
        let calls = &self.inner.calls;
        let reply = calls.leader("alter_acls", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.alter_acls(request).await }
        });
        let reply = reply.await?;
        refused(reply.error_code, reply.message)?;
        Ok(AclsAltered {
            deleted: parse("alter_acls", &reply.deleted)?,
            version: reply.version,
        })
    }
}

pub(super) fn refused(error_code: i32, message: String) -> Result<(), ControlError> {
    match i16::try_from(error_code).unwrap_or(-1) {
        0 => Ok(()),
        error_code => Err(ControlError::Kafka {
            error_code,
            message,
        }),
    }
}

pub(super) fn json(call: &'static str, value: &impl Serialize) -> Result<Bytes, ControlError> {
    let text = serde_json::to_vec(value).map_err(|error| ControlError::Malformed {
        call,
        message: error.to_string(),
    })?;
    Ok(text.into())
}

pub(super) fn parse<T: DeserializeOwned>(
    call: &'static str,
    text: &[u8],
) -> Result<T, ControlError> {
    serde_json::from_slice(text).map_err(|error| ControlError::BadAnswer {
        call,
        reason: error.to_string(),
    })
}
