//! openraft's messages from the other voters.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status, Streaming};
use whimbrel_fleet::HostPort;
use whimbrel_rpc::proto::controller::{RaftMessage, SnapshotChunk, raft_server};

use super::{Raft, SnapshotMeta, TypeConfig, Vote};

/// Longest snapshot taken in.
const SNAPSHOT_BYTES: usize = 512 << 20;

#[derive(Clone)]
pub(crate) struct RaftService {
    pub(crate) fleet_id: Arc<str>,
    pub(crate) voter: u64,
    /// As this voter is configured.
    pub(crate) voters: Arc<BTreeMap<u64, HostPort>>,
    pub(crate) raft: Raft,
}

impl RaftService {
    fn check(&self, fleet_id: &str, target: u64) -> Result<(), Status> {
        if *fleet_id != *self.fleet_id {
            return Err(Status::permission_denied(format!(
                "this voter belongs to fleet {}, the message to {fleet_id:.64}",
                self.fleet_id
            )));
        }
        if target != self.voter {
            return Err(Status::permission_denied(format!(
                "this is voter {}, the message is for voter {target}",
                self.voter
            )));
        }
        Ok(())
    }

    /// Who votes or leads is a member: one of the set that was committed, or one this voter was configured with,
    /// which may be ahead of what it has heard of the set.
    fn check_member(&self, vote: &Vote) -> Result<(), Status> {
        let by = vote.leader_id.node_id;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let members = metrics.membership_config.membership();
        let is_member = self.voters.contains_key(&by) || members.get_node(&by).is_some();
        if is_member && by != self.voter {
            return Ok(());
        }
        Err(Status::permission_denied(format!(
            "{by} is no other member of this fleet's controller"
        )))
    }

    fn read<T: DeserializeOwned>(&self, message: &RaftMessage) -> Result<T, Status> {
        self.check(&message.fleet_id, message.target)?;
        parse(&message.json)
    }

    fn reply(&self, answer: &impl Serialize) -> Result<Response<RaftMessage>, Status> {
        let json = serde_json::to_vec(answer)
            .map_err(|e| Status::internal(e.to_string()))?
            .into();
        Ok(Response::new(RaftMessage {
            fleet_id: self.fleet_id.to_string(),
            target: self.voter,
            json,
        }))
    }
}

fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(json)
        .map_err(|e| Status::invalid_argument(format!("unreadable raft message: {e}")))
}

#[tonic::async_trait]
impl raft_server::Raft for RaftService {
    async fn append(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let message =
            self.read::<openraft::raft::AppendEntriesRequest<TypeConfig>>(request.get_ref())?;
        self.check_member(&message.vote)?;
        self.reply(&self.raft.append_entries(message).await)
    }

    async fn vote(&self, request: Request<RaftMessage>) -> Result<Response<RaftMessage>, Status> {
        let message = self.read::<openraft::raft::VoteRequest<u64>>(request.get_ref())?;
        self.check_member(&message.vote)?;
        self.reply(&self.raft.vote(message).await)
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotChunk>>,
    ) -> Result<Response<RaftMessage>, Status> {
        let mut stream = request.into_inner();
        let first = stream
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("a snapshot without a head"))?;
        self.check(&first.fleet_id, first.target)?;
        let (vote, meta): (Vote, SnapshotMeta) = parse(&first.head)?;
        self.check_member(&vote)?;
        let mut data = first.data.to_vec();
        while let Some(chunk) = stream.message().await? {
            self.check(&chunk.fleet_id, chunk.target)?;
            if data.len() + chunk.data.len() > SNAPSHOT_BYTES {
                return Err(Status::resource_exhausted(
                    "the snapshot is longer than this voter takes in",
                ));
            }
            data.extend_from_slice(&chunk.data);
        }
        let snapshot = openraft::Snapshot {
            meta,
            snapshot: Box::new(data),
        };
        self.reply(&self.raft.install_full_snapshot(vote, snapshot).await)
    }
}
