//! Reaching the fleet that a verb is about.

use std::sync::Arc;

use whimbrel_dev::{Fleet, FleetError};
use whimbrel_fleet::View;
use whimbrel_rpc::controller::ControllerClient;
use whimbrel_runtime::{Clock, Tasks};

use crate::args::Format;

/// `--fleet`, `-o` and the tasks that a client needs.
pub struct At {
    pub fleet: String,
    pub format: Format,
    pub tasks: Tasks,
}

impl At {
    pub async fn controller(&self) -> Result<ControllerClient, FleetError> {
        Ok(Fleet::find(&self.fleet)
            .await?
            .client(&self.tasks, Clock::system()))
    }

    /// The newest view that a voter sends; no leader is needed for it.
    pub async fn view(&self) -> Result<Arc<View>, FleetError> {
        let fleet = Fleet::find(&self.fleet).await?;
        let client = fleet.client(&self.tasks, Clock::system());
        fleet.view(&client).await
    }

    /// `bootstrap.servers` for a Kafka client.
    pub async fn bootstrap(&self) -> anyhow::Result<String> {
        let view = self.view().await?;
        let brokers: Vec<String> = view.listed_brokers().map(|n| n.kafka.to_string()).collect();
        anyhow::ensure!(!brokers.is_empty(), "the fleet has no broker");
        Ok(brokers.join(","))
    }
}
