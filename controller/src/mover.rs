//! Carries moves through, as the leader: from the fence that stands in the state to the move or its
//! abort.
//!
//! Everything is derived from the state, so a move goes on under a new leader, which waits out the fence
//! again on its own clock. At most one task works on a group; what it proposes is recognised or refused
//! by the state when somebody else was faster.

mod bound;
mod clamps;
mod collect;
mod decide;
mod drive;
mod plan;
pub(crate) mod restored;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::sync::watch;
use whimbrel_fleet::{GroupName, RegionEpoch, moves::MoveOutcome};
use whimbrel_runtime::{Clock, Shutdown};

use crate::{metrics::Labels, positions::Positions, raft::Proposer, state::State};

pub(crate) use bound::leaders;
pub(crate) use clamps::ClampReports;
pub(crate) use collect::{Answers, Collector};
pub(crate) use plan::{ALIVE_MS, Numbers, is_reported, plan};

/// What a move needs.
#[derive(Clone)]
pub(crate) struct Mover {
    pub(crate) proposer: Proposer,
    pub(crate) state: watch::Receiver<Arc<State>>,
    pub(crate) positions: Arc<Positions>,
    pub(crate) collector: Collector,
    pub(crate) clamps: Arc<ClampReports>,
    pub(crate) clock: Clock,
    pub(crate) drain: Duration,
    pub(crate) labels: Labels,
}

impl Mover {
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut state = self.state.clone();
        let mut leadership = self.proposer.changes();
        let mut working = FuturesUnordered::new();
        let mut active: BTreeSet<(GroupName, RegionEpoch)> = BTreeSet::new();
        let mut led = false;
        loop {
            let leads = self.proposer.is_leader();
            if leads != led {
                // A new leader knows no reports yet; an old one must not act on its own any more.
                self.positions.clear();
                working = FuturesUnordered::new();
                active.clear();
                led = leads;
            }
            if leads {
                let now = Arc::clone(&state.borrow_and_update());
                for key in open_moves(&now) {
                    if active.insert(key.clone()) {
                        let mover = self.clone();
                        working.push(async move {
                            mover.drive(&key.0, key.1).await;
                            key
                        });
                    }
                }
            }
            tokio::select! {
                () = shutdown.wait() => return,
                Some(key) = working.next(), if !working.is_empty() => {
                    active.remove(&key);
                }
                changed = state.changed() => if changed.is_err() { return },
                changed = leadership.changed() => if changed.is_err() { return },
                // Being in touch with a majority is a matter of time, not of events.
                () = self.clock.sleep(Duration::from_millis(500)) => {}
            }
        }
    }
}

/// Moves that are not over: fenced ones, and committed ones whose report is still open.
fn open_moves(state: &State) -> Vec<(GroupName, RegionEpoch)> {
    let running = |(name, report): (&GroupName, &whimbrel_fleet::MoveReport)| match report.outcome {
        MoveOutcome::Running { .. } => Some((name.clone(), report.plan.epoch)),
        MoveOutcome::Done | MoveOutcome::Aborted { .. } => None,
    };
    state.reports.iter().filter_map(running).collect()
}
