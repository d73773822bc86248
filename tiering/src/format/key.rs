//! Keys. A key that is used was built here from numbers; one that is read from a listing or a root is
//! taken apart and refused unless it is in the form that this file writes.

use std::fmt;

use uuid::Uuid;
use whimbrel_fleet::{TopicPartition, naming};

/// A key below the bucket's prefix: segments of `[A-Za-z0-9._=-]`, none of them `.` or `..` or hidden.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

/// S3 allows 1,024 bytes; the prefix needs some.
const MAX_KEY: usize = 700;

impl Key {
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'=');
        let segment = |s: &str| !s.is_empty() && !s.starts_with('.') && s.bytes().all(legal);
        (text.len() <= MAX_KEY && text.split('/').all(segment)).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after the last slash.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, name)| name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn fnv(parts: &[&[u8]]) -> u64 {
    parts
        .iter()
        .flat_map(|p| p.iter())
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, b| {
            (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// The manifest shard that a partition belongs to, for the bucket's life.
pub fn shard_of(at: TopicPartition, shards: u16) -> u16 {
    let hash = fnv(&[at.topic_id.as_bytes(), &at.partition.to_be_bytes()]);
    u16::try_from(hash % u64::from(shards.max(1))).unwrap_or(0)
}

/// All keys of one region: `v1/<region>/...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    base: String,
}

impl Keys {
    /// `region` must be a legal label (checked with the options).
    pub fn new(region: &str) -> Self {
        Self {
            base: format!("v1/{region}/"),
        }
    }

    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn key(&self, rest: fmt::Arguments<'_>) -> Key {
        Key(format!("{}{rest}", self.base))
    }

    pub fn marker(&self) -> Key {
        self.key(format_args!("whimbrel.json"))
    }

    pub fn probe(&self, name: &str) -> Key {
        self.key(format_args!("probe/{name}"))
    }

    pub fn root(&self, shard: u16) -> Key {
        self.key(format_args!("root/{shard}"))
    }

    /// Where every 64th root is kept.
    pub fn kept_root(&self, shard: u16, epoch: u64, sequence: u64) -> Key {
        self.key(format_args!("root-kept/{shard}/{epoch:020}-{sequence:020}"))
    }

    pub fn kept_prefix(&self, shard: u16) -> String {
        format!("{}root-kept/{shard}/", self.base)
    }

    /// The epoch and the sequence of the root that was kept as `key`.
    pub fn parse_kept(&self, shard: u16, key: &Key) -> Option<(u64, u64)> {
        let rest = key.as_str().strip_prefix(&self.kept_prefix(shard))?;
        let (epoch, sequence) = rest.split_once('-')?;
        let (epoch, sequence) = (epoch.parse().ok()?, sequence.parse().ok()?);
        (self.kept_root(shard, epoch, sequence) == *key).then_some((epoch, sequence))
    }

    pub fn part_prefix(&self) -> String {
        format!("{}root-part/", self.base)
    }

    /// A part of older entries, written for the root with this sequence number or a later one.
    pub fn root_part(&self, name: &PartName) -> Key {
        let PartName {
            shard,
            writer_epoch,
            sequence,
            random,
        } = name;
        self.key(format_args!(
            "root-part/{shard}/{writer_epoch:020}-{sequence:020}-{random:016x}"
        ))
    }

    pub fn parse_part(&self, key: &Key) -> Option<PartName> {
        let rest = key.as_str().strip_prefix(&self.part_prefix())?;
        let (shard, rest) = rest.split_once('/')?;
        let (epoch, rest) = rest.split_once('-')?;
        let (sequence, random) = rest.split_once('-')?;
        let name = PartName {
            shard: shard.parse().ok()?,
            writer_epoch: epoch.parse().ok()?,
            sequence: sequence.parse().ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        };
        (self.root_part(&name) == *key).then_some(name)
    }

    /// Names the documents that describe the fleet.
    pub fn meta_head(&self) -> Key {
        self.key(format_args!("meta/head"))
    }

    pub fn meta_prefix(&self) -> String {
        format!("{}meta/", self.base)
    }

    pub fn meta(&self, name: &MetaName) -> Key {
        let MetaName {
            writer_epoch,
            sequence,
            random,
        } = name;
        self.key(format_args!(
            "meta/{writer_epoch:020}-{sequence:020}-{random:016x}"
        ))
    }

    pub fn parse_meta(&self, key: &Key) -> Option<MetaName> {
        let rest = key.as_str().strip_prefix(&self.meta_prefix())?;
        let (epoch, rest) = rest.split_once('-')?;
        let (sequence, random) = rest.split_once('-')?;
        let name = MetaName {
            writer_epoch: epoch.parse().ok()?,
            sequence: sequence.parse().ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        };
        (self.meta(&name) == *key).then_some(name)
    }

    pub fn data_prefix(&self) -> String {
        format!("{}data/", self.base)
    }

    pub fn orphans_prefix(&self) -> String {
        format!("{}orphans/", self.base)
    }

    pub fn quarantine_prefix(&self) -> String {
        format!("{}quarantine/", self.base)
    }

    /// Where a root that could not be believed is put aside.
    pub fn aside(&self, shard: u16, random: Uuid) -> Key {
        self.key(format_args!("quarantine-root/{shard}/{}", random.simple()))
    }

    /// Where it is written down that `object` is damaged.
    pub fn quarantined(&self, object: &Key) -> Key {
        self.key(format_args!("quarantine/{}.json", object.name()))
    }

    /// The two digits spread partitions over the store's own index.
    pub fn data(&self, name: &DataName) -> Key {
        let spread = fnv(&[
            name.at.topic_id.as_bytes(),
            &name.at.partition.to_be_bytes(),
            &name.base.to_be_bytes(),
        ]) & 0xff;
        self.key(format_args!("data/{spread:02x}/{}/{name}", name.shard))
    }

    /// The data object that `key` names, if it is one of this region.
    pub fn parse_data(&self, key: &Key) -> Option<DataName> {
        let rest = key.as_str().strip_prefix(&self.data_prefix())?;
        let (_, rest) = rest.split_once('/')?;
        let (shard, name) = rest.split_once('/')?;
        let name = DataName::parse(shard.parse().ok()?, name)?;
        (self.data(&name) == *key).then_some(name)
    }

    /// An object that slices of several partitions of one shard share.
    pub fn merged(&self, name: &MergedName) -> Key {
        let spread = name.random & 0xff;
        let MergedName {
            shard,
            writer_epoch,
            random,
        } = name;
        self.key(format_args!(
            "data/{spread:02x}/{shard}/merged-{writer_epoch}-{random:016x}"
        ))
    }

    /// The object that `key` names, merged or not, if it is one of this region.
    pub fn parse_object(&self, key: &Key) -> Option<ObjectName> {
        if let Some(name) = self.parse_data(key) {
            return Some(ObjectName::Own(name));
        }
        let rest = key.as_str().strip_prefix(&self.data_prefix())?;
        let (_, rest) = rest.split_once('/')?;
        let (shard, name) = rest.split_once('/')?;
        let (epoch, random) = name.strip_prefix("merged-")?.split_once('-')?;
        let name = MergedName {
            shard: shard.parse().ok()?,
            writer_epoch: epoch.parse().ok()?,
            random: u64::from_str_radix(random, 16).ok()?,
        };
        (self.merged(&name) == *key).then_some(ObjectName::Merged(name))
    }

    pub fn orphan(&self, name: &OrphanName) -> Key {
        self.key(format_args!("{}-{:016x}", name.stem(), name.random))
    }

    /// What all attempts at one orphan share.
    pub fn orphan_stem(&self, name: &OrphanName) -> String {
        format!("{}{}-", self.base, name.stem())
    }

    /// The listing entry beside an orphan object.
    pub fn orphan_entry(&self, name: &OrphanName) -> Key {
        self.key(format_args!("{}-{:016x}.json", name.stem(), name.random))
    }
}

/// What stands in the key of a data object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataName {
    pub shard: u16,
    pub at: TopicPartition,
    pub base: i64,
    /// Last offset, inclusive.
    pub last: i64,
    pub leader_epoch: i32,
    pub writer_epoch: u64,
    pub random: u64,
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            base,
            last,
            leader_epoch,
            writer_epoch,
            random,
            ..
        } = self;
        let topic = at.topic_id.simple();
        write!(
            f,
            "{topic}-{}-{base:020}-{last:020}-{leader_epoch}-{writer_epoch}-{random:016x}",
            at.partition
        )
    }
}

impl DataName {
    fn parse(shard: u16, name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let mut next = || parts.next();
        let topic_id = Uuid::try_parse(next()?).ok()?;
        let partition = next()?.parse().ok()?;
        let (base, last) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let (leader_epoch, writer_epoch) = (next()?.parse().ok()?, next()?.parse().ok()?);
        let random = u64::from_str_radix(next()?, 16).ok()?;
        Some(Self {
            shard,
            at: TopicPartition::new(topic_id, partition),
            base,
            last,
            leader_epoch,
            writer_epoch,
            random,
        })
    }
}

/// What stands in the key of an object that slices share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedName {
    pub shard: u16,
    pub writer_epoch: u64,
    pub random: u64,
}

/// What stands in the key of a part of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    pub shard: u16,
    pub writer_epoch: u64,
    pub sequence: u64,
    pub random: u64,
}

/// What stands in the key of a document that describes the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetaName {
    pub writer_epoch: u64,
    pub sequence: u64,
    pub random: u64,
}

/// What a data key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectName {
    Own(DataName),
    Merged(MergedName),
}

impl ObjectName {
    pub fn shard(&self) -> u16 {
        match self {
            Self::Own(name) => name.shard,
            Self::Merged(name) => name.shard,
        }
    }

    pub fn writer_epoch(&self) -> u64 {
        match self {
            Self::Own(name) => name.writer_epoch,
            Self::Merged(name) => name.writer_epoch,
        }
    }
}

/// What stands in the key of an orphan tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanName {
    /// A legal label.
    pub group: String,
    pub region_epoch: u32,
    pub at: TopicPartition,
    pub from: i64,
    /// Exclusive.
    pub end: i64,
    pub random: u64,
}

impl OrphanName {
    /// `None` when the group's name cannot stand in a key.
    pub fn checked(self) -> Option<Self> {
        (naming::is_valid_label(&self.group)
            && self.from >= 0
            && self.end >= self.from
            && self.at.partition >= 0)
            .then_some(self)
    }

    fn stem(&self) -> String {
        let Self {
            group,
            region_epoch,
            at,
            from,
            end,
            ..
        } = self;
        format!(
            "orphans/{group}/{region_epoch}/{}-{}-{from:020}-{end:020}",
            at.topic_id.simple(),
            at.partition
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> DataName {
        DataName {
            shard: 7,
            at: TopicPartition::new(Uuid::from_u128(0xabcd), 3),
            base: 1_000,
            last: 1_999,
            leader_epoch: 4,
            writer_epoch: 12,
            random: 0xfeed,
        }
    }

    #[test]
    fn a_data_key_is_as_drawn_and_round_trips() {
        let keys = Keys::new("east");
        let key = keys.data(&name());
        let expected = "/7/0000000000000000000000000000abcd-3-00000000000000001000-00000000000000001999-4-12-000000000000feed";
        assert!(
            key.as_str().starts_with("v1/east/data/") && key.as_str().ends_with(expected),
            "{key}"
        );
        assert_eq!(keys.parse_data(&key), Some(name()));
        assert_eq!(Keys::new("west").parse_data(&key), None);
    }

    #[test]
    fn a_merged_key_is_as_drawn_and_round_trips() {
        let keys = Keys::new("east");
        let name = MergedName {
            shard: 7,
            writer_epoch: 12,
            random: 0xfe_ed01,
        };
        let key = keys.merged(&name);
        assert_eq!(key.as_str(), "v1/east/data/01/7/merged-12-0000000000feed01");
        assert_eq!(keys.parse_object(&key), Some(ObjectName::Merged(name)));
        let own = keys.data(&self::name());
        assert_eq!(keys.parse_object(&own).map(|n| n.writer_epoch()), Some(12));
        let elsewhere = Key::parse("v1/east/data/02/7/merged-12-0000000000feed01").unwrap();
        assert_eq!(keys.parse_object(&elsewhere), None);
    }

    #[test]
    fn keys_that_leave_the_bucket_are_refused() {
        for bad in [
            "",
            "/",
            "a//b",
            "../x",
            "a/../b",
            ".hidden",
            "a/.tmp",
            "a b",
            "a\0",
            "ä",
            &"x".repeat(701),
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        assert!(Key::parse("v1/east/root/0").is_some());
    }

    #[test]
    fn shards_are_spread_and_stay() {
        let shard = |p| shard_of(TopicPartition::new(Uuid::from_u128(1), p), 16);
        let used: std::collections::BTreeSet<_> = (0..200).map(shard).collect();
        assert_eq!(used.len(), 16);
        assert_eq!((shard(0), shard(1)), (shard(0), shard(1)));
    }
}
