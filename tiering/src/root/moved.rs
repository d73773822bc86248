//! A tombstone: what stands in the place of a root, or of the head of the fleet's documents, once what it named has
//! moved to another place. Until it is there this place is the truth; from then on the other one is.
//!
//! ```text
//! magic "WBMOVED1" | format u16 = 1 | 0 u16 | body length u32 | crc32c u32 of the body | body
//! body: incarnation 16 | epoch u64 | sequence u64 | nonce 16 | region text | unit u16 | move 16 | written ms i64 | to text
//! ```
//! The first four are the stamp of the root that was written at the other place, so that no two tombstones are equal
//! and whoever follows one knows what it has to find. The unit is the shard, or 65535 for the fleet's documents.

use uuid::Uuid;

use super::Stamp;
use crate::{
    format::{FieldError, Fields, FormatError, Put, Unit},
    meta::{disclose, enclose},
};

const MAGIC: &[u8; 8] = b"WBMOVED1";
const WHAT: &str = "tombstone";
/// There are never so many shards.
const META: u16 = u16::MAX;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Of the root at the other place that goes on from here.
    pub stamp: Stamp,
    pub region: String,
    pub unit: Unit,
    /// Which move it was.
    pub id: Uuid,
    pub written_ms: i64,
    /// The other place's URL, without secrets.
    pub to: String,
}

impl Moved {
    /// Whether these bytes say that they are one.
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.stamp.encode(&mut body);
        body.put_text(&self.region);
        body.put_u16(match self.unit {
            Unit::Shard(shard) => shard,
            _ => META,
        });
        body.put(self.id.as_bytes());
        body.put_i64(self.written_ms);
        body.put_text(&self.to);
        enclose(MAGIC, &body)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let malformed = |e: FieldError| FormatError::malformed(WHAT, e);
        let mut fields = Fields::new(disclose(WHAT, MAGIC, bytes)?);
        let moved = read(&mut fields).map_err(malformed)?;
        fields.end().map_err(malformed)?;
        Ok(moved)
    }
}

fn read(fields: &mut Fields<'_>) -> Result<Moved, FieldError> {
    Ok(Moved {
        stamp: Stamp::read(fields)?,
        region: fields.text()?,
        unit: match fields.u16()? {
            META => Unit::Meta,
            shard => Unit::Shard(shard),
        },
        id: fields.uuid()?,
        written_ms: fields.i64()?,
        to: fields.text()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tombstone_reads_as_it_was_written_and_whole_or_not_at_all(
            (epoch, sequence, unit, ms) in any::<(u64, u64, u16, i64)>(),
            to in "[a-z0-9:/?=&]{0,60}",
            cut in any::<prop::sample::Index>(),
            bit in any::<prop::sample::Index>(),
        ) {
            let moved = Moved {
                stamp: Stamp { incarnation: Uuid::from_u128(1), epoch, sequence, nonce: Uuid::from_u128(2) },
                region: "east".to_owned(),
                unit: if unit == META { Unit::Meta } else { Unit::Shard(unit) },
                id: Uuid::from_u128(3),
                written_ms: ms,
                to,
            };
            let bytes = moved.encode();
            prop_assert!(Moved::is_one(&bytes));
            prop_assert_eq!(Moved::decode(&bytes).unwrap(), moved);
            prop_assert!(Moved::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let at = bit.index(bytes.len() * 8);
            let mut bent = bytes;
            bent[at / 8] ^= 1 << (at % 8);
            prop_assert!(Moved::decode(&bent).is_err());
        }

        #[test]
        fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Moved::decode(&bytes);
        }
    }
}
