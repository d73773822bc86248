//! Changes of users and of the access control list: judged here, committed as what they come to.

use tonic::Status;
use whimbrel_fleet::{
    acl::{Acl, AclFilter},
    credential::CredentialChange,
};
use whimbrel_rpc::proto::controller as proto;

use super::{Server, requests};
use crate::state::{Command, Outcome, kafka};

/// Entries and filters of one change: what fits a message of the raft log several times.
const MAX_CHANGES: usize = 1_000;

/// Entries that filters may take away at once: the answer names them all.
const MAX_DELETED: usize = 2_000;

/// What a change of the list came to.
pub(super) struct Altered {
    pub version: u64,
    pub outcome: Outcome,
    pub deleted: Vec<Acl>,
}

impl Server {
    /// The view's version that shows the change, and what it came to.
    pub(super) async fn change_credentials(
        &self,
        request: &proto::AlterCredentialsRequest,
    ) -> Result<(u64, Outcome), Status> {
        let changes = requests::credential_changes(&request.changes)?;
        let refused = changes.iter().find_map(CredentialChange::refuse);
        if let Some(why) = refused.or_else(|| too_many(changes.len())) {
            return Ok((self.state().view.version, refusal(why)));
        }
        self.propose(Command::AlterCredentials { changes }).await
    }

    /// Filters are looked up in a state that no other leader can have gone beyond; what they fit is committed by value.
    pub(super) async fn change_acls(
        &self,
        request: &proto::AlterAclsRequest,
    ) -> Result<Altered, Status> {
        let create = requests::acls(&request.create)?;
        let filters = requests::acl_filters(&request.delete)?;
        let refused = create.iter().find_map(Acl::refuse);
        if let Some(why) = refused.or_else(|| too_many(create.len().max(filters.len()))) {
            return Ok(Altered {
                version: self.state().view.version,
                outcome: refusal(why),
                deleted: Vec::new(),
            });
        }
        let fitting = |acl: &Acl| filters.iter().any(|filter: &AclFilter| filter.fits(acl));
        let deleted: Vec<Acl> = if filters.is_empty() {
            Vec::new()
        } else {
            let state = self.confirm().await?;
            state.view.acls.iter().filter(fitting).collect()
        };
        if deleted.len() > MAX_DELETED {
            let why =
                format!("more than {MAX_DELETED} entries fit the filters: name fewer at once");
            return Ok(Altered {
                version: self.state().view.version,
                outcome: refusal(why),
                deleted: Vec::new(),
            });
        }
        // What is deleted may be more than one message of the log holds.
        let mut done = (self.state().view.version, Outcome::Done);
        for part in deleted.chunks(MAX_CHANGES) {
            let command = Command::AlterAcls {
                delete: part.to_vec(),
                create: Vec::new(),
            };
            done = self.propose(command).await?;
        }
        if !create.is_empty() {
            let delete = Vec::new();
            done = self.propose(Command::AlterAcls { delete, create }).await?;
        }
        Ok(Altered {
            version: done.0,
            outcome: done.1,
            deleted,
        })
    }
}

fn too_many(changes: usize) -> Option<String> {
    (changes > MAX_CHANGES).then(|| format!("more than {MAX_CHANGES} changes at once"))
}

fn refusal(why: String) -> Outcome {
    Outcome::kafka(kafka::INVALID_REQUEST, why)
}
