//! A broker as the controller sees one: it registers, holds leases, reports positions and obeys fences.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use whimbrel_fleet::{
    GroupName, HostPort, Incarnation, MoveMode, Node, NodeId, RegionName, TopicPartition, View,
};
use whimbrel_rpc::controller::{
    ControllerClient, LeaseHolder, LeaseIdentity, PartitionPosition, PositionReport, Seal,
};
use whimbrel_runtime::{Shutdown, Tasks, random};

use crate::harness::{Fleet, eventually};

pub struct Broker {
    pub client: ControllerClient,
    pub leases: LeaseHolder,
    pub node: Node,
    ends: Ends,
    unmade: Unmade,
    tasks: Tasks,
}

type Ends = Arc<Mutex<BTreeMap<TopicPartition, i64>>>;
/// The topic whose logs it has not made yet.
type Unmade = Arc<Mutex<Option<String>>>;

pub fn group() -> GroupName {
    GroupName::default_group()
}

impl Broker {
    /// Starts as `party` and waits until it is registered.
    pub async fn start(fleet: &Fleet, party: u64, id: i32, region: &str) -> Self {
        let at = HostPort::new("127.0.0.1", 9_092);
        let node = Node {
            id: NodeId(id),
            region: region.into(),
            rack: None,
            incarnation: random::uuid(),
            kafka: at.clone(),
            replica: at.clone(),
            rpc: at.clone(),
            admin: at,
        };
        let tasks = Tasks::new(Shutdown::new());
        let client =
            ControllerClient::connect(fleet.addresses(party), None, &tasks, fleet.clock.clone());
        let registered = client.keep_registered(node.clone());
        eventually("a registration", || registered.borrow().is_done()).await;
        let identity = LeaseIdentity {
            node: node.id,
            incarnation: node.incarnation,
            region: node.region.clone(),
        };
        let leases = LeaseHolder::new(
            fleet.addresses(party),
            identity,
            &tasks,
            fleet.clock.clone(),
        );
        let broker = Self {
            client,
            leases,
            node,
            ends: Ends::default(),
            unmade: Unmade::default(),
            tasks,
        };
        broker.spawn(fleet);
        broker
    }

    pub fn incarnation(&self) -> Incarnation {
        self.node.incarnation
    }

    pub fn set_end(&self, at: TopicPartition, end: i64) {
        self.ends.lock().unwrap().insert(at, end);
    }

    /// It takes its time to make the logs of this topic.
    pub fn lacks(&self, topic: Option<&str>) {
        *self.unmade.lock().unwrap() = topic.map(str::to_owned);
    }

    pub fn holds(&self) -> bool {
        let view = self.client.view().borrow().clone();
        view.groups
            .get(&group())
            .is_some_and(|g| self.leases.check(&group(), g.epoch))
    }

    /// As a killed process: nothing more is said to anybody.
    pub async fn kill(self) {
        self.tasks.stop(Duration::from_secs(5)).await;
    }

    fn spawn(&self, fleet: &Fleet) {
        let (client, leases, node) = (self.client.clone(), self.leases.clone(), self.node.clone());
        let (ends, unmade) = (Arc::clone(&self.ends), Arc::clone(&self.unmade));
        let (clock, shutdown) = (fleet.clock.clone(), self.tasks.shutdown());
        self.tasks.spawn_ok("broker", async move {
            let mut view = client.view();
            while !shutdown.requested() {
                let now = view.borrow_and_update().clone();
                obey(&leases, &node.region, &now);
                let lacks = unmade.lock().unwrap().clone();
                let report = report(&node, &now, &ends.lock().unwrap(), lacks.as_deref());
                let said = client.report_positions(report);
                tokio::select! {
                    () = shutdown.wait() => return,
                    _ = said => {}
                }
                tokio::select! {
                    () = shutdown.wait() => return,
                    _ = view.changed() => {}
                    () = clock.sleep(Duration::from_millis(100)) => {}
                }
            }
        });
    }
}

fn obey(leases: &LeaseHolder, region: &RegionName, view: &View) {
    let Some(g) = view.groups.get(&group()) else {
        return;
    };
    if &g.home == region && g.fence.is_none() {
        leases.hold(&g.name, g.epoch, g.lease_ms, g.loss_mode);
    } else {
        leases.drop_group(&g.name);
    }
}

fn report(
    node: &Node,
    view: &View,
    ends: &BTreeMap<TopicPartition, i64>,
    lacks: Option<&str>,
) -> PositionReport {
    let mut report = PositionReport::new(node.id, node.incarnation);
    let made = |topic: &&whimbrel_fleet::Topic| lacks != Some(topic.name.as_str());
    for topic in view.topics.values().filter(made) {
        for index in 0..i32::try_from(topic.partitions.len()).unwrap() {
            let at = TopicPartition::new(topic.id, index);
            let end_offset = ends.get(&at).copied().unwrap_or(0);
            let last_epoch = if end_offset == 0 { -1 } else { 0 };
            report.partitions.push(PartitionPosition {
                at,
                end_offset,
                last_epoch,
                bytes: u64::try_from(end_offset).unwrap() * 10,
            });
        }
    }
    if let Some(g) = view.groups.get(&group())
        && let Some(fence) = &g.fence
        && (g.home == node.region || fence.mode == MoveMode::Failover)
    {
        report.seals.push(Seal {
            group: g.name.clone(),
            epoch: fence.epoch,
        });
    }
    report.behind_ms.insert(group(), 5);
    report
}
