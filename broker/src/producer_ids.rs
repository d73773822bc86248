//! Producer ids from blocks that the controller gives out, fleet-wide unique.

use tokio::sync::Mutex;
use whimbrel_fleet::NodeId;
use whimbrel_rpc::controller::{ControlError, ControllerClient, ProducerIdBlock};

#[derive(Debug, Default)]
pub struct ProducerIds {
    // Held while the next block is asked for, so that a crowd of producers asks once.
    block: Mutex<Option<ProducerIdBlock>>,
}

impl ProducerIds {
    pub async fn next(
        &self,
        controller: &ControllerClient,
        node: NodeId,
    ) -> Result<i64, ControlError> {
        let mut block = self.block.lock().await;
        let mut current = match block.take() {
            Some(block) if block.len > 0 => block,
            _ => controller.allocate_producer_ids(node).await?,
        };
        let id = current.first;
        current.first = current.first.saturating_add(1);
        current.len = current.len.saturating_sub(1);
        *block = Some(current);
        Ok(id)
    }
}
