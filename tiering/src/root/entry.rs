//! One data object as its root knows it.

use whimbrel_fleet::TopicPartition;

use crate::format::DataName;

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
    /// Of its data, which comes first.
    pub data_bytes: u64,
    pub records: u64,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// CRC64NVME of the whole object.
    pub crc64: u64,
    pub created_ms: i64,
    /// The object has a list of aborted transactions; its absence would be damage.
    pub aborted: bool,
}

impl Entry {
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

    /// Numbers that an entry can have.
    pub fn is_sound(&self) -> bool {
        self.base >= 0
            && self.base < self.end
            && self.end <= self.object_end
            && self.data_bytes < self.object_bytes
            && self.data_bytes <= u64::from(u32::MAX)
    }
}
