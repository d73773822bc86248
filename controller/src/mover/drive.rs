//! One move from its fence to its end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use whimbrel_fleet::{
    Fence, GroupName, LossBound, MoveMode, NodeId, Position, RegionEpoch, lease::fence_wait_ms,
    naming::CONSUMER_OFFSETS, view::FailoverGroup,
};

use super::{
    Mover, bound,
    decide::{self, Decision, Missing, Patience},
};
use crate::{
    codes,
    state::{Command, Outcome, State},
};

/// How long replicas that do not answer hold a failover up when another replica of theirs does.
const DEAD_REPLICA: Duration = Duration::from_secs(3);
/// How long a failover waits for a sealed replica of every partition.
const SEALS: Duration = Duration::from_secs(10);
/// How long a move's report stays open for the coordinators' clamps.
const CLAMPS: Duration = Duration::from_secs(5);
/// Before a step that was not committed is derived from the state again.
const AGAIN: Duration = Duration::from_millis(200);

impl Mover {
    /// Works on the group's open move until the state says that it is over, or the proposal failed: the
    /// caller then looks at the state again.
    pub(super) async fn drive(&self, name: &GroupName, epoch: RegionEpoch) {
        let state = self.now();
        let Some(group) = state.group(name) else {
            return;
        };
        let done = match &group.fence {
            Some(fence) if fence.epoch == epoch => self.carry(group, fence).await,
            _ => self.close(name, epoch).await,
        };
        if let Err(error) = done {
            tracing::warn!(group = %name, %epoch, error, "a step of the move was not committed; looking again");
            self.clock.sleep(AGAIN).await;
        }
    }

    fn now(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    async fn carry(&self, group: &FailoverGroup, fence: &Fence) -> Result<(), String> {
        let begun_ms = self.clock.boot_ms();
        tracing::info!(group = %group.name, epoch = %fence.epoch, to = %fence.to, mode = %fence.mode, "move: fenced");
        let decided = match fence.mode {
            MoveMode::Failover => {
                // From here on no majority of voters grants the old epoch; what was granted runs out.
                self.clock
                    .sleep(Duration::from_millis(fence_wait_ms(group.lease_ms)))
                    .await;
                self.await_seals(&group.name, fence).await
            }
            MoveMode::Switchover | MoveMode::Failback => self.await_drain(&group.name, fence).await,
        };
        let fence_ms = self.clock.boot_ms().saturating_sub(begun_ms);
        let (decision, bound) = match decided {
            Ok(decision) => self.measure(group, fence, decision).await,
            Err(Missing(reason)) => return self.abort(&group.name, fence, reason, fence_ms).await,
        };
        if !fence.accept_loss.allows(bound) {
            return self
                .abort(&group.name, fence, too_much(bound), fence_ms)
                .await;
        }
        let state = self.now();
        if let Some(Outcome::Refused { code, message }) =
            state.refuse_homecoming(group, &decision.promoted)
        {
            let reason = format!("{code}: {message}");
            return self.abort(&group.name, fence, reason, fence_ms).await;
        }
        let lossless = matches!(bound, LossBound::AtMost(p) if p.records == 0);
        let lossy = fence.mode == MoveMode::Failover && !lossless;
        let command = Command::Move {
            group: group.name.clone(),
            epoch: fence.epoch,
            lossy,
            bound,
            partitions: decision.promoted,
            fence_ms,
            at_ms: self.clock.wall_ms(),
        };
        self.commit(command).await?;
        self.labels.moved("done");
        tracing::info!(group = %group.name, epoch = %fence.epoch, to = %fence.to, lossy, fence_ms, "move: committed");
        Ok(())
    }

    async fn measure(
        &self,
        group: &FailoverGroup,
        fence: &Fence,
        decision: Decision,
    ) -> (Decision, LossBound) {
        if fence.mode != MoveMode::Failover {
            return (decision, LossBound::AtMost(Position::default()));
        }
        let state = self.now();
        let leaders = bound::leaders(&state.view, group);
        let voters = self.proposer.voter_ids();
        let answers = self.collector.collect(&group.name, &leaders, &voters).await;
        let bound = bound::bound(&state, group, &decision.durable, &answers, voters.len());
        (decision, bound)
    }

    async fn await_seals(&self, name: &GroupName, fence: &Fence) -> Result<Decision, Missing> {
        let all = self.until(name, DEAD_REPLICA, |state, group| {
            decide::failover(
                &state.view,
                group,
                fence,
                &self.positions.reports(&state.view),
                Patience::All,
            )
        });
        if let Ok(decision) = all.await {
            return Ok(decision);
        }
        let rest = SEALS.saturating_sub(DEAD_REPLICA);
        self.until(name, rest, |state, group| {
            decide::failover(
                &state.view,
                group,
                fence,
                &self.positions.reports(&state.view),
                Patience::AnyReplica,
            )
        })
        .await
    }

    async fn await_drain(&self, name: &GroupName, fence: &Fence) -> Result<Decision, Missing> {
        self.until(name, self.drain, |state, group| {
            decide::planned(
                &state.view,
                group,
                fence,
                &self.positions.reports(&state.view),
            )
        })
        .await
    }

    /// Decides again at every report and every change of the state, until it can or the time is over.
    async fn until<F>(
        &self,
        name: &GroupName,
        patience: Duration,
        decide: F,
    ) -> Result<Decision, Missing>
    where
        F: Fn(&State, &FailoverGroup) -> Result<Decision, Missing>,
    {
        let (mut reports, mut state) = (self.positions.changed(), self.state.clone());
        let over = self.clock.sleep(patience);
        tokio::pin!(over);
        loop {
            reports.borrow_and_update();
            let now = Arc::clone(&state.borrow_and_update());
            let Some(group) = now.group(name) else {
                return Err(Missing(format!(
                    "{}: the group is gone",
                    codes::UNKNOWN_GROUP
                )));
            };
            let missing = match decide(&now, group) {
                Ok(decision) => return Ok(decision),
                Err(missing) => missing,
            };
            tokio::select! {
                () = &mut over => return Err(missing),
                changed = reports.changed() => if changed.is_err() { return Err(missing) },
                changed = state.changed() => if changed.is_err() { return Err(missing) },
            }
        }
    }

    async fn abort(
        &self,
        name: &GroupName,
        fence: &Fence,
        reason: String,
        fence_ms: u64,
    ) -> Result<(), String> {
        tracing::warn!(group = %name, epoch = %fence.epoch, reason, "move: aborted");
        let command = Command::AbortMove {
            group: name.clone(),
            epoch: fence.epoch,
            reason,
            fence_ms,
            at_ms: self.clock.wall_ms(),
        };
        self.commit(command).await?;
        self.labels.moved("aborted");
        Ok(())
    }

    /// Waits for the coordinators' clamps and closes the report.
    async fn close(&self, name: &GroupName, epoch: RegionEpoch) -> Result<(), String> {
        let state = self.now();
        let Some(group) = state.group(name) else {
            return Ok(());
        };
        if group
            .moves
            .last()
            .is_some_and(|m| m.epoch == epoch && m.lossy)
        {
            let coordinators = coordinators(&state);
            let mut changed = self.clamps.changed();
            let all = async {
                while self.clamps.counted(name, epoch) < coordinators
                    && changed.changed().await.is_ok()
                {}
            };
            if self.clock.within(CLAMPS, all).await.is_none() {
                tracing::warn!(group = %name, %epoch, "not every coordinator reported its clamps in time");
            }
        }
        self.commit(Command::FinishMove {
            group: name.clone(),
            epoch,
        })
        .await
    }

    async fn commit(&self, command: Command) -> Result<(), String> {
        match self.proposer.propose(command).await {
            Ok(applied) => match applied.outcome {
                // Somebody else carried it through: the state says how.
                Outcome::Refused { code, message } => Err(format!("{code}: {message}")),
                _ => Ok(()),
            },
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Brokers that lead partitions of the offsets topic, whichever group that moves with, each of which reports once. Who is
/// away does it when it is back, or its successor does: nothing waits for it.
fn coordinators(state: &State) -> usize {
    let topic = state.view.topics.get(CONSUMER_OFFSETS);
    let leaders: BTreeSet<NodeId> = topic
        .into_iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|p| p.leader)
        .filter(|leader| state.view.is_live(*leader))
        .collect();
    leaders.len()
}

fn too_much(bound: LossBound) -> String {
    match bound {
        LossBound::Unknown => format!(
            "{}: no surviving majority of voters can name a bound of the loss",
            codes::LOSS_UNKNOWN
        ),
        LossBound::AtMost(p) => format!(
            "{}: up to {} records ({} bytes) may be lost, which is more than was accepted",
            codes::LOSS_TOO_HIGH,
            p.records,
            p.bytes
        ),
    }
}
