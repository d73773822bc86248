//! What the parts of a broker share.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use whimbrel_fleet::{GroupName, Incarnation, NodeId, RegionName};
use whimbrel_log::Disk;
use whimbrel_rpc::controller::{ControllerClient, LeaseHolder};
use whimbrel_runtime::{Clock, Tasks, in_place};

use crate::{
    auth::Security,
    catalog::Catalog,
    cleaner::Cleaner,
    cold::Cold,
    connection::{Answers, Memory},
    coordination::Coordination,
    cuts,
    fetch_sessions::Sessions,
    flusher::Flusher,
    home::Home,
    listener::Offenders,
    meters::Meters,
    options::Options,
    orphans::Orphans,
    peers::Peers,
    producer_ids::ProducerIds,
    quotas::Quotas,
    uploads::Uploads,
};

pub struct Broker {
    pub options: Options,
    pub security: Security,
    pub fleet_id: String,
    pub node: NodeId,
    pub region: RegionName,
    pub incarnation: Incarnation,
    pub clock: Clock,
    pub tasks: Tasks,
    pub controller: ControllerClient,
    pub lease: LeaseHolder,
    pub disk: Arc<Disk>,
    pub flusher: Arc<Flusher>,
    pub cold: Cold,
    pub orphans: Orphans,
    pub uploads: Uploads,
    pub cleaner: Cleaner,
    pub producer_ids: ProducerIds,
    pub peers: Peers,
    pub coordination: Coordination,
    pub cuts: cuts::Newest,
    pub fetch_sessions: Sessions,
    pub quotas: Quotas,
    pub offenders: Arc<Offenders>,
    catalog: RwLock<Arc<Catalog>>,
    /// Version of the view that the catalog shows; ticks whenever the catalog was replaced.
    applied: watch::Sender<u64>,
    homes: Mutex<BTreeMap<GroupName, Arc<Home>>>,
    /// Asks for a position report at once.
    pub report: Notify,
    /// Asks for ack sets to be looked at: a follower has caught up.
    pub isr: Notify,
    pub meters: Meters,
    /// Room for requests that are being read or wait for their answers.
    pub request_memory: Memory,
    /// Room for answers that are not read yet, and for fetches that wait.
    pub answer_memory: Answers,
    /// Turns for opening clients' batches: each may take 64 MiB, and a core for as long as that lasts.
    opening: Semaphore,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("node", &self.node)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// What [`Broker::new`] is made of.
#[derive(Debug)]
pub struct Parts {
    pub options: Options,
    pub security: Security,
    pub fleet_id: String,
    pub incarnation: Incarnation,
    pub clock: Clock,
    pub tasks: Tasks,
    pub controller: ControllerClient,
    pub lease: LeaseHolder,
    pub disk: Arc<Disk>,
}

impl Broker {
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            options,
            security,
            fleet_id,
            incarnation,
            clock,
            tasks,
            controller,
            lease,
            disk,
        } = parts;
        Arc::new(Self {
            fleet_id,
            node: NodeId(options.node_id),
            region: options.region.clone(),
            incarnation,
            flusher: Flusher::new(Arc::clone(&disk), lease.clone()),
            cold: Cold::new(
                options.tiering.as_ref(),
                options.data_dir.clone(),
                tasks.clone(),
                clock.clone(),
            ),
            orphans: Orphans::load(&options.data_dir),
            cleaner: Cleaner::default(),
            uploads: Uploads::new(&options.data_dir),
            producer_ids: ProducerIds::default(),
            peers: Peers::default(),
            coordination: Coordination::default(),
            cuts: cuts::Newest::default(),
            quotas: Quotas::new(options.limits.quotas(), clock.clone()),
            offenders: Offenders::new(options.limits.bad_connections(), clock.clone()),
            fetch_sessions: Sessions::new(options.limits.fetch_sessions(), clock.clone()),
            catalog: RwLock::default(),
            applied: watch::Sender::new(0),
            homes: Mutex::default(),
            report: Notify::new(),
            isr: Notify::new(),
            meters: Meters::new(options.region.as_str(), options.node_id),
            request_memory: Memory::new(&options.limits, clock.clone()),
            answer_memory: Answers::new(&options.limits, clock.clone()),
            opening: Semaphore::new(openings()),
            options,
            security,
            clock,
            tasks,
            controller,
            lease,
            disk,
        })
    }

    /// Does work that opens a client's batches, when its turn comes and without holding up this thread's other tasks: what a
    /// few bytes open to is their sender's choice.
    pub async fn open<T>(&self, work: impl FnOnce() -> T) -> T {
        // Never closed; without a turn the work would only be less well spread.
        let _turn = self.opening.acquire().await.ok();
        in_place(work)
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    pub fn replace_catalog(&self, catalog: Catalog) {
        *self.catalog.write() = Arc::new(catalog);
    }

    /// Every partition has the role that the catalog's view gives it.
    pub fn view_is_applied(&self) {
        let version = self.catalog().view.version;
        self.applied.send_replace(version);
    }

    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Waits until this broker works from a view at least as new as `version`; gives up after `deadline`.
    pub async fn until_applied(&self, version: u64, deadline: Duration) {
        let mut applied = self.applied();
        let _ = self
            .clock
            .within(deadline, applied.wait_for(|now| *now >= version))
            .await;
    }

    pub fn home(&self, group: &GroupName) -> Arc<Home> {
        let mut homes = self.homes.lock();
        Arc::clone(
            homes
                .entry(group.clone())
                .or_insert_with(|| Home::new(group.clone())),
        )
    }
}

/// Half of the cores: acknowledgements and leases have the others.
fn openings() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / 2).max(1)
}
