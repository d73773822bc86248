//! Walks the batch headers of a segment file: where a range of offsets lies in it and what is in it.
//!
//! Used for slices handed to the tiering daemon and for orphan tails. Only headers are read.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use whimbrel_wire::batch::{BatchHeader, HEADER_LEN};

/// As Kafka's `index.interval.bytes`.
const INDEX_INTERVAL: u64 = 4096;

/// The whole batches of a file that touch a range of offsets.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Of the first batch, in the file.
    pub position: u64,
    pub bytes: u64,
    pub records: u64,
    pub base_offset: i64,
    /// Exclusive.
    pub end_offset: i64,
    pub leader_epoch: i32,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// Kafka's `.index` entries, relative to the range: {i32 last offset of a batch, i32 its position}.
    pub offset_index: Vec<u8>,
    /// Kafka's `.timeindex` entries, relative to the range: {i64 max timestamp so far, i32 offset}.
    pub time_index: Vec<u8>,
    pub headers: Vec<BatchHeader>,
}

/// Scans the batches of `path` that hold offsets of `from..upto`. `keep_headers` for ranges that are known
/// to be small, or whose batches are asked for one by one.
pub fn scan(path: &Path, from: i64, upto: i64, keep_headers: bool) -> io::Result<Scan> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut input = BufReader::with_capacity(64 << 10, file);
    let mut scan = Scan {
        base_offset: from,
        end_offset: from,
        first_timestamp_ms: -1,
        max_timestamp_ms: -1,
        leader_epoch: -1,
        ..Scan::default()
    };
    let (mut position, mut since_entry, mut indexed_ms, mut newest) = (0_u64, 0_u64, -1_i64, 0_i32);
    while position + HEADER_LEN as u64 <= length {
        let mut head = [0; HEADER_LEN];
        input.read_exact(&mut head)?;
        let header =
            BatchHeader::parse(&head).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let size = header.size() as u64;
        if header.base_offset >= upto || position + size > length {
            break;
        }
        input.seek_relative(i64::try_from(size - HEADER_LEN as u64).unwrap_or(i64::MAX))?;
        let at = position;
        position += size;
        if header.next_offset() <= from {
            continue;
        }
        if scan.bytes == 0 {
            (scan.position, scan.base_offset) = (at, header.base_offset);
            scan.first_timestamp_ms = header.base_timestamp;
        }
        let relative = |offset: i64| i32::try_from(offset - scan.base_offset).unwrap_or(i32::MAX);
        if header.max_timestamp > scan.max_timestamp_ms {
            scan.max_timestamp_ms = header.max_timestamp;
            newest = relative(header.last_offset());
        }
        if since_entry > INDEX_INTERVAL {
            let place = i32::try_from(at - scan.position).unwrap_or(i32::MAX);
            scan.offset_index
                .extend_from_slice(&relative(header.last_offset()).to_be_bytes());
            scan.offset_index.extend_from_slice(&place.to_be_bytes());
            if scan.max_timestamp_ms > indexed_ms {
                indexed_ms = scan.max_timestamp_ms;
                scan.time_index.extend_from_slice(&indexed_ms.to_be_bytes());
                scan.time_index.extend_from_slice(&newest.to_be_bytes());
            }
            since_entry = 0;
        }
        since_entry += size;
        scan.bytes += size;
        scan.records = scan
            .records
            .saturating_add(u64::try_from(header.records_count).unwrap_or(0));
        scan.end_offset = header.next_offset();
        scan.leader_epoch = header.partition_leader_epoch;
        if keep_headers {
            scan.headers.push(header);
        }
    }
    if scan.max_timestamp_ms > indexed_ms {
        scan.time_index
            .extend_from_slice(&scan.max_timestamp_ms.to_be_bytes());
        scan.time_index.extend_from_slice(&newest.to_be_bytes());
    }
    Ok(scan)
}

#[cfg(test)]
mod tests {
    use whimbrel_wire::BatchBuilder;

    use super::*;

    fn segment(dir: &Path, batches: i64) -> std::path::PathBuf {
        let path = dir.join("s.log");
        let mut all = Vec::new();
        for n in 0..batches {
            let mut builder = BatchBuilder::new(n * 3).leader_epoch(4);
            for i in 0..3 {
                builder
                    .add(1_000 + n * 10 + i, None, Some(&[b'x'; 700]), &[])
                    .unwrap();
            }
            all.extend(builder.finish().unwrap());
        }
        std::fs::write(&path, all).unwrap();
        path
    }

    #[test]
    fn a_range_is_found_and_indexed_relative_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = segment(dir.path(), 10);
        let size = std::fs::metadata(&path).unwrap().len() / 10;
        let whole = scan(&path, 0, 30, false).unwrap();
        assert_eq!(
            (
                whole.position,
                whole.bytes,
                whole.records,
                whole.base_offset,
                whole.end_offset
            ),
            (0, 10 * size, 30, 0, 30)
        );
        assert_eq!(
            (
                whole.leader_epoch,
                whole.first_timestamp_ms,
                whole.max_timestamp_ms
            ),
            (4, 1_000, 1_092)
        );
        let part = scan(&path, 13, 20, true).unwrap();
        assert_eq!(
            (
                part.position,
                part.base_offset,
                part.end_offset,
                part.headers.len()
            ),
            (4 * size, 12, 21, 3)
        );
        assert!(!whole.offset_index.is_empty() && whole.offset_index.len().is_multiple_of(8));
        assert!(whole.time_index.ends_with(&29_i32.to_be_bytes()));
    }

    #[test]
    fn a_range_that_is_not_there_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = segment(dir.path(), 2);
        assert_eq!(scan(&path, 6, 9, false).unwrap().bytes, 0);
    }
}
