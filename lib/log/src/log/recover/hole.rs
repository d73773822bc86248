//! A hole that a power cut left above what was promised, in a log that acknowledges before the sync
//! ([`crate::early_acks`]): what is behind it is kept aside, and the log ends before it.

use std::io;
use std::path::Path;

use crate::calls;
use crate::disk::shared::Shared;
use crate::log::recover::{Found, Stored};
use crate::naming::{LOG, QUARANTINE, TAIL, file_name, file_path};
use crate::replace::{remove_if_there, sync_dir};

impl Stored {
    /// A power cut may have left a hole with more behind it.
    pub(super) fn may_have_a_hole(&self) -> bool {
        self.early.bound > 1 && self.power_cut && !self.clean
    }

    /// Below the answer acknowledged records may be missing in a log that ends at `log_end`. A crash of any kind
    /// counts: whether a disk has lost something without the kernel's end is not known here.
    pub(super) fn hole(&self, log_end: i64) -> Option<i64> {
        if self.early.bound > 1 && !self.clean {
            return Some(log_end);
        }
        self.early.hole.map(|hole| hole.min(log_end))
    }
}

/// Keeps what is about to be cut off and may hold records: the rest of the newest segment found, from `position` on,
/// and the later ones.
pub(super) fn set_aside(
    dir: &Path,
    position: u64,
    later: &[i64],
    shared: &Shared,
    found: &Found,
) -> io::Result<()> {
    let name = dir.file_name().unwrap_or_default();
    let aside = shared.root.join(QUARANTINE).join(name);
    let aside = aside.join(format!("behind-{:020}", found.log_end));
    calls::create_dir_all(&aside)?;
    if let Some(segment) = found.segments.last() {
        let tail = aside.join(file_name(found.log_end, TAIL));
        calls::copy_rest(segment.path(), &tail, position)?;
    }
    for base in later {
        let link = aside.join(file_name(*base, LOG));
        // Of an earlier start that did not get to its end.
        remove_if_there(&link)?;
        calls::hard_link(&file_path(dir, *base, LOG), &link)?;
    }
    sync_dir(&aside)
}
