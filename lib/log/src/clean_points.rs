//! `clean-points`, our sidecar per disk: how far compaction has looked at each log.
//!
//! Kafka's `cleaner-offset-checkpoint` says the same by topic name and without a checksum. An end that is too
//! high there would let a tombstone go before what it deletes, and the deleted key would come back: after a
//! flipped bit, for a topic that was deleted and made again, after a truncation that the checkpoint had not
//! heard of. So an end counts only where this file says it too; one that is not known costs another cleaning.
//!
//! ```text
//! whimbrel clean points 1
//! <topic id> <partition> <offset>          one line each
//! crc32c <8 hex digits>                    of everything above
//! ```
//! The file goes before a log is cut below what it says.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::checkpoint::read_text;
use crate::durable_points::Key;
use crate::naming::CLEAN_POINTS;
use crate::replace::{Durability, remove_if_there, replace, sync_dir};

const FIRST_LINE: &str = "whimbrel clean points 1";
const CHECK: &str = "crc32c ";

fn encode(points: &[(Key, i64)]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for ((topic_id, partition), offset) in points {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{topic_id} {partition} {offset}");
    }
    let check = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "{CHECK}{check:08x}");
    text
}

fn decode(text: &str) -> Option<HashMap<Key, i64>> {
    let (body, check) = text.strip_suffix('\n')?.rsplit_once(CHECK)?;
    if format!("{:08x}", crc32c::crc32c(body.as_bytes())) != check {
        return None;
    }
    let lines = body.strip_prefix(FIRST_LINE)?.lines().skip(1);
    lines
        .map(|line| {
            let mut words = line.split(' ');
            let topic_id = Uuid::parse_str(words.next()?).ok()?;
            let partition = words.next()?.parse().ok()?;
            Some(((topic_id, partition), words.next()?.parse().ok()?))
        })
        .collect()
}

/// What is stored; nothing where the file is missing or damaged.
pub(crate) fn read(root: &Path) -> io::Result<HashMap<Key, i64>> {
    match read_text(&root.join(CLEAN_POINTS)) {
        Ok(text) => Ok(text.as_deref().and_then(decode).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(HashMap::new()),
        Err(error) => Err(error),
    }
}

/// The file, and how often it was forgotten.
#[derive(Debug)]
pub(crate) struct CleanPoints {
    root: PathBuf,
    state: Mutex<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    forgotten: u64,
    text: String,
}

impl CleanPoints {
    pub(crate) fn new(root: PathBuf) -> Self {
        CleanPoints {
            root,
            state: Mutex::default(),
        }
    }

    /// To be asked before the ends are collected that [`Self::store`] is given.
    pub(crate) fn forgotten(&self) -> u64 {
        self.state.lock().forgotten
    }

    /// Durable on return. Does nothing where an end was lowered since `forgotten` was asked.
    pub(crate) fn store(&self, forgotten: u64, points: &[(Key, i64)]) -> io::Result<()> {
        let text = encode(points);
        let mut state = self.state.lock();
        if state.forgotten != forgotten || state.text == text {
            return Ok(());
        }
        if points.is_empty() && state.text.is_empty() {
            return Ok(());
        }
        let path = self.root.join(CLEAN_POINTS);
        replace(&path, text.as_bytes(), Durability::Now)?;
        state.text = text;
        Ok(())
    }

    /// Removes the file; durable on return.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.text.clear();
        remove_if_there(&self.root.join(CLEAN_POINTS))?;
        sync_dir(&self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points() -> Vec<(Key, i64)> {
        (0..3)
            .map(|n| ((Uuid::from_u128(7), n), 10 + i64::from(n)))
            .collect()
    }

    #[test]
    fn points_come_back_and_a_damaged_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let stored = CleanPoints::new(dir.path().to_owned());
        stored.store(0, &points()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), points().into_iter().collect());
        let path = dir.path().join(CLEAN_POINTS);
        let good = std::fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(read(dir.path()).unwrap().is_empty(), "bit {bit}");
        }
        for length in 0..good.len() {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(read(dir.path()).unwrap().is_empty(), "{length} bytes");
        }
    }

    #[test]
    fn what_was_collected_before_a_cut_is_not_stored_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let stored = CleanPoints::new(dir.path().to_owned());
        let before = stored.forgotten();
        stored.store(before, &points()).unwrap();
        stored.forget().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        stored.store(before, &points()).unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        stored.store(stored.forgotten(), &points()).unwrap();
        assert_eq!(read(dir.path()).unwrap().len(), 3);
    }
}
