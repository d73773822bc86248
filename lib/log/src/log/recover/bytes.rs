//! How many bytes of batches a log has seen: what loss bounds are made of, so none is counted twice or left out.
//!
//! The stored point says how many there were up to the durable end, whichever segments are still local and whatever
//! compaction left of them. What stands above is counted anew.

use std::io;
use std::path::Path;

use crate::disk::shared::Shared;
use crate::durable_points::Counted;
use crate::log::recover::{Found, Stored};
use crate::naming::{LOG, file_path};

pub(super) struct Bytes {
    /// Of what is not local, and of what compaction took from what is.
    pub(super) below_local: u64,
    pub(super) end: u64,
}

pub(super) fn count(
    dir: &Path,
    bases: &[i64],
    found: &Found,
    stored: &Stored,
    shared: &Shared,
) -> io::Result<Bytes> {
    let local: u64 = found.segments.iter().map(|s| s.size()).sum();
    let durable_end = stored.promised();
    let end = match stored.promised_bytes() {
        Counted::ToFirstLocal(below) => below.saturating_add(local),
        Counted::ToDurableEnd(bytes) if durable_end <= found.log_end => {
            bytes.saturating_add(above(found, durable_end, shared)?)
        }
        // What was promised and cannot be read stands in the files still, as a rule.
        Counted::ToDurableEnd(bytes) => {
            bytes.saturating_sub(in_files(dir, bases)?.saturating_sub(local))
        }
    };
    let end = end.max(local);
    Ok(Bytes {
        below_local: end - local,
        end,
    })
}

/// Bytes of the local batches from `offset` on.
fn above(found: &Found, offset: i64, shared: &Shared) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for segment in found.segments.iter().rev() {
        if segment.end() <= offset {
            break;
        }
        let below = match segment.base < offset {
            false => 0,
            true => match segment.locate(offset, &shared.descriptors)? {
                Ok(Some(at)) if at.header.base_offset >= offset => at.position,
                Ok(Some(at)) => at.position + at.header.size() as u64,
                _ => segment.size(),
            },
        };
        bytes = bytes.saturating_add(segment.size().saturating_sub(below));
    }
    Ok(bytes)
}

fn in_files(dir: &Path, bases: &[i64]) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    for base in bases {
        match std::fs::metadata(file_path(dir, *base, LOG)) {
            Ok(meta) => bytes = bytes.saturating_add(meta.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
