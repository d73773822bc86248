//! A voter as a service: opens the storage, joins raft, serves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tonic::transport::{Endpoint, Server as TonicServer, server::TcpIncoming};
use whimbrel_fleet::View;
use whimbrel_rpc::{
    controller::RaftStatus,
    proto::controller::{
        controller_server::ControllerServer, raft_server::RaftServer, voter_client::VoterClient,
        voter_server::VoterServer,
    },
};
use whimbrel_runtime::{Clock, OnError, Tasks, admin::Admin, random};

use crate::{
    bootstrap,
    ceilings::Ceilings,
    error::StartError,
    health::{Alive, Health},
    metrics::{self, Labels},
    mover::{ClampReports, Collector, Mover},
    options::Options,
    raft::{
        self, LogStore, MESSAGE_BYTES, Machine, Network, Pending, Proposer, Raft, RaftService,
        Store,
    },
    server::{Pages, Server},
    state::State,
    voter::Voter,
};

/// How long open connections are given after a shutdown was requested.
const GRACE: Duration = Duration::from_secs(2);
/// Requests of one connection under way.
const CONCURRENCY: usize = 256;

#[derive(Debug)]
pub struct Service;

/// A running voter.
#[derive(Clone)]
pub struct Handle {
    /// tonic.
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub fleet_id: String,
    proposer: Proposer,
    state: tokio::sync::watch::Receiver<Arc<State>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

impl Handle {
    pub fn status(&self) -> RaftStatus {
        self.proposer.status()
    }

    /// The view that this voter has applied.
    pub fn view(&self) -> View {
        self.state.borrow().view.clone()
    }

    pub fn is_leader(&self) -> bool {
        self.proposer.is_leader()
    }
}

impl Service {
    /// Binds `options.listen` and starts.
    pub async fn start(options: Options, tasks: Tasks, clock: Clock) -> Result<Handle, StartError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(StartError::Options { problems });
        }
        let at = options.listen.clone();
        let listener = TcpListener::bind((at.host.as_str(), at.port))
            .await
            .map_err(|source| StartError::Listen { at, source })?;
        Self::start_on(listener, options, tasks, clock).await
    }

    /// Starts on a socket that is already bound, so that voters can learn each other's ports before any
    /// of them runs.
    pub async fn start_on(
        listener: TcpListener,
        options: Options,
        tasks: Tasks,
        clock: Clock,
    ) -> Result<Handle, StartError> {
        let problems = options.problems();
        if !problems.is_empty() {
            return Err(StartError::Options { problems });
        }
        metrics::describe();
        let labels = Labels::new(&options);
        let listen = listener.local_addr().map_err(|source| StartError::Listen {
            at: options.listen.clone(),
            source,
        })?;
        let core = Core::open(&options, &tasks, &clock, labels.clone()).await?;
        let admin = core
            .admin(labels)
            .serve(&options.admin_listen.to_string(), &tasks)
            .await;
        let admin = admin.map_err(|source| StartError::Admin { source })?;
        core.serve(listener, &tasks);
        core.work(&options, &tasks);
        tracing::info!(voter = options.voter_id, fleet = %core.fleet_id, %listen, %admin, "controller voter started");
        Ok(Handle {
            listen,
            admin,
            fleet_id: core.fleet_id.to_string(),
            proposer: core.proposer,
            state: core.state,
        })
    }
}

/// Everything that runs in one voter.
struct Core {
    fleet_id: Arc<str>,
    raft: Raft,
    proposer: Proposer,
    state: tokio::sync::watch::Receiver<Arc<State>>,
    mover: Mover,
    voter: Voter,
    alive: Arc<Alive>,
}

impl Core {
    async fn open(
        options: &Options,
        tasks: &Tasks,
        clock: &Clock,
        labels: Labels,
    ) -> Result<Self, StartError> {
        let (dir, id) = (options.data_dir.clone(), options.voter_id);
        let wanted = options.bootstrap.as_ref().map(|b| b.fleet_id.clone());
        let (store, found) = tasks
            .blocking(move || Store::open(&dir, id, wanted.as_deref()))
            .await?;
        let fleet_id: Arc<str> = found.fleet_id.into();
        let pending = Arc::new(Pending::default());
        found.entries.iter().for_each(|entry| pending.note(entry));
        let storage = |message: String| StartError::Storage { message };
        let machine = Machine::load(store.clone(), Arc::clone(&pending), found.snapshot)
            .map_err(|e| storage(format!("the snapshot: {e}")))?;
        let state = machine.watch();
        let voters = Arc::new(options.voters.clone());
        let config = raft::config(options)
            .validate()
            .map_err(|e| StartError::Options {
                problems: vec![e.to_string()],
            })?;
        let network = Network {
            fleet_id: Arc::clone(&fleet_id),
            voters: Arc::clone(&voters),
        };
        let log = LogStore::new(store, Arc::clone(&pending));
        let raft = Raft::new(id, Arc::new(config), network, log, machine)
            .await
            .map_err(|e| storage(e.to_string()))?;
        let proposer = Proposer {
            raft: raft.clone(),
            voter: id,
            voters,
            clock: clock.clone(),
            out_of_touch_ms: options.election_max_ms,
        };
        let ceilings = Arc::new(Ceilings::new(random::uuid()));
        let voter = Voter {
            fleet_id: Arc::clone(&fleet_id),
            pending,
            state: state.clone(),
            ceilings: Arc::clone(&ceilings),
            proposer: proposer.clone(),
            clock: clock.clone(),
            labels: labels.clone(),
        };
        let mover = Mover {
            proposer: proposer.clone(),
            state: state.clone(),
            positions: Arc::default(),
            collector: Collector {
                fleet_id: Arc::clone(&fleet_id),
                voter: id,
                own: ceilings,
                others: Arc::new(others(options)),
                clock: clock.clone(),
            },
            clamps: Arc::<ClampReports>::default(),
            clock: clock.clone(),
            drain: Duration::from_millis(options.drain_ms),
            labels,
        };
        Ok(Self {
            fleet_id,
            raft,
            proposer,
            state,
            mover,
            voter,
            alive: Arc::default(),
        })
    }

    fn admin(&self, labels: Labels) -> Admin {
        let (ready, status, scraped) = (
            self.proposer.clone(),
            self.proposer.clone(),
            self.proposer.clone(),
        );
        let state = self.state.clone();
        Admin::new()
            .ready(move || {
                if ready.in_touch() {
                    Ok(())
                } else {
                    Err("no leader is known".to_owned())
                }
            })
            .status(move || {
                let mut raft = serde_json::to_value(status.status()).unwrap_or_default();
                if let Some(fields) = raft.as_object_mut() {
                    let now = state.borrow();
                    fields.insert(
                        "view".to_owned(),
                        serde_json::to_value(now.view.without_secrets()).unwrap_or_default(),
                    );
                    fields.insert(
                        "moves".to_owned(),
                        serde_json::to_value(&now.reports).unwrap_or_default(),
                    );
                }
                raft
            })
            .scrape(move || {
                let raft = scraped.status();
                labels.scrape(
                    scraped.is_leader(),
                    scraped.in_touch(),
                    raft.term,
                    raft.applied.unwrap_or(0),
                );
            })
    }

    fn serve(&self, listener: TcpListener, tasks: &Tasks) {
        let server = Server {
            fleet_id: Arc::clone(&self.fleet_id),
            mover: self.mover.clone(),
            pages: Arc::<Pages>::default(),
            alive: Arc::clone(&self.alive),
            shutdown: tasks.shutdown(),
        };
        let raft = RaftService {
            fleet_id: Arc::clone(&self.fleet_id),
            voter: self.proposer.voter,
            voters: Arc::clone(&self.proposer.voters),
            raft: self.raft.clone(),
        };
        let router = TonicServer::builder()
            .concurrency_limit_per_connection(CONCURRENCY)
            .http2_keepalive_interval(Some(Duration::from_secs(5)))
            .http2_keepalive_timeout(Some(Duration::from_secs(5)))
            .add_service(
                ControllerServer::new(server)
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES),
            )
            .add_service(VoterServer::new(self.voter.clone()))
            .add_service(
                RaftServer::new(raft)
                    .max_decoding_message_size(MESSAGE_BYTES)
                    .max_encoding_message_size(MESSAGE_BYTES),
            );
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (shutdown, clock, consensus) = (
            tasks.shutdown(),
            self.proposer.clock.clone(),
            self.raft.clone(),
        );
        tasks.spawn("controller server", OnError::Shutdown, async move {
            let ending = shutdown.clone();
            let served =
                router.serve_with_incoming_shutdown(incoming, async move { ending.wait().await });
            let late = async {
                shutdown.wait().await;
                clock.sleep(GRACE).await;
            };
            let result = tokio::select! {
                result = served => result,
                () = late => Ok(()),
            };
            // Last of all: whoever was answered before is in the log.
            if let Err(error) = consensus.shutdown().await {
                tracing::warn!(%error, "raft did not end cleanly");
            }
            result
        });
    }

    fn work(&self, options: &Options, tasks: &Tasks) {
        let shutdown = tasks.shutdown();
        let (raft, form) = (self.raft.clone(), options.clone());
        tasks.spawn("voter set", OnError::Shutdown, async move {
            bootstrap::form(&raft, &form).await
        });
        tasks.spawn_ok(
            "bootstrap",
            bootstrap::propose(
                self.proposer.clone(),
                self.state.clone(),
                options.clone(),
                shutdown.clone(),
            ),
        );
        tasks.spawn_ok("mover", self.mover.clone().run(shutdown.clone()));
        let health = Health {
            proposer: self.proposer.clone(),
            state: self.state.clone(),
            positions: Arc::clone(&self.mover.positions),
            collector: self.mover.collector.clone(),
            alive: Arc::clone(&self.alive),
            clock: self.proposer.clock.clone(),
        };
        tasks.spawn_ok("broker health", health.run(shutdown.clone()));
        let mut health = self.proposer.changes_of_health();
        tasks.spawn("raft health", OnError::Shutdown, async move {
            let failed = health.wait_for(|m| m.running_state.is_err());
            match shutdown.unless(failed).await {
                Some(Ok(m)) => match &m.running_state {
                    Err(openraft::error::Fatal::Stopped) | Ok(()) => Ok(()),
                    Err(fatal) => Err(format!("{}: {fatal}", crate::codes::STORAGE)),
                },
                Some(Err(_)) | None => Ok(()),
            }
        });
    }
}

fn others(
    options: &Options,
) -> std::collections::BTreeMap<u64, VoterClient<tonic::transport::Channel>> {
    let peers = options
        .voters
        .iter()
        .filter(|(id, _)| **id != options.voter_id);
    peers
        .filter_map(|(id, at)| {
            let endpoint = Endpoint::from_shared(format!("http://{at}")).ok()?;
            let channel = endpoint
                .connect_timeout(Duration::from_secs(1))
                .tcp_nodelay(true)
                .connect_lazy();
            Some((*id, VoterClient::new(channel)))
        })
        .collect()
}
