//! Everything that is written into a bucket, byte for byte: keys, objects, and the codec that roots use too.
//! Drawn in `docs/formats.md`. Sans-IO.
//!
//! What comes out of a bucket counts as hostile: every length is checked against the bytes that are there
//! before it is believed, every structure carries a CRC, and keys are derived from numbers, never read.

mod aborted;
mod blocks;
mod fields;
mod footer;
mod index;
mod key;
mod object;
mod trailer;
mod unit;

pub use aborted::Aborted;
pub use blocks::{BLOCK_BYTES, BlockCrcs, BlockTable};
pub use fields::{FieldError, Fields, Put};
pub use footer::{Footer, Section, SectionKind, SliceMeta};
pub use index::{INDEX_INTERVAL, OffsetIndex};
pub(crate) use key::fnv;
pub use key::{
    DataName, Key, Keys, MergedName, MetaName, ObjectName, OrphanName, PartName, shard_of,
};
pub use object::{Opened, OpenedSlice, Sections, Tail, TailParts};
pub use trailer::{TRAILER_BYTES, Trailer};
pub use unit::Unit;

/// Why bytes from a bucket were not believed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("{what}: magic is wrong")]
    Magic { what: &'static str },
    #[error("{what}: format {found} is not known")]
    Version { what: &'static str, found: u16 },
    #[error("{what}: CRC is {computed:08x}, {stored:08x} was stored")]
    Crc {
        what: &'static str,
        stored: u32,
        computed: u32,
    },
    #[error("{what}: {reason}")]
    Malformed { what: &'static str, reason: String },
}

impl FormatError {
    pub(crate) fn malformed(what: &'static str, reason: impl ToString) -> Self {
        Self::Malformed {
            what,
            reason: reason.to_string(),
        }
    }
}

/// Compares a stored CRC32C with that of `bytes`.
pub(crate) fn check_crc(what: &'static str, bytes: &[u8], stored: u32) -> Result<(), FormatError> {
    let computed = crc32c::crc32c(bytes);
    if computed == stored {
        Ok(())
    } else {
        Err(FormatError::Crc {
            what,
            stored,
            computed,
        })
    }
}
