//! How a map is stored: as records of a compacted topic, one per chunk.
//!
//! ```text
//! key    u8 version 1, u16 length, topic, i32 partition, u32 chunk          (big-endian)
//! value  u8 version 1, 16 bytes source topic id, varint runs,
//!        { varlong source gap, varlong target gap, varlong length } each    (unsigned LEB128)
//! ```
//!
//! Gaps count from the end of the run before; the first run of a chunk counts from 0. Chunk `n` holds the
//! runs `n * CHUNK_RUNS ..`; only the last one changes, so a transaction writes few and small records.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;
use whimbrel_wire::varint;

use super::map::Run;

const VERSION: u8 = 1;
/// Small enough to be written again with every transaction (about 4 KiB on a log full of gaps), large
/// enough that a map of millions of runs is thousands of records.
pub const CHUNK_RUNS: usize = 512;
/// Kafka's limit on topic names.
const MAX_TOPIC_LEN: usize = 249;

/// Which chunk of which partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub topic: String,
    pub partition: i32,
    pub chunk: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of the source; nil where its broker is too old to know.
    pub topic_id: Uuid,
    pub runs: Vec<Run>,
}

/// Bytes that are no key or chunk of a map.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("version {0}, only {VERSION} is known")]
    Version(u8),
    #[error("ends within {0}")]
    Short(&'static str),
    #[error("bad {0}")]
    Bad(&'static str),
}

fn version(input: &mut &[u8]) -> Result<(), ChunkError> {
    match input.try_get_u8() {
        Ok(VERSION) => Ok(()),
        Ok(other) => Err(ChunkError::Version(other)),
        Err(_) => Err(ChunkError::Short("version")),
    }
}

impl Key {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(11 + self.topic.len());
        out.put_u8(VERSION);
        out.put_u16(u16::try_from(self.topic.len()).unwrap_or(u16::MAX));
        out.put_slice(self.topic.as_bytes());
        out.put_i32(self.partition);
        out.put_u32(self.chunk);
        out.freeze()
    }

    pub fn decode(mut input: &[u8]) -> Result<Self, ChunkError> {
        version(&mut input)?;
        let length = usize::from(
            input
                .try_get_u16()
                .map_err(|_| ChunkError::Short("topic length"))?,
        );
        let topic = input
            .split_off(..length)
            .ok_or(ChunkError::Short("topic"))?;
        let topic = std::str::from_utf8(topic).map_err(|_| ChunkError::Bad("topic"))?;
        if topic.is_empty() || length > MAX_TOPIC_LEN {
            return Err(ChunkError::Bad("topic"));
        }
        let partition = input
            .try_get_i32()
            .map_err(|_| ChunkError::Short("partition"))?;
        let chunk = input
            .try_get_u32()
            .map_err(|_| ChunkError::Short("chunk"))?;
        if partition < 0 || !input.is_empty() {
            return Err(ChunkError::Bad("end"));
        }
        Ok(Self {
            topic: topic.to_owned(),
            partition,
            chunk,
        })
    }
}

impl Chunk {
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32 + self.runs.len() * 8);
        out.put_u8(VERSION);
        out.put_slice(self.topic_id.as_bytes());
        varint::put_unsigned(&mut out, u32::try_from(self.runs.len()).unwrap_or(u32::MAX));
        let (mut source_end, mut target_end) = (0, 0);
        for run in &self.runs {
            for value in [run.source - source_end, run.target - target_end, run.length] {
                varint::put_unsigned_long(&mut out, value.cast_unsigned());
            }
            (source_end, target_end) = (run.source_end(), run.target_end());
        }
        out.freeze()
    }

    pub fn decode(mut input: &[u8]) -> Result<Self, ChunkError> {
        version(&mut input)?;
        let topic_id = input.split_off(..16).ok_or(ChunkError::Short("topic id"))?;
        let topic_id = Uuid::from_slice(topic_id).map_err(|_| ChunkError::Bad("topic id"))?;
        let count = varint::read_unsigned(&mut input).ok_or(ChunkError::Short("count"))?;
        let count = usize::try_from(count).map_err(|_| ChunkError::Bad("count"))?;
        if count > CHUNK_RUNS {
            return Err(ChunkError::Bad("count"));
        }
        let mut runs = Vec::with_capacity(count);
        let (mut source_end, mut target_end) = (0_i64, 0_i64);
        for _ in 0..count {
            let source = source_end
                .checked_add(number(&mut input)?)
                .ok_or(ChunkError::Bad("source"))?;
            let target = target_end
                .checked_add(number(&mut input)?)
                .ok_or(ChunkError::Bad("target"))?;
            let length = number(&mut input)?;
            let ends = source.checked_add(length).zip(target.checked_add(length));
            let ends = ends
                .filter(|_| length > 0)
                .ok_or(ChunkError::Bad("length"))?;
            (source_end, target_end) = ends;
            runs.push(Run {
                source,
                target,
                length,
            });
        }
        if !input.is_empty() {
            return Err(ChunkError::Bad("end"));
        }
        Ok(Self { topic_id, runs })
    }
}

fn number(input: &mut &[u8]) -> Result<i64, ChunkError> {
    let value = varint::read_unsigned_long(input).ok_or(ChunkError::Short("runs"))?;
    i64::try_from(value).map_err(|_| ChunkError::Bad("runs"))
}
