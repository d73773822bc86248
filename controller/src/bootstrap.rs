//! The first start: the voter with the lowest id forms the voter set, and whoever leads then proposes
//! the fleet's first commit. Both are done once and recognised when they are tried again.

use std::{collections::BTreeMap, time::Duration};

use openraft::{
    BasicNode,
    error::{InitializeError, RaftError},
};
use tokio::sync::watch;
use whimbrel_runtime::{Shutdown, random};

use crate::{
    options::Options,
    raft::{Proposer, Raft},
    state::{Command, Outcome, State},
};

/// Forms the voter set if this voter is the one to do it and has never been part of one.
pub(crate) async fn form(raft: &Raft, options: &Options) -> Result<(), String> {
    if options.bootstrap.is_none() || options.voters.keys().next() != Some(&options.voter_id) {
        return Ok(());
    }
    if raft.is_initialized().await.map_err(|e| e.to_string())? {
        return Ok(());
    }
    let members: BTreeMap<u64, BasicNode> = options
        .voters
        .iter()
        .map(|(id, at)| (*id, BasicNode::new(at)))
        .collect();
    match raft.initialize(members).await {
        // It heard from the others in between: they have formed it already.
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Proposes the fleet's first commit whenever this voter leads and none is there; ends once it is.
pub(crate) async fn propose(
    proposer: Proposer,
    mut state: watch::Receiver<std::sync::Arc<State>>,
    options: Options,
    shutdown: Shutdown,
) {
    let Some(bootstrap) = options.bootstrap.clone() else {
        return;
    };
    while state.borrow_and_update().view.fleet_id.is_empty() {
        if proposer.is_leader() {
            let command = Command::Bootstrap {
                fleet_id: bootstrap.fleet_id.clone(),
                regions: bootstrap.regions.clone(),
                home: bootstrap.home.clone(),
                lease_ms: options.lease_ms,
                offsets_topic_id: random::uuid(),
            };
            match proposer.propose(command).await {
                Ok(applied) if applied.outcome == Outcome::Done => return,
                Ok(applied) => {
                    tracing::error!(outcome = ?applied.outcome, "the bootstrap was refused")
                }
                Err(error) => tracing::info!(%error, "the bootstrap is tried again"),
            }
        }
        tokio::select! {
            () = shutdown.wait() => return,
            changed = state.changed() => if changed.is_err() { return },
            () = proposer.clock.sleep(Duration::from_millis(100)) => {}
        }
    }
}
