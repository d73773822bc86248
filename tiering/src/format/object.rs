//! An object as a whole: `data | index sections | block table | footer | trailer`.
//!
//! Everything after the data is its *tail*; a root's entry says where it begins, so that one GET opens an
//! object.

use bytes::Bytes;

use super::{
    Aborted, BLOCK_BYTES, BlockCrcs, BlockTable, Footer, FormatError, OffsetIndex, Section,
    SectionKind, SliceMeta, TRAILER_BYTES, Trailer, check_crc,
};

/// What the tail of an object is made of.
#[derive(Debug)]
pub struct TailParts {
    /// CRCs of the data so far.
    pub blocks: BlockCrcs,
    pub data_bytes: u64,
    /// Those of every slice of the footer, in its order.
    pub sections: Vec<Sections>,
    pub footer: Footer,
}

/// The index sections of one slice.
pub type Sections = Vec<(SectionKind, Vec<u8>)>;

/// The bytes that follow the data.
#[derive(Debug)]
pub struct Tail {
    pub bytes: Bytes,
    pub footer: Footer,
}

impl TailParts {
    pub fn build(mut self) -> Tail {
        let mut out = Vec::new();
        for (slice, sections) in self.footer.slices.iter_mut().zip(&self.sections) {
            for (kind, bytes) in sections {
                slice.sections.push(Section {
                    kind: *kind,
                    position: self.data_bytes + out.len() as u64,
                    length: bytes.len() as u64,
                });
                out.extend_from_slice(bytes);
            }
        }
        self.blocks.update(&out);
        let table = self.blocks.finish();
        let body_length = table.covers();
        let (table, footer) = (table.encode(), self.footer.encode());
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let trailer = Trailer {
            footer_position: body_length + table.len() as u64,
            footer_length: length(&footer),
            footer_crc: crc32c::crc32c(&footer),
            body_length,
            table_position: body_length,
            table_length: length(&table),
            table_crc: crc32c::crc32c(&table),
        };
        out.extend_from_slice(&table);
        out.extend_from_slice(&footer);
        out.extend_from_slice(&trailer.encode());
        Tail {
            bytes: out.into(),
            footer: self.footer,
        }
    }
}

/// What an opened object knows of one of its slices.
#[derive(Clone, Copy, Debug)]
pub struct OpenedSlice<'a> {
    pub meta: &'a SliceMeta,
    pub index: &'a OffsetIndex,
    /// All aborted transactions that touch it.
    pub aborted: &'a [Aborted],
}

/// An object whose tail was read and believed.
#[derive(Clone, Debug)]
pub struct Opened {
    pub footer: Footer,
    pub blocks: BlockTable,
    /// Of every slice of the footer.
    indexes: Vec<OffsetIndex>,
    /// All aborted transactions that touch it, of every slice.
    aborted: Vec<Vec<Aborted>>,
    pub object_bytes: u64,
}

impl Opened {
    /// Where to read from so that every block with an index section in it is read whole, and so checked.
    pub fn tail_position(data_bytes: u64) -> u64 {
        data_bytes / BLOCK_BYTES * BLOCK_BYTES
    }

    /// Reads `tail`, the object's bytes from `tail_position` on, a block boundary.
    pub fn parse(tail: &[u8], tail_position: u64, object_bytes: u64) -> Result<Self, FormatError> {
        let refuse = |reason: &str| FormatError::malformed("object", reason);
        let Some(trailer) = tail.last_chunk::<TRAILER_BYTES>() else {
            return Err(refuse("shorter than a trailer"));
        };
        if tail_position.checked_add(tail.len() as u64) != Some(object_bytes) {
            return Err(refuse("the tail is not its end"));
        }
        let trailer = Trailer::decode(trailer, object_bytes)?;
        let part = |position: u64, length: u64| {
            let from = usize::try_from(position.checked_sub(tail_position)?).ok()?;
            tail.get(from..from.checked_add(usize::try_from(length).ok()?)?)
        };
        let table = part(trailer.table_position, trailer.table_length.into())
            .ok_or_else(|| refuse("the block table is not in the tail"))?;
        let footer = part(trailer.footer_position, trailer.footer_length.into())
            .ok_or_else(|| refuse("the footer is not in the tail"))?;
        check_crc("block table", table, trailer.table_crc)?;
        check_crc("footer", footer, trailer.footer_crc)?;
        let blocks = BlockTable::decode(table, trailer.body_length)?;
        let footer = Footer::decode(footer, trailer.body_length)?;
        if footer.slices.is_empty() {
            return Err(refuse("no slice"));
        }
        let (mut indexes, mut aborted) = (Vec::new(), Vec::new());
        for slice in &footer.slices {
            let section = |kind| match slice.section(kind) {
                Some(s) => part(s.position, s.length)
                    .ok_or_else(|| refuse("an index section is not in the tail")),
                None => Ok(&[][..]),
            };
            indexes.push(OffsetIndex::decode(
                section(SectionKind::Offsets)?,
                section(SectionKind::Times)?,
                slice.length,
            )?);
            aborted.push(Aborted::decode_all(
                section(SectionKind::Aborted)?,
                slice.base_offset,
                slice.end_offset,
            )?);
        }
        check_blocks(&blocks, tail, tail_position, trailer.body_length)?;
        Ok(Self {
            indexes,
            aborted,
            footer,
            blocks,
            object_bytes,
        })
    }

    /// The slice that begins at this position of the object.
    pub fn slice_at(&self, position: u64) -> Option<OpenedSlice<'_>> {
        let mut slices = self.footer.slices.iter();
        let n = slices.position(|slice| slice.position == position)?;
        Some(OpenedSlice {
            meta: self.footer.slices.get(n)?,
            index: self.indexes.get(n)?,
            aborted: self.aborted.get(n)?,
        })
    }

    /// Of all slices together.
    pub fn data_bytes(&self) -> u64 {
        let ends = self.footer.slices.iter();
        ends.map(|s| s.position.saturating_add(s.length))
            .max()
            .unwrap_or(0)
    }
}

/// The index sections, and what shares their first block with them.
fn check_blocks(
    blocks: &BlockTable,
    tail: &[u8],
    tail_position: u64,
    body_length: u64,
) -> Result<(), FormatError> {
    if !tail_position.is_multiple_of(BLOCK_BYTES) {
        return Err(FormatError::malformed(
            "object",
            "the tail does not begin at a block",
        ));
    }
    let length = body_length
        .checked_sub(tail_position)
        .and_then(|n| usize::try_from(n).ok());
    match length.and_then(|length| tail.get(..length)) {
        Some(bytes) => blocks.check(tail_position, bytes),
        None => Err(FormatError::malformed(
            "object",
            "the body ends outside the object",
        )),
    }
}
