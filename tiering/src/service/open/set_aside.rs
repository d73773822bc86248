//! What sets another lineage's records aside, put together.

use super::Open;
use crate::{committer::Committer, set_aside::SetAside};

impl Open {
    pub(super) fn set_aside(&self, committer: &Committer) -> SetAside {
        SetAside {
            broker: self.broker.clone(),
            committer: committer.clone(),
            keys: self.keys.clone(),
            region: self.options.region.clone(),
        }
    }
}
