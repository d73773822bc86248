//! openraft's messages to the other voters, over tonic. Every message names the fleet and the voter it
//! is meant for; both are refused on the other side when they do not match.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::{
    AnyError, BasicNode, OptionalSend, RaftNetwork, RaftNetworkFactory, Snapshot,
    error::{
        Fatal, NetworkError, RPCError, RaftError, RemoteError, ReplicationClosed, StreamingError,
        Unreachable,
    },
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use whimbrel_fleet::HostPort;
use whimbrel_rpc::proto::controller::{RaftMessage, SnapshotChunk, raft_client::RaftClient};

use super::{MESSAGE_BYTES, TypeConfig, Vote};

/// Bytes per message of a snapshot.
const CHUNK_BYTES: usize = 512 << 10;
/// Pause before a voter that could not be reached is tried again; well below an election timeout.
const RETRY: Duration = Duration::from_millis(200);

type Failure = RPCError<u64, BasicNode, RaftError<u64>>;

/// Opens a peer per voter, at the address configured here rather than the one that was once committed.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) fleet_id: Arc<str>,
    pub(crate) voters: Arc<BTreeMap<u64, HostPort>>,
}

#[derive(Debug)]
pub(crate) struct Peer {
    fleet_id: Arc<str>,
    target: u64,
    stub: Option<RaftClient<Channel>>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        let address = self
            .voters
            .get(&target)
            .map_or_else(|| node.addr.clone(), ToString::to_string);
        Peer {
            fleet_id: Arc::clone(&self.fleet_id),
            target,
            stub: connect(&address),
        }
    }
}

fn connect(address: &str) -> Option<RaftClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).ok()?;
    let channel = endpoint
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .connect_lazy();
    Some(
        RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES),
    )
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);

fn unreachable(why: impl ToString) -> Unreachable {
    Unreachable::new(&Said(why.to_string()))
}

impl Peer {
    fn stub(&self) -> Result<RaftClient<Channel>, Unreachable> {
        self.stub
            .clone()
            .ok_or_else(|| unreachable(format!("voter {} has no valid address", self.target)))
    }

    fn message(&self, body: &impl Serialize) -> Result<RaftMessage, Unreachable> {
        let json = serde_json::to_vec(body).map_err(unreachable)?.into();
        Ok(RaftMessage {
            fleet_id: self.fleet_id.to_string(),
            target: self.target,
            json,
        })
    }

    #[expect(
        clippy::result_large_err,
        reason = "openraft's error, by value as its traits want it"
    )]
    fn answer<T: DeserializeOwned>(&self, reply: &RaftMessage) -> Result<T, Failure> {
        let answer: Result<T, RaftError<u64>> = serde_json::from_slice(&reply.json)
            .map_err(|e| NetworkError::from(AnyError::new(&e)))?;
        answer.map_err(|e| RemoteError::new(self.target, e).into())
    }
}

fn lost(status: &Status) -> Failure {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            RPCError::Unreachable(unreachable(status))
        }
        _ => RPCError::Network(NetworkError::new(&Said(status.to_string()))),
    }
}

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, Failure> {
        let message = self.message(&rpc)?;
        let reply = self.stub()?.append(message).await.map_err(|s| lost(&s))?;
        self.answer(reply.get_ref())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        _: RPCOption,
    ) -> Result<VoteResponse<u64>, Failure> {
        let message = self.message(&rpc)?;
        let reply = self.stub()?.vote(message).await.map_err(|s| lost(&s))?;
        self.answer(reply.get_ref())
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let head = serde_json::to_vec(&(vote, &snapshot.meta)).map_err(unreachable)?;
        let chunks = chunks(&self.fleet_id, self.target, head, &snapshot.snapshot);
        let mut stub = self.stub()?;
        let reply = tokio::select! {
            closed = cancel => return Err(closed.into()),
            reply = stub.snapshot(tokio_stream::iter(chunks)) => reply.map_err(unreachable)?,
        };
        let answer: Result<SnapshotResponse<u64>, Fatal<u64>> =
            serde_json::from_slice(&reply.get_ref().json).map_err(unreachable)?;
        answer.map_err(|e| RemoteError::new(self.target, e).into())
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}

fn chunks(fleet_id: &str, target: u64, head: Vec<u8>, data: &[u8]) -> Vec<SnapshotChunk> {
    let mut head = Some(bytes::Bytes::from(head));
    let mut chunk = |part: &[u8]| SnapshotChunk {
        fleet_id: fleet_id.to_owned(),
        target,
        head: head.take().unwrap_or_default(),
        data: bytes::Bytes::copy_from_slice(part),
    };
    if data.is_empty() {
        return vec![chunk(&[])];
    }
    data.chunks(CHUNK_BYTES).map(chunk).collect()
}
