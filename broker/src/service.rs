//! Starts a broker: binds, opens the disk, registers, and runs the parts.
//!
//! The disk is locked before anything is said to the controller: a second start on the same directory must
//! not take the first one's leadership away. Listeners serve only once this incarnation is registered.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use whimbrel_fleet::{
    HostPort, Incarnation, Node, NodeId, RegionName, View,
    naming::{CONSUMER_OFFSETS, TRANSACTION_STATE},
    view::OffsetsBlock,
};
use whimbrel_log::{Disk, DiskOptions, Log, OpenError};
use whimbrel_rpc::{
    controller::{ControllerClient, LeaseHolder, LeaseIdentity, Registration},
    replica::ConnectSink,
};
use whimbrel_runtime::{
    Clock, OnError, Tasks,
    admin::{Admin, AdminError},
    random, telemetry,
};

use crate::{
    auth::{Security, SecurityError},
    broker::{Broker, Parts},
    cleaner, cuts, early_acks,
    group::{Block, Coordinator, Options as GroupOptions},
    housekeeping, isr, listener, log_starts,
    offsets_log::Seam,
    options::{Limits, Options},
    replica, reports, roles,
    state_log::Led,
    status, txn, uploads,
};

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{listener} {address}: {source}")]
    Bind {
        listener: &'static str,
        address: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(
        "{listener} {address} is not loopback, and there is neither TLS nor authentication (insecure-bind = true allows it)"
    )]
    InsecureBind {
        listener: &'static str,
        address: HostPort,
    },
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("{0}")]
    Options(String),
    #[error("no controllers are configured")]
    NoControllers,
    #[error(transparent)]
    Disk(#[from] OpenError),
    #[error("{path}: {source}")]
    DataDir {
        path: String,
        source: std::io::Error,
    },
    #[error("the controller refused this broker ({code}): {message}")]
    Refused { code: String, message: String },
    #[error("a later start of this node has registered")]
    Superseded,
    #[error("the process was told to end before the broker was registered")]
    Cancelled,
}

impl StartError {
    /// For `whimbrel explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bind { .. } | Self::Admin(_) => "WB-101",
            Self::Disk(OpenError::Locked { .. }) => "WB-102",
            Self::Disk(OpenError::ForeignFleet { .. } | OpenError::ForeignNode { .. }) => "WB-103",
            Self::Disk(_) | Self::DataDir { .. } => "WB-104",
            Self::InsecureBind { .. } => "WB-105",
            Self::Refused { .. } | Self::Cancelled => "WB-106",
            Self::Superseded => "WB-107",
            Self::NoControllers => "WB-111",
            Self::Options(_) => "WB-121",
            Self::Security(_) => "WB-120",
        }
    }
}

/// Where a started broker listens.
#[derive(Clone, Debug)]
pub struct Handle {
    pub kafka: SocketAddr,
    pub replica: SocketAddr,
    pub rpc: SocketAddr,
    pub admin: SocketAddr,
    pub fleet_id: String,
    /// What clients are told.
    pub advertised: HostPort,
    broker: Arc<Broker>,
}

impl Handle {
    /// What the flow inside this broker's region needs to fill it; the process hosts that flow.
    pub fn follower(&self) -> Follower {
        Follower {
            region: self.broker.region.clone(),
            node: self.broker.node,
            incarnation: self.broker.incarnation,
            credit_bytes: self.broker.options.limits.replica_credit.0,
            view: self.broker.controller.view(),
            sink: Arc::new(replica::LocalSink(Arc::downgrade(&self.broker))),
        }
    }

    /// Syncs and closes the disk. Call after `tasks.stop(..)`: nothing may be appended any more.
    pub async fn close(self) {
        self.broker.orphans.store_changed();
        let disk = Arc::clone(&self.broker.disk);
        if let Err(error) = self.broker.tasks.blocking(move || disk.close()).await {
            tracing::error!(%error, "the disk was not closed cleanly; the next start recovers");
        }
    }
}

/// This broker as the target of its region's replica flow.
#[derive(Clone, Debug)]
pub struct Follower {
    pub region: RegionName,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub credit_bytes: u64,
    pub view: tokio::sync::watch::Receiver<Arc<View>>,
    pub sink: Arc<dyn ConnectSink>,
}

/// The broker role.
#[derive(Debug)]
pub struct Service;

struct Listeners {
    kafka: TcpListener,
    replica: TcpListener,
    rpc: TcpListener,
}

impl Service {
    /// Returns once the broker is registered and serves. Ends with `tasks`.
    pub async fn start(options: Options, tasks: Tasks, clock: Clock) -> Result<Handle, StartError> {
        check(&options)?;
        let security = Security::new(options.auth.as_ref(), options.tls.as_ref())?;
        // Counters made before the recorder is there would count for nobody.
        telemetry::metrics();
        let listeners = Listeners {
            kafka: bind("listen", &options.listen).await?,
            replica: bind("replica-listen", &options.replica_listen).await?,
            rpc: bind("rpc-listen", &options.rpc_listen).await?,
        };
        let path = options.data_dir.clone();
        std::fs::create_dir_all(&path).map_err(|source| StartError::DataDir {
            path: path.display().to_string(),
            source,
        })?;
        let known = known_fleet(&path).or_else(|| options.fleet_id.clone());
        let controller = ControllerClient::connect(
            options.controllers.clone(),
            known.clone(),
            &tasks,
            clock.clone(),
        );
        let fleet_id = match known {
            Some(id) => id,
            None => fleet_id(&controller, &tasks).await?,
        };
        let expected = options.fleet_id.clone().unwrap_or_else(|| fleet_id.clone());
        let disk = DiskOptions {
            root: path,
            cluster_id: expected,
            node_id: options.node_id,
        };
        let now_ms = clock.wall_ms();
        let (disk, logs) = tasks.blocking(move || Disk::open(disk, now_ms)).await?;
        early_acks::report(&disk);
        if let Some(reserve) = options.disk_reserve {
            disk.set_reserve(reserve.0);
        }
        let incarnation = random::uuid();
        let identity = LeaseIdentity {
            node: NodeId(options.node_id),
            incarnation,
            region: options.region.clone(),
        };
        let lease = LeaseHolder::new(options.controllers.clone(), identity, &tasks, clock.clone());
        let broker = Broker::new(Parts {
            options,
            security,
            fleet_id,
            incarnation,
            clock,
            tasks,
            controller,
            lease,
            disk,
        });
        serve(broker, listeners, logs).await
    }
}

fn check(options: &Options) -> Result<(), StartError> {
    if options.controllers.is_empty() {
        return Err(StartError::NoControllers);
    }
    if let Some(problem) = options.problems().into_iter().next() {
        return Err(StartError::Options(problem));
    }
    let all = [
        ("listen", &options.listen),
        ("replica-listen", &options.replica_listen),
        ("rpc-listen", &options.rpc_listen),
        ("admin-listen", &options.admin_listen),
    ];
    for (listener, address) in all {
        let is_safe = listener == "listen"
            && options
                .auth
                .as_ref()
                .is_some_and(|auth| !auth.believes_everybody())
            && options.tls.is_some();
        if !options.insecure_bind && !is_safe && !address.is_loopback() {
            return Err(StartError::InsecureBind {
                listener,
                address: address.clone(),
            });
        }
    }
    Ok(())
}

async fn bind(listener: &'static str, address: &HostPort) -> Result<TcpListener, StartError> {
    let bound = TcpListener::bind((address.host.as_str(), address.port)).await;
    bound.map_err(|source| StartError::Bind {
        listener,
        address: address.to_string(),
        source,
    })
}

/// The cluster id in `meta.properties`, so that a used directory finds its own fleet and no other.
fn known_fleet(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join("meta.properties")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("cluster.id="))
        .map(|id| id.trim().to_owned())
}

/// A first start takes the fleet that its controllers belong to.
async fn fleet_id(controller: &ControllerClient, tasks: &Tasks) -> Result<String, StartError> {
    let (mut view, shutdown) = (controller.view(), tasks.shutdown());
    let first = shutdown
        .unless(view.wait_for(|view| view.version > 0 && !view.fleet_id.is_empty()))
        .await;
    match first {
        Some(Ok(view)) => Ok(view.fleet_id.clone()),
        _ => Err(StartError::Cancelled),
    }
}

fn group_options(limits: &Limits) -> GroupOptions {
    let ms = |span: Duration| i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    let mut options = GroupOptions::default();
    options.rules.initial_rebalance_delay_ms = ms(limits.group_initial_rebalance_delay.0);
    options.rules.min_session_timeout_ms = ms(limits.group_min_session_timeout.0);
    options.rules.max_session_timeout_ms = ms(limits.group_max_session_timeout.0);
    options.rules.max_size = limits.group_max_size;
    options.offsets_retention_ms =
        i64::try_from(limits.offsets_retention.0.as_millis()).unwrap_or(i64::MAX);
    options.consumer.max_size = limits.group_max_size;
    options.consumer.session_timeout_ms = ms(limits.group_consumer_session_timeout.0);
    options.consumer.heartbeat_interval_ms = ms(limits.group_consumer_heartbeat_interval.0);
    options
}

async fn serve(
    broker: Arc<Broker>,
    listeners: Listeners,
    logs: Vec<Arc<Log>>,
) -> Result<Handle, StartError> {
    let address = |listener: &TcpListener, name| {
        listener.local_addr().map_err(|source| StartError::Bind {
            listener: name,
            address: String::new(),
            source,
        })
    };
    let (kafka, replica, rpc) = (
        address(&listeners.kafka, "listen")?,
        address(&listeners.replica, "replica-listen")?,
        address(&listeners.rpc, "rpc-listen")?,
    );
    let admin_listen = broker.options.admin_listen.to_string();
    let (state, registered) = tokio::sync::watch::channel(Registration::Pending);
    let admin = Admin::new()
        .ready(status::ready(&broker, registered))
        .status(status::status(&broker))
        .scrape(status::scrape(&broker));
    let admin = admin.serve(&admin_listen, &broker.tasks).await?;
    start_coordinators(&broker);
    let reachable = |bound: SocketAddr, configured: &HostPort| {
        HostPort::new(configured.host.clone(), bound.port())
    };
    let options = &broker.options;
    let advertised = options
        .advertise
        .clone()
        .unwrap_or_else(|| reachable(kafka, &options.listen));
    let node = Node {
        id: broker.node,
        region: broker.region.clone(),
        rack: options.rack.clone(),
        incarnation: broker.incarnation,
        kafka: advertised.clone(),
        replica: options
            .advertise_replica
            .clone()
            .unwrap_or_else(|| reachable(replica, &options.replica_listen)),
        rpc: reachable(rpc, &options.rpc_listen),
        admin: reachable(admin, &options.admin_listen),
    };
    run(&broker, listeners.replica, listeners.rpc, logs);
    register(&broker, node, state).await?;
    // Clients wait in the listener's queue until metadata can show them this broker.
    broker.tasks.spawn_ok(
        "kafka listener",
        listener::run(Arc::clone(&broker), listeners.kafka),
    );
    Ok(Handle {
        kafka,
        replica,
        rpc,
        admin,
        fleet_id: broker.fleet_id.clone(),
        advertised,
        broker,
    })
}

/// They lead nothing until the first view is applied.
fn start_coordinators(broker: &Arc<Broker>) {
    let led = |topic| {
        let broker = Arc::downgrade(broker);
        Arc::new(Led { broker, topic })
    };
    let group = Coordinator::start(
        group_options(&broker.options.limits),
        Block::default(),
        led(CONSUMER_OFFSETS) as _,
        Arc::new(Seam(Arc::downgrade(broker))) as _,
        broker.clock.clone(),
        broker.tasks.clone(),
    );
    let transactions = txn::Coordinator::start(
        txn::Options {
            max_timeout_ms: i32::try_from(
                broker.options.limits.transaction_max_timeout.0.as_millis(),
            )
            .unwrap_or(i32::MAX),
            most_held_ms: u64::try_from(broker.options.limits.cut_hold.0.as_millis())
                .unwrap_or(u64::MAX),
            ..txn::Options::default()
        },
        OffsetsBlock::default(),
        led(TRANSACTION_STATE) as _,
        Arc::new(txn::markers::Fleet(Arc::downgrade(broker))) as _,
        broker.clock.clone(),
        broker.tasks.clone(),
    );
    broker.coordination.set(group, transactions);
}

fn run(broker: &Arc<Broker>, replica: TcpListener, rpc: TcpListener, logs: Vec<Arc<Log>>) {
    let tasks = &broker.tasks;
    tasks.spawn(
        "flusher",
        OnError::Shutdown,
        Arc::clone(&broker.flusher).run(tasks.clone(), broker.clock.clone()),
    );
    tasks.spawn_ok(
        "ceiling",
        Arc::clone(&broker.flusher).follow_lease(tasks.clone()),
    );
    tasks.spawn_ok("roles", roles::run(Arc::clone(broker), logs));
    tasks.spawn_ok("cuts", cuts::run(Arc::clone(broker)));
    tasks.spawn_ok("cleaner", cleaner::run(Arc::clone(broker)));
    tasks.spawn_ok("ack sets", isr::run(Arc::clone(broker)));
    tasks.spawn_ok("housekeeping", housekeeping::run(Arc::clone(broker)));
    tasks.spawn_ok("log starts", log_starts::run(Arc::clone(broker)));
    tasks.spawn_ok(
        "replica listener",
        replica::run(Arc::clone(broker), replica),
    );
    tasks.spawn(
        "rpc listener",
        OnError::Shutdown,
        uploads::run(Arc::clone(broker), rpc),
    );
}

/// Registers, and goes on doing so for as long as the process lives.
async fn register(
    broker: &Arc<Broker>,
    node: Node,
    state: tokio::sync::watch::Sender<Registration>,
) -> Result<(), StartError> {
    let mut registration = broker.controller.keep_registered(node);
    let shutdown = broker.tasks.shutdown();
    let decided = async {
        registration
            .wait_for(|r| *r != Registration::Pending)
            .await
            .ok()
            .map(|r| r.clone())
    };
    let first = shutdown
        .unless(decided)
        .await
        .flatten()
        .ok_or(StartError::Cancelled)?;
    state.send_replace(first.clone());
    match first {
        Registration::Refused { code, message } => {
            return Err(StartError::Refused { code, message });
        }
        Registration::Superseded => return Err(StartError::Superseded),
        Registration::Done(done) => {
            broker
                .until_applied(done.version, Duration::from_secs(5))
                .await
        }
        Registration::Pending => {}
    }
    broker
        .tasks
        .spawn_ok("positions", reports::run(Arc::clone(broker)));
    broker
        .tasks
        .spawn("registration watch", OnError::Shutdown, async move {
            while let Some(Ok(())) = shutdown.unless(registration.changed()).await {
                let now = registration.borrow_and_update().clone();
                let superseded = now == Registration::Superseded;
                state.send_replace(now);
                if superseded {
                    return Err("WB-107: a later start of this node took over");
                }
            }
            Ok(())
        });
    Ok(())
}
