//! The flow inside a region into one broker, hosted by that broker's process: the copies that it holds
//! behind a leader or a head of its own region.
//!
//! The same flow as between regions. The sink is joined without a socket, and the broker's incarnation is
//! the flow's: that is how a source knows which member of an ack set speaks.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use whimbrel_fleet::{Incarnation, NodeId, RegionName, View};
use whimbrel_rpc::replica::{ConnectSink, Hello, Purpose};
use whimbrel_runtime::{Clock, Tasks};

use super::{flow::Flow, sink::SinkLoop};

/// The broker that is filled.
#[derive(Clone, Debug)]
pub struct Within {
    pub region: RegionName,
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Bytes promised to sources or not fsynced yet.
    pub credit_bytes: u64,
    pub view: watch::Receiver<Arc<View>>,
    pub sink: Arc<dyn ConnectSink>,
}

impl Within {
    /// Runs until `tasks` end.
    pub fn start(self, tasks: &Tasks, clock: Clock) {
        let flow = Flow::within(
            self.region.clone(),
            self.node,
            self.credit_bytes,
            clock.boot_ms(),
        );
        let work = SinkLoop {
            flow: Arc::new(Mutex::new(flow)),
            node: self.node,
            hello: Hello {
                purpose: Purpose::Push,
                fleet_id: String::new(),
                region: self.region,
                incarnation: self.incarnation,
            },
            view: self.view,
            clock,
            tasks: tasks.clone(),
            life: tasks.shutdown().child(),
            local: Some(self.sink),
        };
        tasks.spawn_ok(format!("region flow {}", self.node), work.run());
    }
}
