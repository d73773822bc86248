//! A cut as a record of `__whimbrel_cuts`: the key is the failover group's name, the value is drawn in `docs/formats.md`.
//!
//! What is read may come from a bucket and counts as hostile: nothing is allocated by a count that the bytes do not
//! bear out.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{Cut, End};
use crate::{GroupName, RegionEpoch, TopicPartition};

/// Raised when older readers must not read it; fields that they may pass over are added at the end.
pub const VERSION: u16 = 1;

/// Why a record is no cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("format {0}, newer than {VERSION}")]
    Version(u16),
    #[error("cut off")]
    Short,
    #[error("a number out of range")]
    Range,
    #[error("topics out of order")]
    Order,
    #[error("the key is no name")]
    Key,
}

/// Key and value.
///
/// # Errors
/// [`FormatError::Range`] for a partition or an offset below zero.
pub fn encode(cut: &Cut) -> Result<(Vec<u8>, Vec<u8>), FormatError> {
    let mut topics: BTreeMap<Uuid, Vec<(i32, End)>> = BTreeMap::new();
    for (at, end) in &cut.ends {
        topics
            .entry(at.topic_id)
            .or_default()
            .push((at.partition, *end));
    }
    let mut out = Vec::with_capacity(32 + topics.len() * 24 + cut.ends.len() * 8);
    out.extend(VERSION.to_be_bytes());
    out.extend(cut.region_epoch.0.to_be_bytes());
    out.extend(cut.view_version.to_be_bytes());
    out.extend(cut.taken_ms.to_be_bytes());
    put(&mut out, topics.len() as u64);
    for (id, partitions) in topics {
        out.extend(id.as_bytes());
        put(&mut out, partitions.len() as u64);
        let mut next = 0_i64;
        for (partition, end) in partitions {
            put(&mut out, unsigned(i64::from(partition) - next)?);
            next = i64::from(partition) + 1;
            put(&mut out, unsigned(i64::from(end.epoch) + 1)?);
            put(&mut out, unsigned(end.offset)?);
        }
    }
    Ok((cut.group.as_str().as_bytes().to_vec(), out))
}

/// The cut of a record.
///
/// # Errors
/// [`FormatError`].
pub fn decode(key: &[u8], value: &[u8]) -> Result<Cut, FormatError> {
    let name = std::str::from_utf8(key).map_err(|_| FormatError::Key)?;
    if !crate::naming::is_valid_label(name) {
        return Err(FormatError::Key);
    }
    let mut input = Input(value);
    let version = u16::from_be_bytes(input.bytes()?);
    if version != VERSION {
        return Err(FormatError::Version(version));
    }
    let region_epoch = RegionEpoch(u32::from_be_bytes(input.bytes()?));
    let view_version = u64::from_be_bytes(input.bytes()?);
    let taken_ms = i64::from_be_bytes(input.bytes()?);
    let mut ends = BTreeMap::new();
    let mut before = None;
    for _ in 0..input.number()? {
        let id = Uuid::from_bytes(input.bytes()?);
        if before.is_some_and(|before| before >= id) {
            return Err(FormatError::Order);
        }
        before = Some(id);
        let mut next = 0_u64;
        for _ in 0..input.number()? {
            let partition = next
                .checked_add(input.number()?)
                .ok_or(FormatError::Range)?;
            next = partition.checked_add(1).ok_or(FormatError::Range)?;
            let partition = i32::try_from(partition).map_err(|_| FormatError::Range)?;
            let epoch = i64::try_from(input.number()?).map_err(|_| FormatError::Range)?;
            let epoch = i32::try_from(epoch - 1).map_err(|_| FormatError::Range)?;
            let offset = i64::try_from(input.number()?).map_err(|_| FormatError::Range)?;
            ends.insert(TopicPartition::new(id, partition), End { epoch, offset });
        }
    }
    Ok(Cut {
        group: GroupName::new(name),
        region_epoch,
        view_version,
        taken_ms,
        ends,
    })
}

fn unsigned(number: i64) -> Result<u64, FormatError> {
    u64::try_from(number).map_err(|_| FormatError::Range)
}

/// Seven bits a byte, the lowest first, the high bit set on all but the last.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(FormatError::Short)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn number(&mut self) -> Result<u64, FormatError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return Err(FormatError::Range);
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(FormatError::Range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(ends: impl IntoIterator<Item = (u128, i32, i32, i64)>) -> Cut {
        Cut {
            group: GroupName::default_group(),
            region_epoch: RegionEpoch(2),
            view_version: 300,
            taken_ms: 1_767_225_600_000,
            ends: ends
                .into_iter()
                .map(|(id, partition, epoch, offset)| {
                    let at = TopicPartition::new(Uuid::from_u128(id), partition);
                    (at, End { epoch, offset })
                })
                .collect(),
        }
    }

    /// Format 1, byte for byte: every later version must read it.
    #[test]
    fn the_golden_record_is_read_and_written() {
        let golden = cut([(1, 0, 5, 1), (1, 3, 0, 300), (0xff << 120, 49, -1, 0)]);
        let mut bytes = vec![0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 44];
        bytes.extend([0, 0, 1, 0x9b, 0x76, 0xda, 0xa8, 0]);
        bytes.push(2);
        bytes.extend(1_u128.to_be_bytes());
        bytes.extend([2, 0, 6, 1, 2, 1, 0xac, 2]);
        bytes.extend((0xff_u128 << 120).to_be_bytes());
        bytes.extend([1, 49, 0, 0]);
        assert_eq!(encode(&golden), Ok((b"default".to_vec(), bytes.clone())));
        assert_eq!(decode(b"default", &bytes), Ok(golden.clone()));
        // What a later version adds behind is passed over; another version is not guessed at.
        bytes.extend([9, 9]);
        assert_eq!(decode(b"default", &bytes), Ok(golden));
        bytes[1] = 2;
        assert_eq!(decode(b"default", &bytes), Err(FormatError::Version(2)));
        assert_eq!(decode(b"No Group", &[]), Err(FormatError::Key));
    }

    #[test]
    fn what_is_out_of_order_or_out_of_range_is_refused() {
        let (key, whole) = encode(&cut([(1, 0, 5, 1), (2, 0, 0, 3)])).unwrap();
        let mut swapped = whole.clone();
        swapped[38] = 3;
        assert_eq!(decode(&key, &swapped), Err(FormatError::Order));
        let mut endless = whole[..22].to_vec();
        endless.extend([0xff; 11]);
        assert_eq!(decode(&key, &endless), Err(FormatError::Range));
        let negative = cut([(1, -1, 0, 0)]);
        assert_eq!(encode(&negative), Err(FormatError::Range));
    }

    proptest! {
        #[test]
        fn a_cut_comes_back(
            ends in proptest::collection::btree_map(
                (any::<u128>(), 0..=i32::MAX),
                (-1..=i32::MAX - 1, 0..=i64::MAX),
                0..12,
            ),
        ) {
            let cut = cut(ends.into_iter().map(|((id, p), (epoch, offset))| (id, p, epoch, offset)));
            let (key, value) = encode(&cut).unwrap();
            prop_assert_eq!(decode(&key, &value), Ok(cut));
            for len in 0..value.len() {
                prop_assert!(decode(&key, &value[..len]).is_err());
            }
        }

        #[test]
        fn noise_is_refused_or_read(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(b"default", &value);
        }
    }
}
