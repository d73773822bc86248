//! Which offset of a source became which offset of a target: exact in both directions.
//!
//! A run says that `length` records stand one after another on both sides. Runs rise on both sides and
//! never touch (they are merged), so a gap between two runs is a gap on at least one side: compaction or
//! filtered records at the source, transaction markers or other writers' records at the target.
//!
//! A map is data alone. Where it is kept, and that an entry is committed together with the records it
//! speaks of, is the translated flow's business.

mod chunk;
mod map;

pub use chunk::{CHUNK_RUNS, Chunk, ChunkError, Key};
pub use map::{NotRising, OffsetMap, Run};

#[cfg(test)]
mod tests;
