//! The client that every process holds: one per process, cloned freely.

use std::sync::Arc;

use tokio::sync::{Notify, watch};
use whimbrel_fleet::{
    Clamp, Daemon, GroupName, HostPort, MovePlan, MoveReport, Node, NodeId, RegionEpoch, View,
    quota::QuotaChange,
};
use whimbrel_runtime::{Clock, Tasks};

use super::{
    call::{Again, BRIEF, Calls},
    error::ControlError,
    messages::{
        FleetStatus, MorePartitions, MoveRequest, NewTopic, PositionReport, ProducerIdBlock,
        Registered, TopicChanged, TopicConfigChange, id_or_nil,
    },
    registration::{self, Registration},
    watch as watching,
};
use crate::{address::uuid_bytes, proto::controller as proto};

/// Clones share connections, the watched view and the known leader.
#[derive(Clone, Debug)]
pub struct ControllerClient {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) calls: Calls,
    pub(super) fleet_id: String,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) unknown: Notify,
    pub(super) tasks: Tasks,
}

impl ControllerClient {
    /// Connects lazily; the view is watched from now on until shutdown. Without a `fleet_id` whichever
    /// fleet answers is taken.
    pub fn connect(
        voters: Vec<HostPort>,
        fleet_id: Option<String>,
        tasks: &Tasks,
        clock: Clock,
    ) -> Self {
        let inner = Arc::new(Inner {
            calls: Calls::new(voters, clock),
            fleet_id: fleet_id.unwrap_or_default(),
            view: watch::Sender::new(Arc::default()),
            unknown: Notify::new(),
            tasks: tasks.clone(),
        });
        tasks.spawn_ok(
            "controller watch",
            watching::run(Arc::clone(&inner), tasks.shutdown()),
        );
        Self { inner }
    }

    /// The newest view; version 0 until the first one came. Versions never go back.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.inner.view.subscribe()
    }

    /// Registers a broker's incarnation once. Brokers use [`Self::keep_registered`].
    pub async fn register(&self, node: &Node) -> Result<Registered, ControlError> {
        let request = proto::RegisterRequest {
            fleet_id: self.inner.fleet_id.clone(),
            node: json("register", node)?,
        };
        let reply = self.inner.calls.leader("register", Again::Repeat, |mut c| {
            let request = request.clone();
            async move { c.register(request).await }
        });
        let reply = reply.await?;
        Ok(Registered {
            fleet_id: reply.fleet_id,
            version: reply.version,
        })
    }

    pub async fn register_daemon(&self, daemon: &Daemon) -> Result<Registered, ControlError> {
        let request = proto::RegisterDaemonRequest {
            fleet_id: self.inner.fleet_id.clone(),
            daemon: json("register_daemon", daemon)?,
        };
        let reply = self
            .inner
            .calls
            .leader("register_daemon", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.register_daemon(request).await }
            });
        Ok(Registered {
            fleet_id: reply.await?.fleet_id,
            version: 0,
        })
    }

    /// Registers until it worked, and again whenever the fleet no longer knows this incarnation. The
    /// receiver says where it stands; [`Registration::Superseded`] is final.
    pub fn keep_registered(&self, node: Node) -> watch::Receiver<Registration> {
        let (state, receiver) = watch::channel(Registration::Pending);
        let (client, tasks) = (self.clone(), self.inner.tasks.clone());
        tasks.spawn_ok(
            "registration",
            registration::broker(client, node, state, tasks.shutdown()),
        );
        receiver
    }

    /// As [`Self::keep_registered`], for a process that is not a broker.
    pub fn keep_daemon_registered(&self, daemon: Daemon) -> watch::Receiver<Registration> {
        let (state, receiver) = watch::channel(Registration::Pending);
        let (client, tasks) = (self.clone(), self.inner.tasks.clone());
        tasks.spawn_ok(
            "registration",
            registration::daemon(client, daemon, state, tasks.shutdown()),
        );
        receiver
    }

    /// Recognised by its topic id when it comes twice.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicChanged, ControlError> {
        let request = proto::CreateTopicRequest {
            name: topic.name,
            topic_id: uuid_bytes(topic.topic_id),
            partitions: topic.partitions,
            replication_factor: i32::from(topic.replication_factor),
            configs: topic.configs.into_iter().collect(),
            internal: topic.internal,
            validate_only: topic.validate_only,
            copies: copies(&topic.copies),
        };
        let reply = self
            .inner
            .calls
            .leader("create_topic", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.create_topic(request).await }
            });
        changed(reply.await?)
    }

    /// Not repeated after an unknown outcome: look at the view then.
    pub async fn delete_topic(&self, name: &str) -> Result<TopicChanged, ControlError> {
        let reply = self
            .inner
            .calls
            .leader("delete_topic", Again::Never, |mut c| {
                let request = proto::DeleteTopicRequest {
                    name: name.to_owned(),
                };
                async move { c.delete_topic(request).await }
            });
        changed(reply.await?)
    }

    /// Not repeated after an unknown outcome: look at the view then.
    pub async fn create_partitions(
        &self,
        more: MorePartitions,
    ) -> Result<TopicChanged, ControlError> {
        let request = proto::CreatePartitionsRequest {
            name: more.name,
            total: more.total,
            validate_only: more.validate_only,
            copies: copies(&more.copies),
        };
        let reply = self
            .inner
            .calls
            .leader("create_partitions", Again::Never, |mut c| {
                let request = request.clone();
                async move { c.create_partitions(request).await }
            });
        changed(reply.await?)
    }

    /// A repeated change comes out the same.
    pub async fn alter_topic_configs(
        &self,
        change: TopicConfigChange,
    ) -> Result<TopicChanged, ControlError> {
        let request = proto::AlterTopicConfigsRequest {
            name: change.name,
            changes: json("alter_topic_configs", &change.changes)?,
            replace: change.replace,
            validate_only: change.validate_only,
        };
        let reply = self
            .inner
            .calls
            .leader("alter_topic_configs", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.alter_topic_configs(request).await }
            });
        changed(reply.await?)
    }

    /// The view shows the change from the answered version on. A repeated change comes out the same.
    pub async fn alter_client_quotas(
        &self,
        changes: &[QuotaChange],
        validate_only: bool,
    ) -> Result<u64, ControlError> {
        let request = proto::AlterClientQuotasRequest {
            changes: json("alter_client_quotas", &changes)?,
            validate_only,
        };
        let reply = self
            .inner
            .calls
            .leader("alter_client_quotas", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.alter_client_quotas(request).await }
            });
        Ok(changed(reply.await?)?.version)
    }

    /// A repeated request wastes a block and never gives one twice.
    pub async fn allocate_producer_ids(
        &self,
        node: NodeId,
    ) -> Result<ProducerIdBlock, ControlError> {
        let reply = self
            .inner
            .calls
            .leader("allocate_producer_ids", Again::Repeat, |mut c| {
                let request = proto::AllocateProducerIdsRequest { node: node.0 };
                async move { c.allocate_producer_ids(request).await }
            });
        let reply = reply.await?;
        Ok(ProducerIdBlock {
            first: reply.first,
            len: reply.len,
        })
    }

    /// False when the fleet does not know this incarnation; [`Self::keep_registered`] then registers again.
    pub async fn report_positions(&self, report: PositionReport) -> Result<bool, ControlError> {
        let request = proto::PositionReport::from(report);
        let reply =
            self.inner
                .calls
                .leader_within(BRIEF, "report_positions", Again::Repeat, |mut c| {
                    let request = request.clone();
                    async move { c.report_positions(request).await }
                });
        let known = reply.await?.known;
        if !known {
            self.inner.unknown.notify_waiters();
        }
        Ok(known)
    }

    /// Every coordinator broker of the new home sends this once after a lossy move, also when it had
    /// nothing to clamp. Repeats are recognised.
    pub async fn report_clamps(
        &self,
        group: &GroupName,
        epoch: RegionEpoch,
        clamps: &[Clamp],
    ) -> Result<(), ControlError> {
        let request = proto::ReportClampsRequest {
            group: group.to_string(),
            epoch: epoch.0,
            clamps: json("report_clamps", &clamps)?,
        };
        let reply = self
            .inner
            .calls
            .leader("report_clamps", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.report_clamps(request).await }
            });
        reply.await.map(|_| ())
    }

    /// What the move would do now. Changes nothing.
    pub async fn plan_move(&self, request: &MoveRequest) -> Result<MovePlan, ControlError> {
        let request = move_request("plan_move", request)?;
        let reply = self
            .inner
            .calls
            .leader("plan_move", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.plan_move(request).await }
            });
        parse("plan_move", &reply.await?.plan)
    }

    /// Commits the fence and returns; [`Self::move_status`] tells how it goes on.
    pub async fn apply_move(&self, request: &MoveRequest) -> Result<MovePlan, ControlError> {
        let request = move_request("apply_move", request)?;
        let reply = self
            .inner
            .calls
            .leader("apply_move", Again::Repeat, |mut c| {
                let request = request.clone();
                async move { c.apply_move(request).await }
            });
        parse("apply_move", &reply.await?.plan)
    }

    /// The group's newest move, under way or over; `None` when it never moved.
    pub async fn move_status(&self, group: &GroupName) -> Result<Option<MoveReport>, ControlError> {
        let reply = self
            .inner
            .calls
            .leader("move_status", Again::Repeat, |mut c| {
                let request = proto::MoveStatusRequest {
                    group: group.to_string(),
                };
                async move { c.move_status(request).await }
            });
        let report = reply.await?.report;
        if report.is_empty() {
            Ok(None)
        } else {
            parse("move_status", &report).map(Some)
        }
    }

    pub async fn status(&self) -> Result<FleetStatus, ControlError> {
        let reply = self
            .inner
            .calls
            .leader("status", Again::Repeat, |mut c| async move {
                c.status(proto::Empty {}).await
            });
        let reply = reply.await?;
        Ok(FleetStatus {
            raft: parse("status", &reply.raft)?,
            view: parse("status", &reply.view)?,
        })
    }
}

fn json(call: &'static str, value: &impl serde::Serialize) -> Result<bytes::Bytes, ControlError> {
    match serde_json::to_vec(value) {
        Ok(text) => Ok(text.into()),
        Err(error) => Err(ControlError::Malformed {
            call,
            message: error.to_string(),
        }),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    call: &'static str,
    text: &[u8],
) -> Result<T, ControlError> {
    serde_json::from_slice(text).map_err(|e| ControlError::BadAnswer {
        call,
        reason: e.to_string(),
    })
}

fn copies(of: &[Vec<NodeId>]) -> Vec<proto::Copies> {
    let one = |nodes: &Vec<NodeId>| proto::Copies {
        nodes: nodes.iter().map(|node| node.0).collect(),
    };
    of.iter().map(one).collect()
}

fn changed(reply: proto::TopicReply) -> Result<TopicChanged, ControlError> {
    match i16::try_from(reply.error_code).unwrap_or(-1) {
        0 => Ok(TopicChanged {
            topic_id: id_or_nil(&reply.topic_id),
            version: reply.version,
        }),
        error_code => Err(ControlError::Kafka {
            error_code,
            message: reply.message,
        }),
    }
}

fn move_request(
    call: &'static str,
    request: &MoveRequest,
) -> Result<proto::MoveRequest, ControlError> {
    Ok(proto::MoveRequest {
        group: request.group.to_string(),
        to: request.to.to_string(),
        mode: request.mode.to_string(),
        accept_loss: json(call, &request.accept_loss)?,
        plan: request.plan.clone().unwrap_or_default(),
        declare_lost: request.declare_lost,
    })
}
