//! The daemon: puts the parts together and starts them.

mod open;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::watch};
use tonic::transport::{Server, server::TcpIncoming};
use uuid::Uuid;
use whimbrel_client::{ConnectionOptions, SecurityError};
use whimbrel_fleet::{Daemon, HostPort, NodeId, Role, View};
use whimbrel_rpc::{
    controller::{ControllerClient, Registration},
    proto::node::tiering_server::TieringServer,
};
use whimbrel_runtime::{Clock, OnError, Tasks, admin::Admin, random};

use self::open::{Open, Opening};
use crate::{
    Meter, Options,
    broker::BrokerLink,
    cache::Cache,
    compaction::Held,
    cost::{self, Cost},
    format::Keys,
    meta,
    moving::{self, MoveError},
    ops::{Cause, Ops},
    prices::Prices,
    reader::Damage,
    rebuild,
    serve::{Seen, Service as Rpc},
    set_aside,
    skew::Doubt,
    status::Status,
    store::{self, Limited, Location, MarkerError, ProbeError, StoreError},
    uploader::Refusals,
    verify::{self, Proof},
};

/// How long a daemon without `fleet-id` waits for a controller to tell it.
const FLEET_WAIT: Duration = Duration::from_secs(60);
const MAX_MESSAGE: usize = 64 << 20;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{}", problems.join("; "))]
    Options { problems: Vec<String> },
    #[error("{} would be open to the network without TLS or authentication", listeners.join(" and "))]
    Exposed { listeners: Vec<String> },
    #[error("cache-dir {dir}: {source}")]
    Cache { dir: String, source: std::io::Error },
    #[error("rpc-listen {address}: {source}")]
    Bind {
        address: String,
        source: std::io::Error,
    },
    #[error(transparent)]
    Admin(#[from] whimbrel_runtime::admin::AdminError),
    #[error("broker {address}: {source}")]
    Broker {
        address: String,
        source: tonic::transport::Error,
    },
    #[error("tiering.client-config: {0}")]
    Client(#[from] SecurityError),
    #[error(transparent)]
    Prices(#[from] crate::prices::PriceError),
    #[error("no controller told the fleet's id")]
    NoFleet,
    #[error("bucket {bucket}: {source}")]
    Bucket { bucket: String, source: StoreError },
    #[error("bucket {bucket}: {source}")]
    Marker { bucket: String, source: MarkerError },
    #[error("bucket {bucket}: {source}")]
    Probe { bucket: String, source: ProbeError },
    #[error("bucket {bucket}: {source}")]
    Moving { bucket: String, source: MoveError },
}

impl StartError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Options { .. } | Self::Broker { .. } | Self::Client(_) | Self::Prices(_) => {
                "WB-300"
            }
            Self::Bucket { .. }
            | Self::Marker {
                source: MarkerError::Store(_),
                ..
            }
            | Self::Probe {
                source: ProbeError::Store(_),
                ..
            }
            | Self::Moving {
                source: MoveError::Store(_),
                ..
            } => "WB-301",
            Self::Moving {
                source: MoveError::MovedOn { .. },
                ..
            } => "WB-343",
            Self::Moving { .. } => "WB-341",
            Self::Probe {
                source: ProbeError::NoSwap(_),
                ..
            } => "WB-302",
            Self::Marker { .. } => "WB-303",
            Self::Probe { .. } => "WB-304",
            Self::Bind { .. } | Self::Admin(_) => "WB-305",
            Self::Exposed { .. } => "WB-306",
            Self::NoFleet => "WB-307",
            Self::Cache { .. } => "WB-308",
        }
    }

    /// True when the store answered, but not us: a running daemon goes on asking, for credentials come back.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Bucket {
                source: StoreError::Refused { .. },
                ..
            } | Self::Marker {
                source: MarkerError::Store(StoreError::Refused { .. }),
                ..
            } | Self::Probe {
                source: ProbeError::Store(StoreError::Refused { .. }),
                ..
            } | Self::Moving {
                source: MoveError::Store(StoreError::Refused { .. }),
                ..
            }
        )
    }

    /// True when the store did not answer, which a running daemon waits out.
    pub fn is_retryable(&self) -> bool {
        self.of_store().is_some_and(StoreError::is_retryable)
    }

    /// What the store said, if that is the reason.
    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Bucket { source, .. }
            | Self::Marker {
                source: MarkerError::Store(source),
                ..
            }
            | Self::Probe {
                source: ProbeError::Store(source),
                ..
            }
            | Self::Moving {
                source: MoveError::Store(source),
                ..
            } => Some(source),
            _ => None,
        }
    }
}

impl Cause for StartError {
    fn cause(&self) -> String {
        self.of_store()
            .map_or_else(|| self.code().to_owned(), Cause::cause)
    }
}

/// A running daemon.
#[derive(Clone, Debug)]
pub struct Handle {
    pub rpc: SocketAddr,
    pub admin: SocketAddr,
    /// Of this start of the daemon.
    pub incarnation: Uuid,
    status: Status,
}

impl Handle {
    /// `Err(reason)` until the bucket is open and the shards are ours.
    pub fn ready(&self) -> Result<(), String> {
        self.status.ready()
    }
}

#[derive(Debug)]
pub struct Service;

impl Service {
    /// Returns once the listeners are up and the bucket was found fit for use; a bucket that does not answer
    /// is waited for in the background. The daemon ends with `tasks`.
    pub async fn start(options: Options, tasks: Tasks, clock: Clock) -> Result<Handle, StartError> {
        let location = checked(&options)?;
        let store = open_store(location, &options).await?;
        Self::start_on(store, options, tasks, clock).await
    }

    /// The same on a store that is open already; `options.bucket` is only its name.
    pub async fn start_on(
        store: Arc<dyn store::Store>,
        options: Options,
        tasks: Tasks,
        clock: Clock,
    ) -> Result<Handle, StartError> {
        Self::start_seeing(store, None, options, tasks, clock).await
    }

    /// The same with a view of the fleet that does not come from `options.controllers`; whoever hands it in
    /// makes the daemon known.
    pub async fn start_seeing(
        store: Arc<dyn store::Store>,
        view: Option<ViewReceiver>,
        options: Options,
        tasks: Tasks,
        clock: Clock,
    ) -> Result<Handle, StartError> {
        let incarnation = random::uuid();
        let prices = Prices::load(options.prices.as_deref())?;
        let brokers = connection(&options)?;
        let keys = Keys::new(&options.region);
        let placed = store::Placed::new(store, keys.clone(), opener());
        let limited = limited(Arc::new(placed.clone()), &options, &clock);
        let store: Arc<dyn store::Store> = Arc::new(limited.clone());
        let cache = open_cache(&options)?;
        let broker = BrokerLink::new(&options.broker, clock.clone());
        let broker = broker.map_err(|source| StartError::Broker {
            address: options.broker.to_string(),
            source,
        })?;
        let bind = |source| StartError::Bind {
            address: options.rpc_listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&options.rpc_listen).await.map_err(bind)?;
        let rpc = listener.local_addr().map_err(bind)?;
        let (serve, served) = watch::channel(None);
        let status = status(&options, limited, &cache, served.clone(), &clock);
        let ledger = cost::ledger(&status, &keys);
        let cost = Cost {
            status: status.clone(),
            ledger: ledger.clone(),
            prices: prices.clone(),
            store: Arc::clone(&store),
            clock: clock.clone(),
            begun_boot_ms: clock.boot_ms(),
        };
        let admin = serve_admin(&options, &status, cost, &tasks).await?;
        let service = Rpc {
            served,
            clock: clock.clone(),
            tasks: tasks.clone(),
        };
        serve_rpc(listener, service, &tasks);
        let (registered, fleet_id) =
            register(&options, incarnation, (rpc, admin), &tasks, &clock).await?;
        let open = Open {
            options,
            store,
            placed,
            keys,
            cache,
            broker,
            incarnation,
            fleet_id,
            brokers,
            prices,
            ledger,
            view: view.or(registered),
            clock,
            tasks: tasks.clone(),
            status: status.clone(),
        };
        let opening = match open.check_bucket().await {
            Ok(checked) => Opening::Checked(checked),
            Err(error) if error.is_retryable() => Opening::Unreached(error),
            Err(error) => return Err(error),
        };
        tasks.spawn("bucket", OnError::Shutdown, open.run(opening, serve));
        Ok(Handle {
            rpc,
            admin,
            incarnation,
            status,
        })
    }
}

fn open_cache(options: &Options) -> Result<Arc<Cache>, StartError> {
    let cache = Cache::open(&options.cache_dir, options.cache_bytes.0);
    let cache = cache.map_err(|source| StartError::Cache {
        dir: options.cache_dir.display().to_string(),
        source,
    })?;
    Ok(Arc::new(cache))
}

async fn open_store(
    location: Location,
    options: &Options,
) -> Result<Arc<dyn store::Store>, StartError> {
    let opened = tokio::task::spawn_blocking(move || store::open(&location)).await;
    let opened = opened.unwrap_or_else(|e| {
        Err(StoreError::Failed {
            op: "open",
            key: String::new(),
            reason: e.to_string(),
        })
    });
    opened.map_err(|source| StartError::Bucket {
        bucket: options.bucket.clone(),
        source,
    })
}

/// How the place is opened that everything moves to.
fn opener() -> store::Opener {
    Arc::new(|url: &str| {
        let location = Location::parse(url).map_err(|error| StoreError::Refused {
            op: "open",
            key: url.to_owned(),
            reason: error.to_string(),
        })?;
        store::open(&location)
    })
}

/// How the fleet's brokers are asked.
fn connection(options: &Options) -> Result<ConnectionOptions, SecurityError> {
    let file = options.client_config.as_deref();
    file.map_or_else(
        || Ok(ConnectionOptions::default()),
        ConnectionOptions::from_properties,
    )
}

fn limited(store: Arc<dyn store::Store>, options: &Options, clock: &Clock) -> Limited {
    Limited::new(store, clock.clone(), options.request_timeout.0).metered(meter(options))
}

fn meter(options: &Options) -> Meter {
    Meter::new(&options.region, options.node_id)
}

fn status(
    options: &Options,
    limited: Limited,
    cache: &Arc<Cache>,
    served: Seen,
    clock: &Clock,
) -> Status {
    Status {
        region: options.region.clone(),
        node: options.node_id,
        store: store::Store::describe(&limited),
        limited,
        clock: clock.clone(),
        ops: Ops::new(clock.clone()).metered(meter(options)),
        cache: Arc::clone(cache),
        pending: Arc::default(),
        refusals: Refusals::default(),
        held: Held::default(),
        damage: Damage::default(),
        orphans: Arc::default(),
        proof: Proof::default(),
        doubt: Doubt::default(),
        meta: meta::Progress::default(),
        served,
        opening: Arc::new(Mutex::new(None)),
    }
}

fn checked(options: &Options) -> Result<Location, StartError> {
    let problems = options.problems();
    if !problems.is_empty() {
        return Err(StartError::Options { problems });
    }
    let listeners = options.exposed();
    if !listeners.is_empty() {
        return Err(StartError::Exposed { listeners });
    }
    Location::parse(&options.bucket).map_err(|e| StartError::Options {
        problems: vec![e.to_string()],
    })
}

async fn serve_admin(
    options: &Options,
    status: &Status,
    cost: Cost,
    tasks: &Tasks,
) -> Result<SocketAddr, StartError> {
    let (ready, json, scrape) = (status.clone(), status.clone(), status.clone());
    let admin = Admin::new()
        .ready(move || ready.ready())
        .status(move || json.json())
        .scrape(move || scrape.scrape());
    Ok(admin
        .route(verify::route(status.served.clone()))
        .route(cost.route())
        .route(rebuild::route(status.served.clone()))
        .route(moving::route(status.served.clone()))
        .route(set_aside::route(status.served.clone()))
        .serve(&options.admin_listen, tasks)
        .await?)
}

fn serve_rpc(listener: TcpListener, rpc: Rpc, tasks: &Tasks) {
    let shutdown = tasks.shutdown();
    let service = TieringServer::new(rpc)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let server = Server::builder().add_service(service);
    // The builder's own tcp_nodelay does not reach a listener that is handed in; without it each answer waits for a
    // delayed acknowledgement, 40 ms.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tasks.spawn(
        "tiering rpc",
        OnError::Shutdown,
        server.serve_with_incoming_shutdown(incoming, async move { shutdown.wait().await }),
    );
}

/// Views of the fleet, as they come.
pub type ViewReceiver = watch::Receiver<Arc<View>>;

/// Makes the daemon known to the fleet, and learns the fleet's id where the options do not name it.
async fn register(
    options: &Options,
    incarnation: Uuid,
    (rpc, admin): (SocketAddr, SocketAddr),
    tasks: &Tasks,
    clock: &Clock,
) -> Result<(Option<ViewReceiver>, String), StartError> {
    if options.controllers.is_empty() {
        return options
            .fleet_id
            .clone()
            .map(|id| (None, id))
            .ok_or(StartError::NoFleet);
    }
    let client = ControllerClient::connect(
        options.controllers.clone(),
        options.fleet_id.clone(),
        tasks,
        clock.clone(),
    );
    let at = |address: SocketAddr| HostPort::new(address.ip().to_string(), address.port());
    let daemon = Daemon {
        role: Role::Tiering,
        region: options.region.as_str().into(),
        node: NodeId(options.node_id),
        incarnation,
        rpc: Some(at(rpc)),
        admin: at(admin),
    };
    let mut state = client.keep_daemon_registered(daemon);
    let mut superseded = state.clone();
    let shutdown = tasks.shutdown();
    tasks.spawn("superseded", OnError::Shutdown, async move {
        match shutdown
            .unless(superseded.wait_for(|state| *state == Registration::Superseded))
            .await
        {
            Some(Ok(_)) => Err("WB-310: a later start of this daemon has registered"),
            _ => Ok(()),
        }
    });
    let view = Some(client.view());
    if let Some(id) = &options.fleet_id {
        return Ok((view, id.clone()));
    }
    let told = clock
        .within(FLEET_WAIT, state.wait_for(Registration::is_done))
        .await;
    match told.and_then(Result::ok).as_deref() {
        Some(Registration::Done(registered)) => Ok((view, registered.fleet_id.clone())),
        _ => Err(StartError::NoFleet),
    }
}
