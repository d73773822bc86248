//! Kafka's `.txnindex`: the aborted transactions whose markers lie in a segment.
//!
//! ```text
//! i16 version = 0, i64 producer id, i64 first offset, i64 last offset, i64 last stable offset
//! ```
//! The file does not exist until the first abort. Entries are in the order of their markers.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use crate::fields::Fields;
use crate::types::AbortedTxn;

const ENTRY: usize = 34;
/// Two million aborts in one segment; more cannot be in 2 GiB of batches.
const MAX_BYTES: u64 = 64 << 20;

fn encode(txn: &AbortedTxn) -> [u8; ENTRY] {
    let mut out = [0; ENTRY];
    out[2..10].copy_from_slice(&txn.producer_id.to_be_bytes());
    out[10..18].copy_from_slice(&txn.first_offset.to_be_bytes());
    out[18..26].copy_from_slice(&txn.last_offset.to_be_bytes());
    out[26..34].copy_from_slice(&txn.last_stable_offset.to_be_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<AbortedTxn> {
    let mut fields = Fields(bytes);
    if fields.i16()? != 0 {
        return None;
    }
    Some(AbortedTxn {
        producer_id: fields.i64()?,
        first_offset: fields.i64()?,
        last_offset: fields.i64()?,
        last_stable_offset: fields.i64()?,
    })
}

/// All entries; a missing file has none, a broken end is left out.
pub(crate) fn read(path: &Path) -> io::Result<Vec<AbortedTxn>> {
    let length = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?.len(),
    };
    if length > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "transaction index is too long",
        ));
    }
    Ok(std::fs::read(path)?
        .chunks_exact(ENTRY)
        .map_while(decode)
        .collect())
}

pub(crate) fn append(path: &Path, txn: &AbortedTxn) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(&encode(txn))
}

/// Keeps the transactions whose markers lie below `end`.
pub(crate) fn truncate(path: &Path, end: i64) -> io::Result<()> {
    let all = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
        other => other?,
    };
    let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let kept: Vec<u8> = all
        .iter()
        .take_while(|txn| txn.last_offset < end)
        .flat_map(encode)
        .collect();
    if kept.len() as u64 == length {
        return Ok(());
    }
    if kept.is_empty() {
        return crate::replace::remove_if_there(path);
    }
    crate::replace::replace(path, &kept, crate::replace::Durability::NextSync)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_a_truncation_drops_later_markers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.txnindex");
        assert!(read(&path).unwrap().is_empty());
        let txn = |n: i64| AbortedTxn {
            producer_id: n,
            first_offset: n,
            last_offset: n + 5,
            last_stable_offset: n + 6,
        };
        for n in 0..4 {
            append(&path, &txn(n)).unwrap();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * 34);
        assert_eq!(read(&path).unwrap(), [txn(0), txn(1), txn(2), txn(3)]);
        truncate(&path, 7).unwrap();
        assert_eq!(read(&path).unwrap(), [txn(0), txn(1)]);
        truncate(&path, 0).unwrap();
        assert!(!path.exists());
    }
}
