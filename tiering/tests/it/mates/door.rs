//! Where a daemon's mates ask it for edits, and whether it is there.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};
use whimbrel_fleet::{Daemon, HostPort, NodeId, Role};
use whimbrel_rpc::proto::node::{
    self,
    tiering_server::{Tiering, TieringServer},
};
use whimbrel_runtime::{OnError, Tasks, random};
use whimbrel_tiering::committer::Committer;

#[derive(Clone, Debug, Default)]
pub struct Door {
    behind: Arc<OnceLock<Committer>>,
    stopped: Arc<AtomicBool>,
}

impl Door {
    /// Listens; the daemon as its fleet registers it.
    pub async fn open(&self, id: i32, tasks: &Tasks) -> Daemon {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shutdown = tasks.shutdown();
        let server = Server::builder().add_service(TieringServer::new(self.clone()));
        tasks.spawn(
            "door",
            OnError::Log,
            server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), async move {
                shutdown.wait().await
            }),
        );
        Daemon {
            role: Role::Tiering,
            region: "east".into(),
            node: NodeId(id),
            incarnation: random::uuid(),
            rpc: Some(HostPort::new("127.0.0.1", port)),
            admin: HostPort::new("127.0.0.1", 1),
        }
    }

    pub fn lead_to(&self, committer: &Committer) {
        self.behind.set(committer.clone()).unwrap();
    }

    /// Nobody answers here from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    async fn stopped(&self) {
        if self.stopped.load(Ordering::SeqCst) {
            std::future::pending().await
        }
    }
}

fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("mates ask for edits"))
}

#[async_trait::async_trait]
impl Tiering for Door {
    async fn read(
        &self,
        _: Request<node::ReadRequest>,
    ) -> Result<Response<node::ReadReply>, Status> {
        not_here()
    }

    async fn offset_for_timestamp(
        &self,
        _: Request<node::TimestampRequest>,
    ) -> Result<Response<node::TimestampReply>, Status> {
        not_here()
    }

    async fn lineage(
        &self,
        _: Request<node::LineageRequest>,
    ) -> Result<Response<node::LineageReply>, Status> {
        not_here()
    }

    async fn store_orphan(
        &self,
        _: Request<node::OrphanRequest>,
    ) -> Result<Response<node::OrphanReply>, Status> {
        not_here()
    }

    async fn truncate(
        &self,
        _: Request<node::TruncateRequest>,
    ) -> Result<Response<node::TruncateReply>, Status> {
        not_here()
    }

    async fn edit(
        &self,
        request: Request<node::EditRequest>,
    ) -> Result<Response<node::EditReply>, Status> {
        let away = || Status::unavailable("not open yet");
        let node::EditRequest { shard, edit } = request.into_inner();
        let shard = u16::try_from(shard).unwrap();
        self.stopped().await;
        let committer = self.behind.get().ok_or_else(away)?;
        let done = committer.edit_as_owner(shard, &edit).await;
        Ok(Response::new(node::EditReply {
            outcome: done.map_err(|e| Status::unavailable(e.to_string()))?.into(),
        }))
    }

    async fn hold(
        &self,
        _: Request<node::HoldRequest>,
    ) -> Result<Response<node::HoldReply>, Status> {
        not_here()
    }

    async fn alive(&self, _: Request<node::Empty>) -> Result<Response<node::Empty>, Status> {
        self.stopped().await;
        Ok(Response::new(node::Empty {}))
    }
}
