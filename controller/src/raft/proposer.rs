//! Proposals of the leader, and what this voter knows of the leadership.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use openraft::{
    BasicNode, RaftMetrics, ServerState,
    error::{ClientWriteError, RaftError},
};
use tokio::sync::watch;
use whimbrel_fleet::HostPort;
use whimbrel_rpc::controller::RaftStatus;
use whimbrel_runtime::Clock;

use super::{COMMAND_BYTES, Raft};
use crate::state::{Applied, Command};

/// A commit that takes longer is reported as of unknown outcome.
const COMMIT: Duration = Duration::from_secs(5);

/// Why a command did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotProposed {
    /// Nothing was done.
    #[error("this voter does not lead")]
    NotLeader(Option<HostPort>),
    /// Nothing was done.
    #[error("a command of {0} bytes is longer than the log takes")]
    TooLarge(usize),
    /// It may be committed, now or later.
    #[error("the outcome is unknown: {0}")]
    Doubt(String),
}

#[derive(Clone)]
pub(crate) struct Proposer {
    pub(crate) raft: Raft,
    pub(crate) voter: u64,
    pub(crate) voters: Arc<BTreeMap<u64, HostPort>>,
    pub(crate) clock: Clock,
    /// A leader that no quorum has acknowledged for so long does not call itself one any more: the
    /// others may have elected another by then.
    pub(crate) out_of_touch_ms: u64,
}

impl Proposer {
    pub(crate) async fn propose(&self, command: Command) -> Result<Applied, NotProposed> {
        self.require_leader()?;
        let bytes = serde_json::to_vec(&command).map_or(usize::MAX, |text| text.len());
        if bytes > COMMAND_BYTES {
            return Err(NotProposed::TooLarge(bytes));
        }
        let what = command.to_string();
        match self
            .clock
            .within(COMMIT, self.raft.client_write(command))
            .await
        {
            Some(Ok(answer)) => Ok(answer.data),
            // The entry may have been appended before the leadership was lost.
            Some(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(NotProposed::Doubt(format!("{what}: leadership was lost")))
            }
            Some(Err(error)) => Err(NotProposed::Doubt(format!("{what}: {error}"))),
            None => Err(NotProposed::Doubt(format!(
                "{what}: no majority confirmed it in {} ms",
                COMMIT.as_millis()
            ))),
        }
    }

    /// Returns once this voter has confirmed with a majority that it leads, and has applied everything
    /// that was committed before the call.
    pub(crate) async fn confirm(&self) -> Result<(), NotProposed> {
        self.require_leader()?;
        match self
            .clock
            .within(COMMIT, self.raft.ensure_linearizable())
            .await
        {
            Some(Ok(_)) => Ok(()),
            Some(Err(RaftError::APIError(_))) | None => Err(NotProposed::NotLeader(None)),
            Some(Err(error)) => Err(NotProposed::Doubt(error.to_string())),
        }
    }

    pub(crate) fn require_leader(&self) -> Result<(), NotProposed> {
        if self.is_leader() {
            Ok(())
        } else {
            Err(NotProposed::NotLeader(self.leader_address()))
        }
    }

    /// True while this voter leads as far as it knows.
    pub(crate) fn is_leader(&self) -> bool {
        self.leads(&self.raft.metrics().borrow())
    }

    fn leads(&self, metrics: &RaftMetrics<u64, BasicNode>) -> bool {
        metrics.state == ServerState::Leader
            && metrics.current_leader == Some(self.voter)
            && metrics
                .millis_since_quorum_ack
                .is_none_or(|ms| ms < self.out_of_touch_ms)
    }

    /// True while a leader is known and, if it is this one, in touch with a majority.
    pub(crate) fn in_touch(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        match metrics.current_leader {
            None => false,
            Some(leader) if leader == self.voter => self.leads(&metrics),
            Some(_) => metrics.running_state.is_ok(),
        }
    }

    /// True while this voter is in the newest voter set of its log.
    pub(crate) fn is_voter(&self) -> bool {
        self.raft
            .metrics()
            .borrow()
            .membership_config
            .membership()
            .voter_ids()
            .any(|id| id == self.voter)
    }

    pub(crate) fn voter_ids(&self) -> Vec<u64> {
        self.raft
            .metrics()
            .borrow()
            .membership_config
            .membership()
            .voter_ids()
            .collect()
    }

    pub(crate) fn changes(
        &self,
    ) -> watch::Receiver<openraft::metrics::RaftServerMetrics<u64, BasicNode>> {
        self.raft.server_metrics()
    }

    pub(crate) fn changes_of_health(&self) -> watch::Receiver<RaftMetrics<u64, BasicNode>> {
        self.raft.metrics()
    }

    pub(crate) fn status(&self) -> RaftStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        RaftStatus {
            voter: self.voter,
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            applied: metrics.last_applied.map(|id| id.index),
            voters: self
                .voters
                .iter()
                .map(|(id, at)| (*id, at.to_string()))
                .collect(),
        }
    }

    fn leader_address(&self) -> Option<HostPort> {
        let leader = self.raft.metrics().borrow().current_leader?;
        if leader == self.voter {
            None
        } else {
            self.voters.get(&leader).cloned()
        }
    }
}
