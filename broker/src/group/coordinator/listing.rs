//! What is told of the groups: lists and descriptions.

use super::{
    super::machine::{Group, Member, State},
    shard::Shard,
};

/// The protocol type of every group of the consumer protocol.
const CONSUMER_PROTOCOL: &str = "consumer";

/// Which protocol a group speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupType {
    Classic,
    Consumer,
}

impl GroupType {
    /// The name in ListGroups.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub group: String,
    pub protocol_type: String,
    pub state: &'static str,
    pub group_type: GroupType,
}

/// A group with its members.
#[derive(Clone, Debug)]
pub struct Description {
    pub state: State,
    pub protocol_type: String,
    /// Empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<Member>,
}

impl Shard {
    pub(super) fn list(&self) -> Vec<Listed> {
        let state = self.state.lock();
        let mut all: Vec<_> = state
            .groups
            .values()
            .filter(|group| !group.is_forgettable())
            .map(listed)
            .collect();
        all.extend(state.consumers.values().map(|group| Listed {
            group: group.id().to_owned(),
            protocol_type: CONSUMER_PROTOCOL.to_owned(),
            state: group.state().name(),
            group_type: GroupType::Consumer,
        }));
        let simple = |id: &&str| {
            state.groups.get(*id).is_none_or(Group::is_forgettable)
                && !state.consumers.contains_key(*id)
        };
        all.extend(state.offsets.groups().filter(simple).map(|id| Listed {
            group: id.to_owned(),
            protocol_type: String::new(),
            state: State::Empty.name(),
            group_type: GroupType::Classic,
        }));
        all
    }

    pub(super) fn describe(&self, id: &str) -> Option<Description> {
        let state = self.state.lock();
        let Some(group) = state.groups.get(id) else {
            let simple = Description {
                state: State::Empty,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            };
            let known = state.offsets.contains(id) && !state.consumers.contains_key(id);
            return known.then_some(simple);
        };
        let stable = group.state() == State::Stable;
        Some(Description {
            state: group.state(),
            protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
            protocol: group
                .protocol()
                .filter(|_| stable)
                .unwrap_or_default()
                .to_owned(),
            members: group.members().cloned().collect(),
        })
    }
}

fn listed(group: &Group) -> Listed {
    Listed {
        group: group.id().to_owned(),
        protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
        state: group.state().name(),
        group_type: GroupType::Classic,
    }
}
