//! A fleet's controllers: three voters, a link per pair, and links for two parties outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use tempfile::TempDir;
use tokio::net::TcpListener;
use whimbrel_controller::{Bootstrap, Handle, Options, Service};
use whimbrel_fleet::HostPort;
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use crate::link::Link;

/// Whoever is not a voter and reaches them through links of its own.
pub const TOOL: u64 = 100;
pub const HOME: u64 = 101;

pub const LEASE_MS: u64 = 600;

struct Running {
    handle: Handle,
    tasks: Tasks,
}

pub struct Fleet {
    pub tasks: Tasks,
    pub clock: Clock,
    options: BTreeMap<u64, Options>,
    running: BTreeMap<u64, Running>,
    links: BTreeMap<(u64, u64), Link>,
    _dir: TempDir,
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::system();
    let begun = clock.boot_ms();
    while !holds() {
        assert!(clock.boot_ms() - begun < 20_000, "not within 20 s: {what}");
        clock.sleep(Duration::from_millis(10)).await;
    }
}

fn host_port(at: SocketAddr) -> HostPort {
    HostPort::new(at.ip().to_string(), at.port())
}

impl Fleet {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tasks, clock) = (Tasks::new(Shutdown::new()), Clock::system());
        let mut listeners = BTreeMap::new();
        for id in 1..=3_u64 {
            listeners.insert(id, TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let mut links = BTreeMap::new();
        for from in [1, 2, 3, TOOL, HOME] {
            for to in (1..=3).filter(|to| *to != from) {
                links.insert(
                    (from, to),
                    Link::to(listeners[&to].local_addr().unwrap(), &tasks).await,
                );
            }
        }
        let mut fleet = Self {
            tasks,
            clock,
            options: BTreeMap::new(),
            running: BTreeMap::new(),
            links,
            _dir: dir,
        };
        for (id, listener) in listeners {
            let own = host_port(listener.local_addr().unwrap());
            let voters = (1..=3)
                .map(|to| {
                    (
                        to,
                        if to == id {
                            own.clone()
                        } else {
                            host_port(fleet.links[&(id, to)].at)
                        },
                    )
                })
                .collect();
            let mut options = Options::new(
                id,
                "east".into(),
                fleet._dir.path().join(id.to_string()),
                own,
                voters,
            );
            options.lease_ms = LEASE_MS;
            options.heartbeat_ms = 100;
            options.election_min_ms = 500;
            options.election_max_ms = 1_000;
            options.drain_ms = 2_000;
            let regions = BTreeSet::from(["east".into(), "west".into()]);
            options.bootstrap = Some(Bootstrap {
                fleet_id: "fleet-1".into(),
                regions,
                home: "east".into(),
            });
            fleet.options.insert(id, options.clone());
            let tasks = Tasks::new(Shutdown::new());
            let handle = Service::start_on(listener, options, tasks.clone(), fleet.clock.clone())
                .await
                .unwrap();
            fleet.running.insert(id, Running { handle, tasks });
        }
        fleet
    }

    pub fn addresses(&self, party: u64) -> Vec<HostPort> {
        (1..=3)
            .map(|to| host_port(self.links[&(party, to)].at))
            .collect()
    }

    pub fn client(&self, party: u64) -> ControllerClient {
        ControllerClient::connect(
            self.addresses(party),
            Some("fleet-1".into()),
            &self.tasks,
            self.clock.clone(),
        )
    }

    pub fn handle(&self, id: u64) -> &Handle {
        &self.running[&id].handle
    }

    pub fn options(&self, id: u64) -> &Options {
        &self.options[&id]
    }

    /// The voter that leads, once there is one and the fleet is bootstrapped.
    pub async fn leader(&self) -> u64 {
        self.leader_other_than(0).await
    }

    pub async fn leader_other_than(&self, not: u64) -> u64 {
        let find = || {
            self.running
                .iter()
                .find(|(id, r)| **id != not && r.handle.is_leader() && r.handle.view().version > 0)
                .map(|(id, _)| *id)
        };
        eventually("a leader", || find().is_some()).await;
        find().unwrap_or_else(|| panic!("the leader went away at once"))
    }

    pub async fn stop(&mut self, id: u64) {
        let running = self.running.remove(&id).unwrap();
        assert_eq!(
            running.tasks.stop(Duration::from_secs(10)).await,
            Vec::<String>::new()
        );
    }

    pub async fn restart(&mut self, id: u64) {
        let mut options = self.options[&id].clone();
        options.bootstrap = None;
        let begun = self.clock.boot_ms();
        // The database's thread gives its lock back a moment after the tasks have ended.
        loop {
            let tasks = Tasks::new(Shutdown::new());
            match Service::start(options.clone(), tasks.clone(), self.clock.clone()).await {
                Ok(handle) => {
                    self.running.insert(id, Running { handle, tasks });
                    return;
                }
                Err(error) => assert!(self.clock.boot_ms() - begun < 10_000, "{error}"),
            }
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn link(&self, from: u64, to: u64, cut: bool) {
        self.links[&(from, to)].cut(cut);
    }

    /// Cuts what `from` has to every voter; no byte passes when it returns.
    pub async fn sever(&self, from: u64) {
        for (_, link) in self.links.iter().filter(|((of, _), _)| *of == from) {
            link.sever().await;
        }
    }

    /// Cuts a voter off from the other voters, in both directions.
    pub fn isolate(&self, id: u64, cut: bool) {
        for other in (1..=3).filter(|other| *other != id) {
            self.link(id, other, cut);
            self.link(other, id, cut);
        }
    }

    pub async fn end(self) {
        for (_, running) in self.running {
            running.tasks.stop(Duration::from_secs(10)).await;
        }
        self.tasks.stop(Duration::from_secs(10)).await;
    }
}
