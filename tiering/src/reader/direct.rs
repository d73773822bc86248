//! Objects that are local files already (a folder as bucket): read in place, never copied into the cache.
//!
//! Such a file never changes under its name and is complete as soon as it has it; it can only be unlinked,
//! long after the root let go of it. Whoever opened it before keeps it; whoever comes later finds no file,
//! and the newest root says whether that is damage or a deletion. The page cache is the only cache there is.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use bytes::{Bytes, BytesMut};
use rustix::fs::{Advice, fadvise};

use super::ReadError;
use crate::format::{Key, Opened};

/// The bytes `span` of an object, after every block that they touch was checked. Blocking.
pub(super) fn read(
    path: &Path,
    key: &Key,
    object: &Opened,
    span: &Range<u64>,
) -> Result<Bytes, ReadError> {
    let cover = object.blocks.cover(span);
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::zeroed(size(cover.end.saturating_sub(cover.start)));
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut bytes, cover.start));
    read.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => ReadError::damaged(key, "it is not in the bucket"),
        io::ErrorKind::UnexpectedEof => {
            ReadError::damaged(key, "it is shorter than its table says")
        }
        _ => ReadError::Cache(format!("{}: {e}", path.display())),
    })?;
    object
        .blocks
        .check(cover.start, &bytes)
        .map_err(|e| ReadError::format(key, &e))?;
    let from = size(span.start - cover.start);
    Ok(bytes
        .freeze()
        .slice(from..from + size(span.end - span.start)))
}

/// Tells the kernel what will be read soon. A failure costs speed and nothing else.
pub(super) fn will_need(path: &Path, span: Range<u64>) {
    if let Ok(file) = File::open(path) {
        let length = std::num::NonZeroU64::new(span.end.saturating_sub(span.start));
        let _ = fadvise(&file, span.start, length, Advice::WillNeed);
    }
}
