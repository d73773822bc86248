//! The daemons of the region that lends: asked for holds.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tonic::transport::Endpoint;
use uuid::Uuid;
use whimbrel_fleet::View;
use whimbrel_rpc::proto::node::{HoldReply, HoldRequest, tiering_client::TieringClient};
use whimbrel_runtime::Clock;

use crate::committer::daemons;

/// A hold is one swap, which waits while the lender's store is slow; a reader does not wait with it.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub(super) struct Source {
    /// The region that lends.
    pub lender: String,
    /// The region that borrows, and its daemon.
    pub region: String,
    pub incarnation: Uuid,
    pub view: Option<watch::Receiver<Arc<View>>>,
    pub clock: Clock,
}

impl Source {
    /// Takes, renews or gives up a hold. Any daemon there brings it to the shard's owner.
    ///
    /// # Errors
    /// Why no daemon did it, as far as it is known here.
    pub async fn ask(&self, shard: u16, nonce: Uuid, release: bool) -> Result<HoldReply, String> {
        let view = self.view.as_ref().map(|view| Arc::clone(&view.borrow()));
        let view = view.ok_or("without controllers no daemon of another region is known")?;
        let mut why = format!("no tiering daemon of {} is registered", self.lender);
        for at in daemons(&view, &self.lender) {
            let endpoint = Endpoint::from_shared(format!("http://{at}"));
            let endpoint = endpoint.map_err(|e| format!("{at}: {e}"))?;
            let channel = endpoint.connect_timeout(PATIENCE).connect_lazy();
            let request = HoldRequest {
                shard: shard.into(),
                region: self.region.clone(),
                incarnation: self.incarnation.as_bytes().to_vec().into(),
                nonce: nonce.as_bytes().to_vec().into(),
                release,
            };
            let mut client = TieringClient::new(channel);
            match self.clock.within(PATIENCE, client.hold(request)).await {
                Some(Ok(reply)) => return Ok(reply.into_inner()),
                Some(Err(status)) => why = format!("{at}: {}", status.message()),
                None => why = format!("{at} does not answer"),
            }
        }
        Err(why)
    }
}
