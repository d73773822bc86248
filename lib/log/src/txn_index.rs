//! Kafka's `.txnindex`: the aborted transactions whose markers lie in a segment.
//!
//! ```text
//! i16 version = 0, i64 producer id, i64 first offset, i64 last offset, i64 last stable offset
//! ```
//! The file does not exist until the first abort. Entries are in the order of their markers.
//!
//! The format has no checksum, and a wrong entry would hand aborted records to readers as committed ones.
//! So `.txncheck`, ours, holds a CRC-32C of each entry; entries without one, as Kafka and a crash between
//! the two writes leave them, are taken as they are.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::calls;
use crate::fields::Fields;
use crate::naming::TXN_CHECK;
use crate::replace::{Durability, remove_if_there, replace};
use crate::types::AbortedTxn;

const ENTRY: usize = 34;
const CHECK: usize = 4;
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
    let bytes = calls::read(path)?;
    let checks = read_checks(path)?;
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY);
    for (at, entry) in bytes.chunks_exact(ENTRY).enumerate() {
        let check = checks.get(at * CHECK..).and_then(<[u8]>::first_chunk);
        if check.is_some_and(|check| u32::from_be_bytes(*check) != crc32c::crc32c(entry)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("entry {at} of {} is damaged", path.display()),
            ));
        }
        match decode(entry) {
            Some(txn) => entries.push(txn),
            None => break,
        }
    }
    Ok(entries)
}

fn read_checks(path: &Path) -> io::Result<Vec<u8>> {
    match calls::read(&path.with_extension(TXN_CHECK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        other => other,
    }
}

fn check(entry: &[u8]) -> [u8; CHECK] {
    crc32c::crc32c(entry).to_be_bytes()
}

pub(crate) fn append(path: &Path, txn: &AbortedTxn) -> io::Result<()> {
    let entry = encode(txn);
    // Checks stand at their entry's place: where Kafka wrote the first entries there is none for these.
    let entries = calls::length(path)? / ENTRY as u64;
    let checks = path.with_extension(TXN_CHECK);
    let checked = calls::length(&checks)? / CHECK as u64;
    calls::append(path, &entry)?;
    if checked == entries {
        calls::append(&checks, &check(&entry))?;
    }
    Ok(())
}

/// Keeps the transactions whose markers lie below `end`.
pub(crate) fn truncate(path: &Path, end: i64) -> io::Result<()> {
    let all = read(path)?;
    let length = calls::length(path)?;
    let kept: Vec<u8> = all
        .iter()
        .take_while(|txn| txn.last_offset < end)
        .flat_map(encode)
        .collect();
    if kept.len() as u64 == length {
        return Ok(());
    }
    if std::fs::metadata(path)?.nlink() > 1 {
        return write(path, &kept);
    }
    // In place: this must work on a full disk.
    let checks = path.with_extension(TXN_CHECK);
    let checked = (kept.len() / ENTRY * CHECK) as u64;
    if calls::length(&checks)? > checked {
        calls::set_length(&calls::open(&checks)?, &checks, checked)?;
    }
    if kept.is_empty() {
        return remove_if_there(path);
    }
    calls::set_length(&calls::open(path)?, path, kept.len() as u64)
}

/// Makes the file our own if it is linked elsewhere too, so that a truncation stays here.
pub(crate) fn unshare(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.nlink() > 1 => write(path, &calls::read(path)?),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts entries in the place of those that are there.
pub(crate) fn write_all(path: &Path, entries: &[AbortedTxn]) -> io::Result<()> {
    let kept: Vec<u8> = entries.iter().flat_map(encode).collect();
    write(path, &kept)
}

fn write(path: &Path, entries: &[u8]) -> io::Result<()> {
    let checks = path.with_extension(TXN_CHECK);
    // Without checks first: between the two steps they would be about other entries.
    remove_if_there(&checks)?;
    if entries.is_empty() {
        return remove_if_there(path);
    }
    replace(path, entries, Durability::NextSync)?;
    let all: Vec<u8> = entries.chunks_exact(ENTRY).flat_map(check).collect();
    replace(&checks, &all, Durability::NextSync)
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
        let good = std::fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 4;
            std::fs::write(&path, &bad).unwrap();
            assert!(read(&path).is_err(), "byte {byte}");
        }
        std::fs::write(&path, &good).unwrap();
        truncate(&path, 7).unwrap();
        assert_eq!(read(&path).unwrap(), [txn(0), txn(1)]);
        truncate(&path, 0).unwrap();
        assert!(!path.exists());
    }
}
