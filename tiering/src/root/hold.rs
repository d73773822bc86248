//! Holds: while another region reads from this bucket by a root that it has read, nothing that was unlinked since is
//! deleted.
//!
//! A hold stands in the root itself, so that every later owner of the shard finds it, and an owner that knows no holds
//! refuses the root. How long the borrower has been silent is for the owner's own monotonic clock and not stored: a new
//! owner counts from its claim.

use uuid::Uuid;

use super::{Applied, Reject, Root, Unlinked};
use crate::format::Key;

/// Holds of one shard: a few regions, each with a daemon that came and one that went.
pub const MOST_HOLDS: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// That borrows.
    pub region: String,
    /// Of the daemon that asked.
    pub incarnation: Uuid,
    /// Names it; drawn by whoever asks.
    pub nonce: Uuid,
    /// Wall clock, for people.
    pub since_ms: i64,
    /// So many objects, the first on the pending list, were unlinked before: no root names them that was read under
    /// this hold.
    pub before: u32,
}

impl Root {
    /// The hold stands from now on; `Already` where it stood before.
    pub fn hold(&mut self, asked: &Hold) -> Result<Applied, Reject> {
        if self.holds.iter().any(|hold| hold.nonce == asked.nonce) {
            return Ok(Applied::Already);
        }
        if self.holds.len() >= MOST_HOLDS {
            return Err(Reject::Held { holds: MOST_HOLDS });
        }
        self.holds.push(Hold {
            before: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
            ..asked.clone()
        });
        Ok(Applied::Changed)
    }

    pub fn release(&mut self, nonces: &[Uuid]) -> Applied {
        let stood = self.holds.len();
        self.holds.retain(|hold| !nonces.contains(&hold.nonce));
        match self.holds.len() < stood {
            true => Applied::Changed,
            false => Applied::Already,
        }
    }

    /// What waits for its deletion and no hold stands for. New objects go to the end of the list.
    pub fn deletable(&self) -> &[Unlinked] {
        let free = self.holds.iter().map(|hold| hold.before).min();
        let free = free.and_then(|free| usize::try_from(free).ok());
        let all = self.pending.as_slice();
        free.and_then(|free| all.get(..free)).unwrap_or(all)
    }

    /// Deleted objects go off the list.
    pub fn strike(&mut self, keys: &[Key]) {
        let mut before: Vec<u32> = self.holds.iter().map(|hold| hold.before).collect();
        let mut n = 0;
        self.pending.retain(|unlinked| {
            let goes = keys.contains(&unlinked.key);
            for (left, hold) in before.iter_mut().zip(&self.holds) {
                if goes && n < hold.before {
                    *left = left.saturating_sub(1);
                }
            }
            n = n.saturating_add(1);
            !goes
        });
        for (hold, before) in self.holds.iter_mut().zip(before) {
            hold.before = before;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use whimbrel_fleet::TopicPartition;

    use super::*;
    use crate::root::Partition;

    fn root() -> Root {
        let at = TopicPartition::new(Uuid::from_u128(1), 0);
        Root::sample(at, Partition::default())
    }

    fn hold(nonce: u128) -> Hold {
        Hold {
            region: "west".to_owned(),
            incarnation: Uuid::from_u128(5),
            nonce: Uuid::from_u128(nonce),
            since_ms: 7,
            before: 99,
        }
    }

    fn key(n: u32) -> Key {
        Key::parse(&format!("v1/east/data/{n}")).unwrap()
    }

    fn unlink(root: &mut Root, n: u32) {
        root.pending.push(Unlinked {
            key: key(n),
            unlinked_ms: 0,
        });
    }

    fn deletable(root: &Root) -> Vec<Key> {
        root.deletable().iter().map(|u| u.key.clone()).collect()
    }

    #[test]
    fn what_was_unlinked_before_a_hold_goes_and_what_came_after_waits_for_the_last_of_them() {
        let mut root = root();
        unlink(&mut root, 0);
        assert_eq!(root.hold(&hold(1)), Ok(Applied::Changed));
        unlink(&mut root, 1);
        assert_eq!(root.hold(&hold(2)), Ok(Applied::Changed));
        assert_eq!(root.hold(&hold(1)), Ok(Applied::Already));
        unlink(&mut root, 2);
        assert_eq!(deletable(&root), [key(0)]);
        root.strike(&[key(0)]);
        assert!(deletable(&root).is_empty());
        assert_eq!(root.release(&[Uuid::from_u128(1)]), Applied::Changed);
        assert_eq!(root.release(&[Uuid::from_u128(1)]), Applied::Already);
        assert_eq!(deletable(&root), [key(1)]);
        assert_eq!(root.release(&[Uuid::from_u128(2)]), Applied::Changed);
        assert_eq!(deletable(&root), [key(1), key(2)]);
    }

    #[test]
    fn holds_are_bounded() {
        let mut root = root();
        for nonce in 0..MOST_HOLDS {
            root.hold(&hold(nonce as u128)).unwrap();
        }
        let refused = root.hold(&hold(1_000));
        assert_eq!(refused, Err(Reject::Held { holds: MOST_HOLDS }));
        assert_eq!(root.hold(&hold(3)), Ok(Applied::Already));
    }

    #[test]
    fn a_hold_that_cannot_be_is_not_believed() {
        let mut root = root();
        root.hold(&hold(1)).unwrap();
        assert_eq!(Root::decode(&root.encode()).unwrap(), root);
        let mut bent = root.clone();
        bent.holds[0].before = 1;
        assert!(Root::decode(&bent.encode()).is_err());
        let mut twice = root.clone();
        twice.holds.push(hold(1));
        assert!(Root::decode(&twice.encode()).is_err());
    }

    proptest! {
        #[test]
        fn an_object_is_deletable_when_no_hold_stands_that_stood_when_it_was_unlinked(
            steps in prop::collection::vec((0..4_u8, any::<prop::sample::Index>()), 0..60),
        ) {
            let mut root = root();
            let mut model: Vec<(Key, Vec<Uuid>)> = Vec::new();
            for (n, (kind, which)) in (0_u32..).zip(steps) {
                let standing: Vec<Uuid> = root.holds.iter().map(|hold| hold.nonce).collect();
                match kind {
                    0 => {
                        unlink(&mut root, n);
                        model.push((key(n), standing));
                    }
                    1 => drop(root.hold(&hold(n.into()))),
                    2 if !standing.is_empty() => {
                        root.release(&[*which.get(&standing)]);
                    }
                    _ => {
                        let gone: Vec<_> = deletable(&root).into_iter().skip(which.index(3)).step_by(2).collect();
                        root.strike(&gone);
                        model.retain(|(key, _)| !gone.contains(key));
                    }
                }
                let stands = |nonce: &Uuid| root.holds.iter().any(|hold| hold.nonce == *nonce);
                let free = model.iter().filter(|(_, under)| !under.iter().any(stands));
                let free: Vec<_> = free.map(|(key, _)| key.clone()).collect();
                prop_assert_eq!(deletable(&root), free);
                prop_assert_eq!(Root::decode(&root.encode()).unwrap(), root.clone());
            }
        }
    }
}
