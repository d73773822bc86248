//! Pins: hard links to a segment's files, which outlive truncation, retention and deletion.

use std::io;
use std::path::{Path, PathBuf};

use crate::calls;
use crate::error::LogError;
use crate::log::{Log, describe};
use crate::naming::{
    APPEND_TIME, INDEX, LOG, SNAPSHOT, TIME_INDEX, TXN_INDEX, file_name, file_path,
};
use crate::types::Pinned;

impl Log {
    /// Links the files of the segment that begins at `base_offset` into `dest_dir`, which is on the same
    /// filesystem and holds no files of that name. The active segment's link goes on growing: use
    /// `pinned.segment` for its bounds. Unpin by removing the links.
    pub fn pin(&self, base_offset: i64, dest_dir: &Path) -> Result<Pinned, LogError> {
        // Nothing is freed or cut between finding the segment and linking it.
        let _writer = self.writer.lock();
        self.check_changeable()?;
        let segments = self.state.read().segments.clone();
        let Some(at) = segments.iter().position(|s| s.base == base_offset) else {
            return Err(LogError::NoSegment {
                log: self.name(),
                base_offset,
            });
        };
        let segment = &segments[at];
        segment
            .flush_indexes(&self.shared.descriptors)
            .map_err(|source| LogError::io(segment.path(), source))?;
        let link = |suffix| self.link(base_offset, suffix, dest_dir);
        let path = |base| dest_dir.join(file_name(base, LOG));
        if link(LOG)?.is_none() {
            return Err(LogError::NoSegment {
                log: self.name(),
                base_offset,
            });
        }
        Ok(Pinned {
            segment: describe(segment, at + 1 < segments.len()),
            log: path(base_offset),
            index: link(INDEX)?,
            timeindex: link(TIME_INDEX)?,
            txnindex: link(TXN_INDEX)?,
            snapshot: link(SNAPSHOT)?,
            appendtime: link(APPEND_TIME)?,
        })
    }

    fn link(&self, base: i64, suffix: &str, dest_dir: &Path) -> Result<Option<PathBuf>, LogError> {
        let dest = dest_dir.join(file_name(base, suffix));
        match calls::hard_link(&file_path(self.dir(), base, suffix), &dest) {
            Ok(()) => Ok(Some(dest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LogError::io(&dest, source)),
        }
    }
}
