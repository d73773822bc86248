//! What carries out orders to move the bucket, put together.

use std::sync::Arc;

use super::Open;
use crate::{
    committer::Committer,
    moving::{self, Mover},
    store::Capabilities,
};

impl Open {
    pub(super) fn mover(&self, committer: &Committer, capabilities: Capabilities) -> Mover {
        Mover {
            placed: self.placed.clone(),
            store: self.store(moving::CAUSE),
            ledger: self.ledger.clone(),
            keys: self.keys.clone(),
            fleet_id: self.fleet_id.clone(),
            region: self.options.region.clone(),
            from: self.options.bucket.clone(),
            incarnation: self.incarnation,
            committer: committer.clone(),
            capabilities,
            scratch_dir: self.options.cache_dir.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            ops: self.status.ops.clone(),
            request_timeout: self.options.request_timeout.0,
            tally: moving::Tally::default(),
            trouble: moving::Trouble::default(),
            wake: Arc::default(),
        }
    }
}
