//! The footer: what an object holds, so that a bucket can be understood without its roots.
//!
//! ```text
//! region text | writer epoch u64 | incarnation 16 | created ms i64 | slices u32 x {
//!   topic text | topic id 16 | partition i32 | group text | region epoch u32
//!   | base offset i64 | end offset i64 (exclusive) | leader epoch i32 | position u64 | length u64
//!   | records u64 | first timestamp i64 | max timestamp i64
//!   | sections u32 x { kind u8 | position u64 | length u64 } }
//! ```
//! Texts are a u16 length and UTF-8. The trailer holds the footer's CRC.

use uuid::Uuid;
use whimbrel_fleet::TopicPartition;

use super::{FieldError, Fields, FormatError, Put};

/// What an index section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// {relative offset u32, position in the slice u32}, one per 16 KiB at batch starts.
    Offsets = 1,
    /// {max timestamp so far i64, relative offset u32}, one per entry of the offset index.
    Times = 2,
    /// Kafka's producer snapshot at the slice's end.
    Producers = 3,
    /// Aborted transactions that touch the slice, 34 bytes each as in `.txnindex`.
    Aborted = 4,
    /// {epoch i32, start offset i64}, the epochs that touch the slice.
    Lineage = 5,
}

impl SectionKind {
    fn from_id(id: u8) -> Option<Self> {
        [
            Self::Offsets,
            Self::Times,
            Self::Producers,
            Self::Aborted,
            Self::Lineage,
        ]
        .into_iter()
        .find(|k| *k as u8 == id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    pub kind: SectionKind,
    pub position: u64,
    pub length: u64,
}

/// A batch-aligned range of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceMeta {
    pub topic: String,
    pub at: TopicPartition,
    pub group: String,
    pub region_epoch: u32,
    pub base_offset: i64,
    /// Exclusive.
    pub end_offset: i64,
    /// Epoch of the slice's last batch.
    pub leader_epoch: i32,
    pub position: u64,
    pub length: u64,
    pub records: u64,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub region: String,
    pub writer_epoch: u64,
    pub incarnation: Uuid,
    pub created_ms: i64,
    pub slices: Vec<SliceMeta>,
}

const WHAT: &str = "footer";
const SLICE_MIN: usize = 2 + 16 + 4 + 2 + 4 + 8 + 8 + 4 + 8 + 8 + 8 + 8 + 8 + 4;
const SECTION_BYTES: usize = 17;

impl Footer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_text(&self.region);
        out.put_u64(self.writer_epoch);
        out.put(self.incarnation.as_bytes());
        out.put_i64(self.created_ms);
        out.put_count(self.slices.len());
        for slice in &self.slices {
            slice.encode(&mut out);
        }
        out
    }

    /// A footer of an object whose body has `body_length` bytes; all it points to lies in the body.
    pub fn decode(bytes: &[u8], body_length: u64) -> Result<Self, FormatError> {
        let mut fields = Fields::new(bytes);
        let footer = Self::read(&mut fields).map_err(|e| FormatError::malformed(WHAT, e))?;
        fields.end().map_err(|e| FormatError::malformed(WHAT, e))?;
        let footer =
            footer.ok_or_else(|| FormatError::malformed(WHAT, "a section of unknown kind"))?;
        for slice in &footer.slices {
            let ranges = slice
                .sections
                .iter()
                .map(|s| (s.position, s.length))
                .chain([(slice.position, slice.length)]);
            if ranges
                .into_iter()
                .any(|(at, len)| at.checked_add(len).is_none_or(|end| end > body_length))
            {
                return Err(FormatError::malformed(WHAT, "a range outside the body"));
            }
            if slice.base_offset < 0 || slice.end_offset <= slice.base_offset {
                return Err(FormatError::malformed(WHAT, "offsets that cannot be"));
            }
        }
        Ok(footer)
    }

    fn read(fields: &mut Fields<'_>) -> Result<Option<Self>, FieldError> {
        let (region, writer_epoch, incarnation, created_ms) =
            (fields.text()?, fields.u64()?, fields.uuid()?, fields.i64()?);
        let count = fields.count(SLICE_MIN)?;
        let mut slices = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(slice) = SliceMeta::read(fields)? else {
                return Ok(None);
            };
            slices.push(slice);
        }
        Ok(Some(Self {
            region,
            writer_epoch,
            incarnation,
            created_ms,
            slices,
        }))
    }
}

impl SliceMeta {
    pub fn section(&self, kind: SectionKind) -> Option<Section> {
        self.sections.iter().find(|s| s.kind == kind).copied()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_text(&self.topic);
        out.put(self.at.topic_id.as_bytes());
        out.put_i32(self.at.partition);
        out.put_text(&self.group);
        out.put_u32(self.region_epoch);
        out.put_i64(self.base_offset);
        out.put_i64(self.end_offset);
        out.put_i32(self.leader_epoch);
        out.put_u64(self.position);
        out.put_u64(self.length);
        out.put_u64(self.records);
        out.put_i64(self.first_timestamp_ms);
        out.put_i64(self.max_timestamp_ms);
        out.put_count(self.sections.len());
        for section in &self.sections {
            out.put_u8(section.kind as u8);
            out.put_u64(section.position);
            out.put_u64(section.length);
        }
    }

    fn read(fields: &mut Fields<'_>) -> Result<Option<Self>, FieldError> {
        let mut slice = Self {
            topic: fields.text()?,
            at: TopicPartition::new(fields.uuid()?, fields.i32()?),
            group: fields.text()?,
            region_epoch: fields.u32()?,
            base_offset: fields.i64()?,
            end_offset: fields.i64()?,
            leader_epoch: fields.i32()?,
            position: fields.u64()?,
            length: fields.u64()?,
            records: fields.u64()?,
            first_timestamp_ms: fields.i64()?,
            max_timestamp_ms: fields.i64()?,
            sections: Vec::new(),
        };
        for _ in 0..fields.count(SECTION_BYTES)? {
            let Some(kind) = SectionKind::from_id(fields.u8()?) else {
                return Ok(None);
            };
            slice.sections.push(Section {
                kind,
                position: fields.u64()?,
                length: fields.u64()?,
            });
        }
        Ok(Some(slice))
    }
}
