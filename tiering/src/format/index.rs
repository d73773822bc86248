//! The sparse index of a slice: where batches start, and the highest timestamp up to there.
//!
//! It is built from the batches themselves while they are read for the upload, never taken from a file.

use super::{FormatError, Put};

/// Bytes between two entries. A reader scans at most so many for its offset, and a range ends at most so
/// many before the size that was asked for.
pub const INDEX_INTERVAL: u64 = 16 << 10;
const OFFSET_BYTES: usize = 8;
const TIME_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    /// Base offset of the batch at `position`, relative to the slice's.
    relative: u32,
    position: u32,
    /// Highest timestamp of all batches before the next point.
    max_timestamp_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetIndex {
    points: Vec<Point>,
}

impl OffsetIndex {
    /// Batches come in order. Slices are below 4 GiB and 2^32 offsets, which the caller has checked.
    pub fn add(&mut self, relative: u32, position: u32, max_timestamp_ms: i64) {
        match self.points.last_mut() {
            Some(last) if u64::from(position - last.position) < INDEX_INTERVAL => {
                last.max_timestamp_ms = last.max_timestamp_ms.max(max_timestamp_ms);
            }
            last => {
                let so_far = last.map_or(i64::MIN, |p| p.max_timestamp_ms);
                self.points.push(Point {
                    relative,
                    position,
                    max_timestamp_ms: max_timestamp_ms.max(so_far),
                });
            }
        }
    }

    /// A batch start at or before the batch that holds `relative`.
    pub fn at_or_before(&self, relative: u32) -> u32 {
        let n = self.points.partition_point(|p| p.relative <= relative);
        n.checked_sub(1).map_or(0, |n| self.points[n].position)
    }

    /// The last batch start in `(after, upto]`, if the index knows one.
    pub fn last_in(&self, after: u32, upto: u32) -> Option<u32> {
        let n = self.points.partition_point(|p| p.position <= upto);
        n.checked_sub(1)
            .map(|n| self.points[n].position)
            .filter(|position| *position > after)
    }

    /// The base offset, relative to the slice's, of the batch that starts at an indexed `position`.
    pub fn relative_at(&self, position: u32) -> Option<u32> {
        self.points
            .binary_search_by_key(&position, |p| p.position)
            .ok()
            .map(|n| self.points[n].relative)
    }

    /// From where to look for the first record at or after a timestamp, if one is here.
    pub fn for_timestamp(&self, timestamp_ms: i64) -> Option<u32> {
        let n = self
            .points
            .partition_point(|p| p.max_timestamp_ms < timestamp_ms);
        self.points.get(n).map(|p| p.position)
    }

    pub fn encode_offsets(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.points.len() * OFFSET_BYTES);
        for point in &self.points {
            out.put_u32(point.relative);
            out.put_u32(point.position);
        }
        out
    }

    pub fn encode_times(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.points.len() * TIME_BYTES);
        for point in &self.points {
            out.put_i64(point.max_timestamp_ms);
            out.put_u32(point.relative);
        }
        out
    }

    /// Both sections of a slice of `length` bytes.
    pub fn decode(offsets: &[u8], times: &[u8], length: u64) -> Result<Self, FormatError> {
        let refuse = |reason: &str| FormatError::malformed("index section", reason);
        let ((offsets, rest), (times, rest_2)) = (
            offsets.as_chunks::<OFFSET_BYTES>(),
            times.as_chunks::<TIME_BYTES>(),
        );
        if !rest.is_empty() || !rest_2.is_empty() || offsets.len() != times.len() {
            return Err(refuse("offset and time index do not match"));
        }
        let mut points: Vec<Point> = Vec::with_capacity(offsets.len());
        for (offset, time) in offsets.iter().zip(times) {
            let [a, b, c, d, e, f, g, h] = *offset;
            let (stamp, check) = time.split_at(8);
            let mut max = [0; 8];
            max.copy_from_slice(stamp);
            let point = Point {
                relative: u32::from_be_bytes([a, b, c, d]),
                position: u32::from_be_bytes([e, f, g, h]),
                max_timestamp_ms: i64::from_be_bytes(max),
            };
            let rises = points.last().is_none_or(|last| {
                last.relative < point.relative
                    && last.position < point.position
                    && last.max_timestamp_ms <= point.max_timestamp_ms
            });
            if !rises || check != &offset[..4] || u64::from(point.position) >= length {
                return Err(refuse("entries that do not rise or leave the slice"));
            }
            points.push(point);
        }
        Ok(Self { points })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> OffsetIndex {
        let mut index = OffsetIndex::default();
        for n in 0..100_u32 {
            index.add(n * 10, n * 4_096, i64::from(n % 7));
        }
        index
    }

    #[test]
    fn lookups_never_overshoot() {
        let index = sample();
        for relative in 0..1_000 {
            let position = index.at_or_before(relative);
            assert!(position <= relative / 10 * 4_096 && relative / 10 * 4_096 - position < 16_384);
        }
        assert_eq!(index.last_in(0, 40_000), Some(32_768));
        assert_eq!(index.last_in(32_768, 40_000), None);
        assert_eq!(index.relative_at(32_768), Some(80));
        assert_eq!(
            (index.for_timestamp(6), index.for_timestamp(7)),
            (Some(16_384), None)
        );
    }

    #[test]
    fn sections_round_trip_and_disorder_is_refused() {
        let index = sample();
        let (offsets, times) = (index.encode_offsets(), index.encode_times());
        assert_eq!(
            OffsetIndex::decode(&offsets, &times, 500_000).unwrap(),
            index
        );
        assert!(OffsetIndex::decode(&offsets, &times, 1_000).is_err());
        assert!(OffsetIndex::decode(&offsets[8..], &times, 500_000).is_err());
        let swapped: Vec<u8> = offsets
            .as_chunks::<8>()
            .0
            .iter()
            .rev()
            .flatten()
            .copied()
            .collect();
        assert!(OffsetIndex::decode(&swapped, &times, 500_000).is_err());
    }
}
