//! Aborted transactions of a slice, as Kafka's `.txnindex` has them: 34 bytes each.
//!
//! ```text
//! i16 version = 0 | producer id i64 | first offset i64 | last offset i64 (of the marker) | last stable offset i64
//! ```
//! A slice goes up below the last stable offset only, so that every transaction that touches it has ended and
//! its list is whole. What does not read as such a list is refused: a reader that took it for an empty one
//! would serve aborted records as committed ones.

use super::{FormatError, Put};

const ENTRY: usize = 34;

/// An aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Of the marker.
    pub last_offset: i64,
    pub last_stable_offset: i64,
}

impl Aborted {
    /// Whether records of it may lie in `from..end`.
    pub fn touches(&self, from: i64, end: i64) -> bool {
        self.last_offset >= from && self.first_offset < end
    }

    /// All entries of a list about the slice `base..end`.
    pub fn decode_all(bytes: &[u8], base: i64, end: i64) -> Result<Vec<Self>, FormatError> {
        let refuse = |reason: &str| FormatError::malformed("aborted transactions", reason);
        let (entries, rest) = bytes.as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(refuse("a piece of an entry"));
        }
        let mut all: Vec<Self> = Vec::with_capacity(entries.len());
        for entry in entries {
            let (version, fields) = entry.split_at(2);
            let number = |n: usize| {
                let field = fields.as_chunks::<8>().0.get(n).copied();
                i64::from_be_bytes(field.unwrap_or_default())
            };
            let txn = Self {
                producer_id: number(0),
                first_offset: number(1),
                last_offset: number(2),
                last_stable_offset: number(3),
            };
            let sound = version == [0, 0]
                && txn.producer_id >= 0
                && (0..txn.last_offset).contains(&txn.first_offset)
                && txn.touches(base, end)
                && all.last().is_none_or(|a| a.last_offset < txn.last_offset);
            if !sound {
                return Err(refuse("an entry that cannot be"));
            }
            all.push(txn);
        }
        Ok(all)
    }

    pub fn encode_all(all: &[Self]) -> Vec<u8> {
        let mut out = Vec::with_capacity(all.len() * ENTRY);
        for txn in all {
            out.put(&[0; 2]);
            out.put_i64(txn.producer_id);
            out.put_i64(txn.first_offset);
            out.put_i64(txn.last_offset);
            out.put_i64(txn.last_stable_offset);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txn(producer_id: i64, first_offset: i64, last_offset: i64) -> Aborted {
        Aborted {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset: last_offset + 1,
        }
    }

    #[test]
    fn a_list_comes_back_and_what_is_none_is_refused() {
        let all = [txn(7, 90, 110), txn(8, 120, 130), txn(7, 125, 300)];
        let bytes = Aborted::encode_all(&all);
        assert_eq!(Aborted::decode_all(&bytes, 100, 200).unwrap(), all);
        assert!(Aborted::decode_all(&[], 0, 1).unwrap().is_empty());
        assert!(Aborted::decode_all(&bytes[..101], 100, 200).is_err());
        assert!(Aborted::decode_all(&bytes, 111, 200).is_err(), "elsewhere");
        for bad in [txn(-1, 1, 2), txn(1, 2, 2), txn(1, -1, 2)] {
            assert!(Aborted::decode_all(&Aborted::encode_all(&[bad]), 0, 9).is_err());
        }
        let twice = Aborted::encode_all(&[all[1], all[1]]);
        assert!(Aborted::decode_all(&twice, 100, 200).is_err());
    }
}
