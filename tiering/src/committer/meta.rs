//! Which daemon of a region describes the fleet in its bucket: the rule that shards have, with one more number.

use uuid::Uuid;

use super::{Committer, place::Place};

/// There are never so many shards.
const NUMBER: u16 = u16::MAX;

impl Committer {
    /// True when it is this daemon's to describe the fleet, as `owner` did last.
    pub fn has_meta(&self, owner: Option<Uuid>) -> bool {
        let place = self.peers.as_ref().map(|peers| peers.place(NUMBER, owner));
        place.is_none_or(|place| place == Place::Mine)
    }
}
