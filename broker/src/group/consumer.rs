//! One group of the consumer protocol (KIP-848) as a pure state machine.
//!
//! ```text
//!  subscriptions, topics          target assignment           each member's assignment
//!     group epoch      ──────►      target epoch      ──────►      member epoch
//!  rises when they change      computed by the assignor      follows, one heartbeat at a time
//! ```
//!
//! A partition goes to a member only after nobody else holds it: a member whose target lost partitions first gives them
//! up ([`MemberState::Unrevoked`]), one that waits for others has what is free ([`MemberState::Unreleased`]).
//!
//! Time, names of topics and IO stay outside. Every call changes the state at once and returns the [`Change`]s that make
//! it durable, in an order of which every beginning is a consistent group; the host appends them in that order, answers
//! only then, and reads the log again if it cannot. Invariants: the three epochs only rise, member <= target <= group;
//! no partition is held by two members; what a member is told is what the log says of it.
//! Some of the members may speak the classic protocol: a group passes over with all of them when the first member joins
//! by this one, and back when the last such member has gone.
//! Source of the rules: KIP-848, KIP-1082 and Kafka's observable behaviour.

mod assignment;
pub mod assignor;
mod classic;
mod convert;
mod exchange;
mod heartbeat;
mod leave;
mod member;
#[cfg(test)]
mod model;
mod reconcile;
mod restore;
mod subscription;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;
use whimbrel_wire::ErrorCode;

pub use assignment::Assignment;
pub use exchange::{
    Change, Classic, Current, Epoch, Heartbeat, Profile, Refusal, Regex, Reply, Sight,
};
pub use member::{Member, MemberState};
pub use restore::Stored;

use super::{
    machine::{Now, spare},
    store::Pace,
};

/// What a group allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`.
    pub max_size: usize,
    /// Most bytes of names, expressions and ids of one member: they stand in one record.
    pub max_profile_bytes: usize,
    /// How long a changed set of topics may wait until regular expressions are looked up in it again.
    pub regex_refresh_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
            max_size: 5_000,
            max_profile_bytes: 256 * 1024,
            regex_refresh_ms: 10_000,
        }
    }
}

impl Rules {
    /// The same with a group's own configs in force.
    #[must_use]
    pub fn at(&self, pace: Pace) -> Self {
        let session_timeout_ms = pace.session_timeout_ms.unwrap_or(self.session_timeout_ms);
        // Sessions of this broker may be shorter than Kafka's bounds: heartbeats that do not fit into them would end them.
        let own = pace
            .heartbeat_interval_ms
            .filter(|ms| *ms < session_timeout_ms);
        Self {
            session_timeout_ms,
            heartbeat_interval_ms: own.unwrap_or(self.heartbeat_interval_ms),
            ..self.clone()
        }
    }
}

/// Where a group stands; the names are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// A new target assignment is due at the next heartbeat.
    Assigning,
    /// Some members are not where the target wants them.
    Reconciling,
    /// All are.
    Stable,
}

impl State {
    /// The name in ConsumerGroupDescribe and ListGroups.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Assigning => "Assigning",
            State::Reconciling => "Reconciling",
            State::Stable => "Stable",
        }
    }
}

/// One group.
#[derive(Clone, Debug)]
pub struct Group {
    id: String,
    rules: Rules,
    epoch: i32,
    /// Of the subscribed topics with their ids and partition counts.
    metadata_hash: i64,
    /// The subscribed topics that exist.
    metadata: BTreeMap<String, (Uuid, i32)>,
    /// What the topics looked like when `metadata` was computed; none after a load.
    seen: Option<u64>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    target_epoch: i32,
    /// By member id; a member without any partition may be missing.
    target: BTreeMap<String, Assignment>,
    /// Who holds, or still has to give up, a partition.
    owners: HashMap<(Uuid, i32), String>,
    /// What each regular expression stands for.
    regexes: BTreeMap<String, Regex>,
    regexes_due_ms: i64,
    /// No timer is due before this (monotone ms); may be too early, never too late.
    wake_ms: i64,
}

impl Group {
    /// A group nobody has joined.
    #[must_use]
    pub fn new(id: &str, rules: Rules) -> Self {
        Self {
            id: id.to_owned(),
            rules,
            epoch: 0,
            metadata_hash: 0,
            metadata: BTreeMap::new(),
            seen: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            target_epoch: 0,
            target: BTreeMap::new(),
            owners: HashMap::new(),
            regexes: BTreeMap::new(),
            regexes_due_ms: i64::MIN,
            wake_ms: i64::MAX,
        }
    }

    /// These rules count from now on; a session under way runs on until its member is heard.
    pub fn obey(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The group's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        if self.members.is_empty() {
            State::Empty
        } else if self.epoch > self.target_epoch {
            State::Assigning
        } else if self
            .members
            .values()
            .all(|member| member.is_at(self.target_epoch))
        {
            State::Stable
        } else {
            State::Reconciling
        }
    }

    /// The group's epoch.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The epoch of the target assignment.
    #[must_use]
    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    /// The assignor that most members ask for.
    #[must_use]
    pub fn assignor(&self) -> &'static str {
        assignor::preferred(self.members.values()).name()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// What a member is to have.
    #[must_use]
    pub fn target(&self, member_id: &str) -> Assignment {
        self.target.get(member_id).cloned().unwrap_or_default()
    }

    /// No timer is due before this instant (monotone ms).
    #[must_use]
    pub fn wake_ms(&self) -> i64 {
        self.wake_ms
    }

    /// Whether a member reads `topic`.
    #[must_use]
    pub fn subscribes(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            member.profile.topics.contains(topic)
                || self
                    .regex_of(member)
                    .is_some_and(|regex| regex.topics.contains(topic))
        })
    }

    /// Whether a member may commit positions by requests that have no place for its epoch, or do.
    ///
    /// # Errors
    /// UNSUPPORTED_VERSION.
    pub fn check_version(&self, member_id: &str, knows_epochs: bool) -> Result<(), ErrorCode> {
        match self.members.get(member_id) {
            Some(member) if !knows_epochs && !member.is_classic() => {
                Err(ErrorCode::UNSUPPORTED_VERSION)
            }
            _ => Ok(()),
        }
    }

    /// Whether positions may be committed under these credentials.
    ///
    /// # Errors
    /// Kafka's code for the answer.
    pub fn check_commit(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        if epoch < 0 && self.members.is_empty() {
            // Tools set the positions of a group that nobody uses.
            return Ok(());
        }
        self.check_epoch_of(member_id, epoch)
    }

    /// Whether positions may be read under these credentials; without any they may.
    ///
    /// # Errors
    /// Kafka's code for the answer.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        match member_id {
            None if epoch < 0 => Ok(()),
            member_id => self.check_epoch_of(member_id.unwrap_or_default(), epoch),
        }
    }

    fn check_epoch_of(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self
            .members
            .get(member_id)
            .ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.epoch == epoch {
            Ok(())
        } else if member.is_classic() {
            Err(ErrorCode::ILLEGAL_GENERATION)
        } else {
            Err(ErrorCode::STALE_MEMBER_EPOCH)
        }
    }

    /// For this long, until now, nobody could be heard; see [`spare`].
    pub fn stood_still(&mut self, now: Now, for_ms: i64) {
        for member in self.members.values_mut() {
            let half_ms = i64::from(member.session_ms(&self.rules) / 2);
            let times = (now, for_ms);
            spare(
                &mut member.session_deadline_ms,
                &mut member.was_spared,
                times,
                half_ms,
            );
            if let Some(at) = &mut member.revoke_deadline_ms {
                *at = at.saturating_add(for_ms);
            }
        }
        self.refresh_wake();
    }

    /// The changes that remove a group without members.
    #[must_use]
    pub fn removal(&self) -> Vec<Change> {
        let mut changes: Vec<_> = self
            .regexes
            .keys()
            .map(|regex| Change::Regex(regex.clone(), None))
            .collect();
        changes.extend([Change::TargetEpoch(None), Change::Epoch(None)]);
        changes
    }

    fn bump(&mut self, out: &mut Vec<Change>) {
        self.epoch = self.epoch.saturating_add(1);
        out.push(Change::Epoch(Some(Epoch {
            epoch: self.epoch,
            metadata_hash: self.metadata_hash,
        })));
    }

    /// What a member holds has changed.
    fn settle_owner(&mut self, id: &str, before: Option<&Member>, after: Option<&Member>) {
        for place in before.into_iter().flat_map(Member::held) {
            if self.owners.get(&place).is_some_and(|owner| owner == id) {
                self.owners.remove(&place);
            }
        }
        for place in after.into_iter().flat_map(Member::held) {
            self.owners.insert(place, id.to_owned());
        }
    }

    fn refresh_wake(&mut self) {
        let timers = self.members.values().map(Member::next_deadline_ms);
        self.wake_ms = timers.min().unwrap_or(i64::MAX);
    }
}
