//! The controller's tonic service: requests of brokers, daemons and tools.
//!
//! Everything but `Watch` is the leader's; other voters answer FAILED_PRECONDITION with its address.

mod answer;
mod configs;
mod moves;
mod replicas;
mod requests;
mod restore;
mod security;
mod watch;

use std::sync::Arc;

use tonic::{Request, Response, Status};
use whimbrel_rpc::{
    controller::PositionReport,
    proto::controller::{self as proto, controller_server},
};
use whimbrel_runtime::Shutdown;

use crate::{
    codes,
    health::Alive,
    mover::Mover,
    state::{Command, MorePartitions, Outcome, State},
};

pub(crate) use watch::Pages;

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) fleet_id: Arc<str>,
    pub(crate) mover: Mover,
    pub(crate) pages: Arc<Pages>,
    pub(crate) alive: Arc<Alive>,
    pub(crate) shutdown: Shutdown,
}

impl Server {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.mover.state.borrow())
    }

    /// Until the first commit the fleet has no regions to belong to: nobody leads it yet.
    fn check_set_up(&self) -> Result<(), Status> {
        if self.state().view.regions.is_empty() {
            return Err(Status::failed_precondition("the fleet is being set up"));
        }
        Ok(())
    }

    fn check_fleet(&self, fleet_id: &str) -> Result<(), Status> {
        if fleet_id.is_empty() || *fleet_id == *self.fleet_id {
            return Ok(());
        }
        Err(answer::refused(
            codes::FOREIGN_FLEET,
            &format!(
                "this is fleet {}, the request is for {fleet_id:.64}",
                self.fleet_id
            ),
        ))
    }

    async fn propose(&self, command: Command) -> Result<(u64, Outcome), Status> {
        let applied = self
            .mover
            .proposer
            .propose(command)
            .await
            .map_err(answer::not_proposed)?;
        match applied.outcome {
            Outcome::Refused { code, message } => Err(answer::refused(&code, &message)),
            outcome => Ok((applied.version, outcome)),
        }
    }

    async fn confirm(&self) -> Result<Arc<State>, Status> {
        self.mover
            .proposer
            .confirm()
            .await
            .map_err(answer::not_proposed)?;
        Ok(self.state())
    }
}

#[tonic::async_trait]
impl controller_server::Controller for Server {
    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterReply>, Status> {
        let request = request.into_inner();
        self.check_fleet(&request.fleet_id)?;
        self.check_set_up()?;
        let node = requests::node(&request.node)?;
        let alive = self.alive.nodes();
        let (version, _) = self.propose(Command::StartNode { node, alive }).await?;
        Ok(Response::new(proto::RegisterReply {
            fleet_id: self.fleet_id.to_string(),
            version,
        }))
    }

    async fn register_daemon(
        &self,
        request: Request<proto::RegisterDaemonRequest>,
    ) -> Result<Response<proto::RegisterDaemonReply>, Status> {
        let request = request.into_inner();
        self.check_fleet(&request.fleet_id)?;
        self.check_set_up()?;
        let daemon = requests::daemon(&request.daemon)?;
        self.propose(Command::RegisterDaemon { daemon }).await?;
        Ok(Response::new(proto::RegisterDaemonReply {
            fleet_id: self.fleet_id.to_string(),
        }))
    }

    type WatchStream = watch::WatchStream;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.check_fleet(&request.get_ref().fleet_id)?;
        Ok(Response::new(watch::stream(self, request.get_ref())))
    }

    async fn create_topic(
        &self,
        request: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let request = request.into_inner();
        let validate_only = request.validate_only;
        let topic = requests::topic(request)?;
        if let Err(refusal) = configs::check(&topic) {
            return Ok(answer::topic(self.state().view.version, refusal));
        }
        if validate_only {
            let state = self.confirm().await?;
            let outcome = state.check_create(&topic).map_or_else(
                |refusal| refusal,
                |_| Outcome::Topic {
                    topic_id: topic.topic_id,
                },
            );
            return Ok(answer::topic(state.view.version, outcome));
        }
        let (version, outcome) = self.propose(Command::CreateTopic(topic)).await?;
        Ok(answer::topic(version, outcome))
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let (version, outcome) = self
            .propose(Command::DeleteTopic {
                name: request.into_inner().name,
            })
            .await?;
        Ok(answer::topic(version, outcome))
    }

    async fn create_partitions(
        &self,
        request: Request<proto::CreatePartitionsRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let proto::CreatePartitionsRequest {
            name,
            total,
            validate_only,
            copies,
        } = request.into_inner();
        let copies = requests::copies(copies);
        if validate_only {
            let state = self.confirm().await?;
            let outcome = state.check_partitions(&name, total, &copies).map_or_else(
                |refusal| refusal,
                |topic| Outcome::Topic { topic_id: topic.id },
            );
            return Ok(answer::topic(state.view.version, outcome));
        }
        let (version, outcome) = self
            .propose(Command::CreatePartitions(MorePartitions {
                name,
                total,
                copies,
            }))
            .await?;
        Ok(answer::topic(version, outcome))
    }

    async fn alter_topic_configs(
        &self,
        request: Request<proto::AlterTopicConfigsRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let (version, outcome) = self.alter_configs(&request.into_inner()).await?;
        Ok(answer::topic(version, outcome))
    }

    async fn alter_resource_configs(
        &self,
        request: Request<proto::AlterResourceConfigsRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let (version, outcome) = self.alter_resource(&request.into_inner()).await?;
        Ok(answer::topic(version, outcome))
    }

    async fn alter_client_quotas(
        &self,
        request: Request<proto::AlterClientQuotasRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let (version, outcome) = self.alter_quotas(&request.into_inner()).await?;
        Ok(answer::topic(version, outcome))
    }

    async fn alter_credentials(
        &self,
        request: Request<proto::AlterCredentialsRequest>,
    ) -> Result<Response<proto::TopicReply>, Status> {
        let (version, outcome) = self.change_credentials(&request.into_inner()).await?;
        Ok(answer::topic(version, outcome))
    }

    async fn alter_acls(
        &self,
        request: Request<proto::AlterAclsRequest>,
    ) -> Result<Response<proto::AlterAclsReply>, Status> {
        answer::acls(self.change_acls(&request.into_inner()).await?)
    }

    async fn allocate_producer_ids(
        &self,
        _: Request<proto::AllocateProducerIdsRequest>,
    ) -> Result<Response<proto::ProducerIdBlock>, Status> {
        match self.propose(Command::AllocateProducerIds).await? {
            (_, Outcome::ProducerIds { first, len }) => {
                Ok(Response::new(proto::ProducerIdBlock { first, len }))
            }
            (_, other) => Err(answer::unexpected(&other)),
        }
    }

    async fn report_positions(
        &self,
        request: Request<proto::PositionReport>,
    ) -> Result<Response<proto::PositionReply>, Status> {
        self.mover
            .proposer
            .require_leader()
            .map_err(answer::not_proposed)?;
        let report = PositionReport::try_from(request.into_inner())
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let known =
            self.mover
                .positions
                .take(report, &self.state().view, self.mover.clock.boot_ns());
        Ok(Response::new(proto::PositionReply { known }))
    }

    async fn report_clamps(
        &self,
        request: Request<proto::ReportClampsRequest>,
    ) -> Result<Response<proto::Empty>, Status> {
        self.take_clamps(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn alter_isr(
        &self,
        request: Request<proto::AlterIsrRequest>,
    ) -> Result<Response<proto::AlterIsrReply>, Status> {
        self.take_isr(request.into_inner()).await.map(Response::new)
    }

    async fn elect_leaders(
        &self,
        request: Request<proto::ElectLeadersRequest>,
    ) -> Result<Response<proto::PartitionsReply>, Status> {
        self.elect(request.into_inner()).await.map(Response::new)
    }

    async fn reassign(
        &self,
        request: Request<proto::ReassignRequest>,
    ) -> Result<Response<proto::PartitionsReply>, Status> {
        self.take_reassignments(request.into_inner())
            .await
            .map(Response::new)
    }

    async fn plan_move(
        &self,
        request: Request<proto::MoveRequest>,
    ) -> Result<Response<proto::MoveReply>, Status> {
        let request = requests::move_request(request.into_inner())?;
        let plan = self.plan(&request).await?;
        answer::plan(&plan)
    }

    async fn apply_move(
        &self,
        request: Request<proto::MoveRequest>,
    ) -> Result<Response<proto::MoveReply>, Status> {
        let request = requests::move_request(request.into_inner())?;
        let plan = self.apply(&request).await?;
        answer::plan(&plan)
    }

    async fn move_status(
        &self,
        request: Request<proto::MoveStatusRequest>,
    ) -> Result<Response<proto::MoveStatusReply>, Status> {
        let state = self.confirm().await?;
        let report = state
            .reports
            .get(&request.into_inner().group.into())
            .map(answer::json)
            .transpose()?;
        Ok(Response::new(proto::MoveStatusReply {
            report: report.unwrap_or_default(),
        }))
    }

    async fn begin_restore(
        &self,
        request: Request<proto::BeginRestoreRequest>,
    ) -> Result<Response<proto::RestoreReply>, Status> {
        self.begin(request.get_ref()).await.map(Response::new)
    }

    async fn end_restore(
        &self,
        request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreReply>, Status> {
        self.end(request.into_inner().job).await.map(Response::new)
    }

    async fn abandon_restore(
        &self,
        request: Request<proto::RestoreRequest>,
    ) -> Result<Response<proto::RestoreReply>, Status> {
        let job = request.into_inner().job;
        self.abandon(job).await.map(Response::new)
    }

    async fn restore_progress(
        &self,
        _: Request<proto::Empty>,
    ) -> Result<Response<proto::RestoreProgressReply>, Status> {
        let progress = answer::json(&self.progress().await?)?;
        Ok(Response::new(proto::RestoreProgressReply { progress }))
    }

    async fn status(
        &self,
        _: Request<proto::Empty>,
    ) -> Result<Response<proto::StatusReply>, Status> {
        self.mover
            .proposer
            .require_leader()
            .map_err(answer::not_proposed)?;
        let raft = answer::json(&self.mover.proposer.status())?;
        Ok(Response::new(proto::StatusReply {
            raft,
            view: answer::json(&self.state().view.without_secrets())?,
        }))
    }
}
