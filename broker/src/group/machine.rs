//! One group's membership: the classic protocol as a pure state machine.
//!
//! ```text
//!          join              all joined / time is up          leader's sync is durable
//!   Empty ------> Preparing ------------------------> Completing ------------------> Stable
//!     ^           Rebalance <------------------------ Rebalance                        |
//!     |  nobody    |   ^        join, leave, expiry                                    |
//!     +------------+   +---------------------------------------------------------------+
//! ```
//!
//! Time, randomness and IO stay outside: `now` and member-id suffixes come in, [`Effect`]s go out. A request that must
//! wait is parked under its [`Token`] and every token is answered exactly once, by [`Group::close`] at the latest.
//! Invariants: the generation only rises; a group with members has one leader among them; all members of a stable
//! group share its generation; no record is asked for without a [`Group::persisted`] to follow.
//! Source of the rules: KIP-62, KIP-134, KIP-345, KIP-394, KIP-559, KIP-814 and Kafka's observable behaviour.

mod exchange;
mod expire;
mod join;
mod leave;
mod member;
#[cfg(test)]
mod model;
mod rebalance;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use whimbrel_wire::ErrorCode;

pub use exchange::{
    Effect, GroupRecord, JoinReply, JoinRequest, JoinedMember, Leaver, MemberRecord, SyncReply,
    SyncRequest,
};
pub(crate) use expire::spare;
pub use member::{Member, Protocol};
pub(crate) use sync::store_error;

/// Most milliseconds a member that is new may wait for its first join to complete (Kafka's constant).
pub const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// What a group allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long the first member of an empty group waits for company.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: most members, and most ids handed out and not yet used.
    pub max_size: usize,
    /// Most protocols one member may offer.
    pub max_protocols: usize,
    /// Most bytes of protocol metadata, or of assignment, of one member; the group's record must fit a batch.
    pub max_member_metadata_bytes: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: 5_000,
            max_protocols: 20,
            max_member_metadata_bytes: 256 * 1024,
        }
    }
}

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never steps back; all timers run on it.
    pub mono_ms: i64,
    /// Milliseconds since 1970; only written into records.
    pub wall_ms: i64,
}

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// Where a group stands; the names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No members; perhaps committed positions.
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// Members know the generation and wait for the leader's assignment.
    CompletingRebalance,
    /// Members have their assignments.
    Stable,
    /// Removed, or no longer coordinated here.
    Dead,
}

impl State {
    /// The name in DescribeGroups and ListGroups.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// What a record on its way to the log decides.
#[derive(Clone, Debug, PartialEq)]
enum Write {
    /// The leader's assignment of this generation.
    Assignment {
        generation: i32,
        assignments: BTreeMap<String, Bytes>,
    },
    /// A static member came back under a new id; the answer waits for the record.
    Replacement { token: Token, reply: JoinReply },
    /// Nothing waits for it.
    Empty,
}

/// One group.
#[derive(Clone, Debug)]
pub struct Group {
    id: String,
    rules: Rules,
    state: State,
    /// Wall clock.
    state_since_ms: i64,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    /// Ids handed out and not yet used, with when they lapse.
    pending: BTreeMap<String, i64>,
    /// Members of this generation that have not synced.
    unsynced: BTreeSet<String>,
    sync_deadline_ms: Option<i64>,
    join_deadline_ms: Option<i64>,
    /// While an empty group waits for company: milliseconds the wait may still be prolonged by.
    initial_left_ms: Option<i64>,
    joined_during_delay: bool,
    writes: BTreeMap<u64, Write>,
    next_ticket: u64,
    /// No timer is due before this; may be too early, never too late.
    wake_ms: i64,
}

impl Group {
    /// A group nobody has joined.
    #[must_use]
    pub fn new(id: &str, rules: Rules, now: Now) -> Self {
        Self {
            id: id.to_owned(),
            rules,
            state: State::Empty,
            state_since_ms: now.wall_ms,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            sync_deadline_ms: None,
            join_deadline_ms: None,
            initial_left_ms: None,
            joined_during_delay: false,
            writes: BTreeMap::new(),
            next_ticket: 0,
            wake_ms: i64::MAX,
        }
    }

    /// A group as the log tells it; its members' sessions begin now.
    #[must_use]
    pub fn restore(id: &str, rules: Rules, record: GroupRecord, now: Now) -> Self {
        let mut group = Self::new(id, rules, now);
        group.generation = record.generation.max(0);
        group.state_since_ms = record.state_since_ms;
        group.protocol_type = Some(record.protocol_type).filter(|name| !name.is_empty());
        if record.members.is_empty() {
            return group;
        }
        group.state = State::Stable;
        group.protocol = record.protocol;
        let protocol = group.protocol.clone().unwrap_or_default();
        for stored in record.members {
            let member = Member::restore(stored, &protocol, now.mono_ms);
            if let Some(instance) = &member.instance_id {
                group.statics.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        let first = group.members.keys().next().cloned();
        group.leader = record
            .leader
            .filter(|leader| group.members.contains_key(leader))
            .or(first);
        group.refresh_wake();
        group
    }

    /// The group as it is to stand in the log.
    #[must_use]
    pub fn record(&self) -> GroupRecord {
        self.record_with(None)
    }

    fn record_with(&self, assignments: Option<&BTreeMap<String, Bytes>>) -> GroupRecord {
        let members = self.members.values().map(|member| {
            let assignment = match assignments {
                Some(assignments) => assignments.get(&member.id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            };
            member.record(self.protocol.as_deref().unwrap_or_default(), assignment)
        });
        GroupRecord {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: members.collect(),
        }
    }

    /// The group's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Milliseconds since 1970 at which it came to stand there, as far as the log knows.
    #[must_use]
    pub fn state_since_ms(&self) -> i64 {
        self.state_since_ms
    }

    /// Its generation; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// `consumer`, `connect`, ..; none for a group that only ever committed positions.
    #[must_use]
    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    /// The protocol (for consumers: the assignor) of this generation.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Member id of the leader.
    #[must_use]
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// No timer is due before this instant (monotone ms).
    #[must_use]
    pub fn wake_ms(&self) -> i64 {
        self.wake_ms
    }

    /// Nothing is known of it that is worth keeping in memory; whether positions are committed is not known here.
    #[must_use]
    pub fn is_forgettable(&self) -> bool {
        self.state == State::Empty
            && self.generation == 0
            && self.pending.is_empty()
            && self.writes.is_empty()
    }

    /// Whether ids were handed out that are not used yet, or records are on their way.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty() || !self.writes.is_empty()
    }

    /// Whether a member of a consumer group reads `topic`. A subscription that cannot be read counts as reading all.
    #[must_use]
    pub fn subscribes(&self, topic: &str) -> bool {
        if self.members.is_empty() {
            return false;
        }
        if self.protocol_type.as_deref() != Some("consumer") {
            return true;
        }
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members.values().any(|member| {
            member
                .metadata(protocol)
                .and_then(|metadata| member::subscribed_topics(&metadata))
                .is_none_or(|topics| topics.iter().any(|name| name == topic))
        })
    }

    /// A heartbeat: NONE, or what the member must do about it.
    pub fn heartbeat(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> ErrorCode {
        if self.state == State::Dead {
            return ErrorCode::COORDINATOR_NOT_AVAILABLE;
        }
        if let Err(error) = self.known(member_id, instance_id) {
            return error;
        }
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        if self.state == State::Empty {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        self.touch(member_id, now);
        if self.state == State::PreparingRebalance {
            return ErrorCode::REBALANCE_IN_PROGRESS;
        }
        ErrorCode::NONE
    }

    /// Whether positions may be committed under these credentials; counts as a heartbeat.
    ///
    /// # Errors
    /// Kafka's code for the answer.
    pub fn check_commit(
        &mut self,
        now: Now,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ErrorCode> {
        if self.state == State::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            // A consumer without membership must not overwrite the positions of those that have one.
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.known(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.touch(member_id, now);
        match self.state {
            State::Stable | State::PreparingRebalance => Ok(()),
            State::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::Empty | State::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    /// Ends the group here: everybody parked is answered with `error`.
    pub fn close(&mut self, error: ErrorCode) -> Vec<Effect> {
        let mut out = Vec::new();
        for (id, member) in &mut self.members {
            member.answer(id, error, &mut out);
        }
        for write in std::mem::take(&mut self.writes).into_values() {
            if let Write::Replacement { token, reply } = write {
                out.push(Effect::Joined {
                    token,
                    reply: JoinReply::failed(error, &reply.member_id),
                });
            }
        }
        self.state = State::Dead;
        self.members.clear();
        self.statics.clear();
        self.pending.clear();
        self.unsynced.clear();
        self.wake_ms = i64::MAX;
        out
    }

    /// Whether this member exists under this instance id.
    fn known(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            match self.statics.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ErrorCode::UNKNOWN_MEMBER_ID)
        }
    }

    /// The member showed that it lives.
    fn touch(&mut self, member_id: &str, now: Now) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.deadline_ms = now
                .mono_ms
                .saturating_add(i64::from(member.session_timeout_ms));
            member.was_spared = false;
            self.wake_ms = self.wake_ms.min(member.deadline_ms);
        }
    }

    fn enter(&mut self, state: State, now: Now) {
        self.state = state;
        self.state_since_ms = now.wall_ms;
    }

    fn write(&mut self, write: Write, record: GroupRecord, out: &mut Vec<Effect>) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.writes.insert(ticket, write);
        out.push(Effect::Persist { ticket, record });
    }
}
