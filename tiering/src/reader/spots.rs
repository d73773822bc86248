//! Where readers stopped, so that who reads on is known: each by its own place, for several read one partition.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
};

use whimbrel_fleet::TopicPartition;

use crate::format::Key;

/// Places remembered; the oldest goes first.
const REMEMBERED: usize = 4_096;

/// Where a read ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    pub offset: i64,
    /// The object that holds it, and the position there.
    pub object: (u64, u64),
    pub position: u64,
    /// Blocks that are worth having ahead of this consumer.
    pub ahead: u32,
    /// Up to where in the object the kernel was told.
    pub needed: u64,
    /// How much it has read in one piece.
    pub read: u64,
    /// Blocks that it has read to their end.
    pub behind: Option<(Key, Range<u32>)>,
}

type Place = (TopicPartition, i64);

#[derive(Debug, Default)]
pub(super) struct Spots {
    spots: HashMap<Place, Spot>,
    oldest: VecDeque<Place>,
}

impl Spots {
    pub fn get(&self, at: TopicPartition, offset: i64) -> Option<Spot> {
        self.spots.get(&(at, offset)).cloned()
    }

    pub fn put(&mut self, at: TopicPartition, spot: Spot) {
        let place = (at, spot.offset);
        if self.spots.insert(place, spot).is_none() {
            self.oldest.push_back(place);
        }
        if self.oldest.len() > REMEMBERED
            && let Some(oldest) = self.oldest.pop_front()
        {
            self.spots.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn readers_of_one_partition_do_not_disturb_each_other_and_the_oldest_place_goes() {
        let (at, mut spots) = (TopicPartition::new(Uuid::from_u128(1), 0), Spots::default());
        let spot = |offset: i64| Spot {
            offset,
            object: (1, 1),
            position: offset.unsigned_abs(),
            ahead: 2,
            needed: 0,
            read: 0,
            behind: None,
        };
        spots.put(at, spot(1));
        spots.put(at, spot(900_000));
        assert_eq!(spots.get(at, 1), Some(spot(1)));
        assert_eq!(spots.get(at, 2), None);
        for offset in 2..=i64::try_from(REMEMBERED).unwrap() {
            spots.put(at, spot(offset));
            spots.put(at, spot(offset));
        }
        assert_eq!((spots.get(at, 1), spots.get(at, 2)), (None, Some(spot(2))));
        assert_eq!(spots.spots.len(), REMEMBERED);
    }
}
