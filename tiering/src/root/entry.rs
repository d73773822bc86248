//! One slice in the bucket as its root knows it: an object of its own, or a part of one that several share.

use whimbrel_fleet::TopicPartition;

use crate::format::{DataName, Key, Keys, MergedName};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub base: i64,
    /// Exclusive end of what readers may see; below `object_end` after a truncation inside the object.
    pub end: i64,
    /// Exclusive end of what the object holds.
    pub object_end: i64,
    pub leader_epoch: i32,
    pub writer_epoch: u64,
    pub random: u64,
    /// Of the whole object.
    pub object_bytes: u64,
    /// Of the slice's data: all of an own object's, which comes first there.
    pub data_bytes: u64,
    pub records: u64,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// CRC64NVME of the whole object.
    pub crc64: u64,
    pub created_ms: i64,
    /// The object has a list of aborted transactions; its absence would be damage.
    pub aborted: bool,
    /// Where the slice lies in an object that it shares with others; `None` for an object of its own.
    pub merged: Option<Merged>,
}

/// A slice's place in a merged object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    pub position: u64,
    /// Of all slices of the object together.
    pub object_data_bytes: u64,
}

#[cfg(test)]
impl Entry {
    /// An object of its own with a record at each offset; tests change what they look at.
    pub(crate) fn sample(base: i64, end: i64) -> Self {
        Self {
            base,
            end,
            object_end: end,
            leader_epoch: 1,
            writer_epoch: 1,
            random: 1,
            object_bytes: 200,
            data_bytes: 100,
            records: (end - base).unsigned_abs(),
            first_timestamp_ms: 0,
            max_timestamp_ms: 0,
            crc64: 0,
            created_ms: 0,
            aborted: false,
            merged: None,
        }
    }
}

impl Entry {
    /// Of all of them. What a bucket says may be more than there can be: then it is the most that there can be.
    pub(crate) fn data_bytes_of(entries: &[Self]) -> u64 {
        let each = entries.iter().map(|e| e.data_bytes);
        each.fold(0, u64::saturating_add)
    }

    /// The key of the object that holds the slice.
    pub fn key(&self, keys: &Keys, shard: u16, at: TopicPartition) -> Key {
        match self.merged {
            Some(_) => keys.merged(&MergedName {
                shard,
                writer_epoch: self.writer_epoch,
                random: self.random,
            }),
            None => keys.data(&self.name(shard, at)),
        }
    }

    /// What no two objects have in common: writer epoch and random number.
    pub fn object(&self) -> (u64, u64) {
        (self.writer_epoch, self.random)
    }

    /// Where the slice begins in its object.
    pub fn position(&self) -> u64 {
        self.merged.map_or(0, |m| m.position)
    }

    /// Where it ends there.
    pub fn data_end(&self) -> u64 {
        self.position().saturating_add(self.data_bytes)
    }

    /// The data of the whole object.
    pub fn object_data_bytes(&self) -> u64 {
        self.merged.map_or(self.data_bytes, |m| m.object_data_bytes)
    }

    /// The merged object that it lies in: writer epoch and random number.
    pub fn shared(&self) -> Option<(u64, u64)> {
        self.merged.map(|_| self.object())
    }

    /// True when both lie in the same merged object.
    pub fn shares_object_with(&self, other: &MergedName) -> bool {
        self.shared() == Some((other.writer_epoch, other.random))
    }

    /// What the object's key is made of.
    pub fn name(&self, shard: u16, at: TopicPartition) -> DataName {
        DataName {
            shard,
            at,
            base: self.base,
            last: self.object_end.saturating_sub(1),
            leader_epoch: self.leader_epoch,
            writer_epoch: self.writer_epoch,
            random: self.random,
        }
    }

    /// True when compaction has taken records out of it: every offset of a log that was not compacted has one.
    pub fn is_sparse(&self) -> bool {
        let offsets = self.object_end.saturating_sub(self.base);
        u64::try_from(offsets).is_ok_and(|offsets| self.records < offsets)
    }

    /// Numbers that an entry can have.
    pub fn is_sound(&self) -> bool {
        self.base >= 0
            && self.base < self.end
            && self.end <= self.object_end
            && self
                .position()
                .checked_add(self.data_bytes)
                .is_some_and(|end| end <= self.object_data_bytes())
            && self.object_data_bytes() < self.object_bytes
            && self.data_bytes <= u64::from(u32::MAX)
    }
}
