//! The buckets of other regions that are read for what the own one lacks.

use std::sync::Arc;

use super::Open;
use crate::borrow::{Borrowed, Lender, Lending};

impl Open {
    pub(super) fn borrowed(&self) -> Borrowed {
        let with = Lending {
            fleet_id: self.fleet_id.clone(),
            region: self.options.region.clone(),
            incarnation: self.incarnation,
            view: self.view.clone(),
            cache: Arc::clone(&self.cache),
            ledger: self.ledger.clone(),
            ops: self.status.ops.clone(),
            clock: self.clock.clone(),
            tasks: self.tasks.clone(),
            request_timeout: self.options.request_timeout.0,
        };
        let each = self.options.borrow.iter();
        let lenders =
            each.map(|(region, bucket)| Lender::new(region.clone(), bucket.clone(), with.clone()));
        Borrowed::new(lenders.collect())
    }
}
