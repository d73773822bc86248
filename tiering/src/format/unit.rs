//! What of a region's objects moves to another place as one, and the keys of what says so.

use uuid::Uuid;

use super::{Key, Keys};

/// A part of a bucket that is in one place or in another, and never in two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// A shard's root, kept roots, parts and objects.
    Shard(u16),
    /// What describes the fleet.
    Meta,
    /// What nobody owns and names are enough for: orphan tails and the quarantine's entries.
    Loose,
    /// The marker, the probe's objects, and what tells of moves: each place has its own.
    Place,
}

impl Keys {
    pub fn unit_of(&self, key: &str) -> Unit {
        let Some(rest) = key.strip_prefix(self.base()) else {
            return Unit::Place;
        };
        let mut segments = rest.split('/');
        let shard = |text: Option<&str>| {
            let number = text.and_then(|text| text.parse().ok());
            number.map_or(Unit::Place, Unit::Shard)
        };
        match segments.next() {
            Some("root" | "root-kept" | "root-part" | "quarantine-root") => shard(segments.next()),
            Some("data") => shard(segments.nth(1)),
            Some("meta") => Unit::Meta,
            Some("orphans" | "quarantine") => Unit::Loose,
            _ => Unit::Place,
        }
    }

    /// What is replaced by compare-and-swap for a unit, and what its tombstone takes the place of.
    pub fn head_of(&self, unit: Unit) -> Option<Key> {
        match unit {
            Unit::Shard(shard) => Some(self.root(shard)),
            Unit::Meta => Some(self.meta_head()),
            Unit::Loose | Unit::Place => None,
        }
    }

    /// Where to everything here is to move.
    pub fn move_order(&self) -> Key {
        self.key(format_args!("move/order.json"))
    }

    /// Whether a move that was ordered here goes on: the first to write it decides.
    pub fn move_decision(&self, id: Uuid) -> Key {
        self.key(format_args!("move/decision-{id}.json"))
    }

    /// Where from everything here comes.
    pub fn move_arrival(&self) -> Key {
        self.key(format_args!("move/arrival.json"))
    }

    /// That all of it is here.
    pub fn move_done(&self) -> Key {
        self.key(format_args!("move/done.json"))
    }
}

#[cfg(test)]
mod tests {
    use whimbrel_fleet::TopicPartition;

    use super::*;
    use crate::format::{DataName, MergedName, MetaName, PartName};

    #[test]
    fn every_key_is_of_one_unit() {
        let keys = Keys::new("east");
        let at = TopicPartition::new(Uuid::from_u128(7), 3);
        let data = DataName {
            shard: 9,
            at,
            base: 0,
            last: 1,
            leader_epoch: 1,
            writer_epoch: 1,
            random: 1,
        };
        let merged = MergedName {
            shard: 9,
            writer_epoch: 1,
            random: 1,
        };
        let part = PartName {
            shard: 9,
            writer_epoch: 1,
            sequence: 1,
            random: 1,
        };
        let of_shard = [
            keys.root(9),
            keys.kept_root(9, 1, 1),
            keys.root_part(&part),
            keys.data(&data),
            keys.merged(&merged),
            keys.aside(9, Uuid::nil()),
        ];
        for key in of_shard {
            assert_eq!(keys.unit_of(key.as_str()), Unit::Shard(9), "{key}");
        }
        let document = keys.meta(&MetaName {
            writer_epoch: 1,
            sequence: 1,
            random: 1,
        });
        for key in [keys.meta_head(), document] {
            assert_eq!(keys.unit_of(key.as_str()), Unit::Meta, "{key}");
        }
        assert_eq!(
            keys.unit_of(keys.quarantined(&keys.root(1)).as_str()),
            Unit::Loose
        );
        for key in [
            keys.marker(),
            keys.probe("a"),
            keys.move_order(),
            Keys::new("west").root(1),
        ] {
            assert_eq!(keys.unit_of(key.as_str()), Unit::Place, "{key}");
        }
    }
}
