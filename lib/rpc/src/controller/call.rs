//! Calls to whoever leads: tries the last known leader first, follows hints, goes round, and keeps to
//! a deadline.
//!
//! A hint is followed only to an address that was configured: a fleet may be reached through other
//! addresses than its voters use among themselves.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tonic::{
    Response, Status,
    transport::{Channel, Endpoint},
};
use whimbrel_fleet::HostPort;
use whimbrel_runtime::{Backoff, Clock};

use super::error::{Attempt, ControlError, judge};
use crate::proto::controller::controller_client;

/// Longest message to or from a voter. The largest is a status with the whole view in it.
pub(super) const MESSAGE_BYTES: usize = 16 << 20;
/// One attempt at one voter: long enough for a commit over a slow WAN.
const ATTEMPT: Duration = Duration::from_secs(3);
/// One attempt of what is answered from memory and sent again in a second anyway: a voter that went
/// silent is left quickly.
pub(super) const BRIEF: Duration = Duration::from_millis(700);
/// A whole call: outlives an election.
const CALL: Duration = Duration::from_secs(15);

pub(super) type Stub = controller_client::ControllerClient<Channel>;

/// What may follow an attempt whose outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The request is recognised or harmless when it comes twice.
    Repeat,
    Never,
}

#[derive(Debug)]
pub(super) struct Calls {
    voters: Vec<(HostPort, Channel)>,
    leader: AtomicUsize,
    clock: Clock,
}

/// A channel that connects when it is first used and notices a peer that went silent.
pub(super) fn channel(at: &HostPort) -> Option<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{at}")).ok()?;
    Some(
        endpoint
            .connect_timeout(Duration::from_secs(1))
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(2))
            .keep_alive_while_idle(true)
            .connect_lazy(),
    )
}

impl Calls {
    /// Addresses that are no valid URI authority are left out; they could never be reached.
    pub(super) fn new(voters: Vec<HostPort>, clock: Clock) -> Self {
        let voters = voters
            .into_iter()
            .filter_map(|at| channel(&at).map(|c| (at, c)))
            .collect();
        Self {
            voters,
            leader: AtomicUsize::new(0),
            clock,
        }
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn voters(&self) -> usize {
        self.voters.len()
    }

    pub(super) fn stub(&self, index: usize) -> Option<Stub> {
        let (_, channel) = self.voters.get(index)?;
        Some(
            Stub::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES)
                .max_encoding_message_size(MESSAGE_BYTES),
        )
    }

    pub(super) async fn leader<T, F, Fut>(
        &self,
        name: &'static str,
        again: Again,
        call: F,
    ) -> Result<T, ControlError>
    where
        F: Fn(Stub) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        self.leader_within(ATTEMPT, name, again, call).await
    }

    /// As [`Self::leader`], with another deadline for each attempt.
    pub(super) async fn leader_within<T, F, Fut>(
        &self,
        attempt: Duration,
        name: &'static str,
        again: Again,
        call: F,
    ) -> Result<T, ControlError>
    where
        F: Fn(Stub) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = self.clock.boot_ms();
        let mut last = "no voters are configured".to_owned();
        let mut pause = Backoff::new(Duration::from_millis(50), Duration::from_millis(500));
        loop {
            for _ in 0..self.voters.len() {
                let index = self.leader.load(Ordering::Relaxed) % self.voters.len();
                match self.attempt(attempt, name, index, &call).await {
                    Ok(answer) => return Ok(answer),
                    Err(Attempt::Final(error)) => return Err(error),
                    Err(Attempt::Doubt(why)) if again == Again::Never => {
                        return Err(ControlError::Unknown {
                            call: name,
                            last: why,
                        });
                    }
                    Err(Attempt::NotLeader(Some(hint))) if self.follow(index, &hint) => {
                        last = format!("{hint} was said to lead");
                    }
                    Err(Attempt::NotLeader(_)) => {
                        last = "no leader is known".to_owned();
                        self.advance(index);
                    }
                    Err(Attempt::Doubt(why) | Attempt::NotReached(why)) => {
                        last = why;
                        self.advance(index);
                    }
                }
            }
            let waited_ms = self.clock.boot_ms().saturating_sub(begun);
            if self.voters.is_empty() || u128::from(waited_ms) >= CALL.as_millis() {
                return Err(ControlError::Unreachable {
                    call: name,
                    waited_ms,
                    last,
                });
            }
            self.clock.sleep(pause.next()).await;
        }
    }

    async fn attempt<T, F, Fut>(
        &self,
        deadline: Duration,
        name: &'static str,
        index: usize,
        call: &F,
    ) -> Result<T, Attempt>
    where
        F: Fn(Stub) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(stub) = self.stub(index) else {
            return Err(Attempt::NotReached("no such voter".to_owned()));
        };
        match self.clock.within(deadline, call(stub)).await {
            Some(Ok(answer)) => Ok(answer.into_inner()),
            Some(Err(status)) => Err(judge(name, &status)),
            None => Err(Attempt::Doubt(format!(
                "no answer in {} ms",
                deadline.as_millis()
            ))),
        }
    }

    /// True when the hint leads to another configured voter.
    fn follow(&self, from: usize, hint: &HostPort) -> bool {
        match self.voters.iter().position(|(at, _)| at == hint) {
            Some(to) if to != from => {
                self.leader.store(to, Ordering::Relaxed);
                true
            }
            _ => false,
        }
    }

    fn advance(&self, from: usize) {
        self.leader
            .store((from + 1) % self.voters.len().max(1), Ordering::Relaxed);
    }
}
