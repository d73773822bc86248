//! What is not in the bucket yet, and how old that is.
//!
//! The age is what may be lost with this region's disks: it rises whatever the store does, also while the bucket of a
//! daemon that has just started cannot be opened.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use whimbrel_fleet::TopicPartition;
use whimbrel_rpc::proto::node;
use whimbrel_runtime::{Backoff, Clock, Tasks};

use crate::{
    broker::{BrokerLink, partition_from},
    committer::Committer,
    root::Partition,
    serve::Seen,
};

/// How often the broker is asked what is pending. The age itself rises between two looks.
const LOOK_AT_PENDING: Duration = Duration::from_secs(15);
/// Until it has told anything.
const FIRST_LOOKS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What is not in the bucket yet, as the broker last told.
#[derive(Debug, Default)]
pub struct Pending {
    /// Append time of the oldest record per partition.
    oldest: BTreeMap<TopicPartition, i64>,
    told: bool,
}

impl Pending {
    /// Age of the oldest record as of `now_ms`; `None` until the broker has told anything.
    pub fn age_ms(&self, now_ms: i64) -> Option<i64> {
        self.told.then(|| {
            self.oldest
                .values()
                .min()
                .map_or(0, |oldest| now_ms.saturating_sub(*oldest).max(0))
        })
    }

    pub fn replace(&mut self, pending: &[node::OldestPending]) {
        self.told = true;
        self.oldest = pending
            .iter()
            .filter_map(|p| Some((partition_from(p.at.as_ref())?, p.append_time_ms)))
            .collect();
    }
}

/// All that the roots hold, as the broker wants to know it.
pub fn extents(committer: &Committer) -> Vec<node::Extent> {
    let roots = committer.roots();
    let extent = |(at, p): (&TopicPartition, &Partition)| node::Extent {
        at: Some((*at).into()),
        start_offset: p.start(),
        end_offset: p.end,
        end_epoch: p.end.checked_sub(1).and_then(|last| p.epoch_of(last)),
    };
    roots
        .iter()
        .flat_map(|root| root.partitions.iter().map(extent).collect::<Vec<_>>())
        .collect()
}

/// Asks the broker what is pending, from the start on and while every upload is stuck: the age is computed from what
/// the broker told last. Before the roots are read the broker goes by what it was told before, and takes all for
/// pending of which it was told nothing: more than the truth, never less.
#[derive(Debug)]
pub struct PendingWatch {
    pub broker: BrokerLink,
    pub pending: Arc<Mutex<Pending>>,
    pub served: Seen,
    pub clock: Clock,
    pub tasks: Tasks,
}

impl PendingWatch {
    pub async fn run(self) {
        let shutdown = self.tasks.shutdown();
        let mut pause = Backoff::new(FIRST_LOOKS.0, FIRST_LOOKS.1);
        let mut told = false;
        loop {
            let served = self.served.borrow().clone();
            let request = node::UploadableRequest {
                tiered: served.map_or_else(Vec::new, |served| extents(&served.committer)),
                max_slices: 0,
                wait_ms: 0,
                pending_only: true,
            };
            match shutdown.unless(self.broker.uploadable(request)).await {
                Some(Ok(reply)) => {
                    self.pending.lock().replace(&reply.pending);
                    told = true;
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "what is pending is not known now");
                }
                None => return,
            }
            let pause = if told { LOOK_AT_PENDING } else { pause.next() };
            if shutdown.unless(self.clock.sleep(pause)).await.is_none() {
                return;
            }
        }
    }
}
