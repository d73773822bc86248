//! All replica flows into one region: one per broker that stands in it.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_fleet::{GroupName, Incarnation, NodeId, RegionName, View};
use whimbrel_rpc::replica::{Hello, Purpose};
use whimbrel_runtime::{Clock, Shutdown, Tasks};

use super::{
    flow::{Flow, PartitionStatus},
    sink::SinkLoop,
};

/// Keeps the flows of a region. Clones share them.
#[derive(Clone, Debug)]
pub struct Region {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: RegionName,
    incarnation: Incarnation,
    credit_bytes: u64,
    view: watch::Receiver<Arc<View>>,
    tasks: Tasks,
    clock: Clock,
    flows: Mutex<BTreeMap<NodeId, Running>>,
}

#[derive(Debug)]
struct Running {
    flow: Arc<Mutex<Flow>>,
    life: Shutdown,
}

impl Region {
    /// Follows the view from now on: every move, every broker that comes or goes.
    pub fn start(
        name: RegionName,
        incarnation: Incarnation,
        credit_bytes: u64,
        view: watch::Receiver<Arc<View>>,
        tasks: &Tasks,
        clock: Clock,
    ) -> Self {
        let inner = Inner {
            name,
            incarnation,
            credit_bytes,
            view,
            tasks: tasks.clone(),
            clock,
            flows: Mutex::default(),
        };
        let this = Self {
            inner: Arc::new(inner),
        };
        let keep = this.clone();
        tasks.spawn_ok("mirror region", async move { keep.follow().await });
        this
    }

    async fn follow(&self) {
        let mut view = self.inner.view.clone();
        let shutdown = self.inner.tasks.shutdown();
        loop {
            let now = Arc::clone(&view.borrow_and_update());
            self.adjust(&now);
            match shutdown.unless(view.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }

    fn adjust(&self, view: &View) {
        let here = |node: &NodeId| {
            let node = view.nodes.get(node);
            node.is_some_and(|n| n.region == self.inner.name)
        };
        let mut flows = self.inner.flows.lock();
        flows.retain(|node, running| {
            let stays = here(node);
            if !stays {
                running.life.request();
            }
            stays
        });
        for node in view.nodes.values().filter(|n| n.region == self.inner.name) {
            flows.entry(node.id).or_insert_with(|| self.open(node.id));
        }
    }

    fn open(&self, node: NodeId) -> Running {
        let inner = &self.inner;
        let now_ms = inner.clock.boot_ms();
        let flow = Flow::new(inner.name.clone(), node, inner.credit_bytes, now_ms);
        let flow = Arc::new(Mutex::new(flow));
        let life = inner.tasks.shutdown().child();
        let work = SinkLoop {
            flow: Arc::clone(&flow),
            node,
            hello: Hello {
                purpose: Purpose::Push,
                fleet_id: String::new(),
                region: inner.name.clone(),
                incarnation: inner.incarnation,
            },
            view: inner.view.clone(),
            clock: inner.clock.clone(),
            tasks: inner.tasks.clone(),
            life: life.clone(),
            local: None,
        };
        inner
            .tasks
            .spawn_ok(format!("mirror flow {node}"), work.run());
        Running { flow, life }
    }

    /// Every partition that flows, or should flow, into this region: by failover group, then by name.
    pub fn status(&self) -> BTreeMap<GroupName, Vec<PartitionStatus>> {
        let now_ms = self.inner.clock.boot_ms();
        let flows: Vec<_> = self
            .inner
            .flows
            .lock()
            .values()
            .map(|r| Arc::clone(&r.flow))
            .collect();
        let mut by_group: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for status in flows.iter().flat_map(|flow| flow.lock().status(now_ms)) {
            by_group
                .entry(status.group.clone())
                .or_default()
                .push(status);
        }
        for partitions in by_group.values_mut() {
            partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        }
        by_group
    }
}
