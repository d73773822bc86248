//! `early-acks`, our sidecar per disk: which logs may have acknowledged records that were not synced, and where a
//! crash may have cut such records off.
//!
//! Some topics ask by name for acknowledgements before the sync. What a start after a crash has to know of them is
//! durable here before the first one is given:
//!
//! - that sound batches behind a hole are what a power cut may leave of such a log (pages reach a disk in any order):
//!   recovery cuts at the hole, where it would take another log for damaged;
//! - that producers may go on at sequences above what the log has. Its end, as it was recovered, is their *hole*: who
//!   wrote nothing behind it may jump once ([`crate::producers::jump`]). Holes stay, also over further crashes;
//! - how much may be gone: fewer records of a log than its bound.
//!
//! Whether there was a power cut the kernel's boot id tells, which is another one then. What was written before a
//! `kill -9` is in the page cache, and a hole in it is damage as ever.
//!
//! ```text
//! whimbrel early acks 1
//! boot <boot id>
//! <topic id> <partition> <bound> <hole>    one line each; bound 1: nothing was acknowledged before its sync,
//!                                          hole -1: there is none
//! crc32c <8 hex digits>                    of everything above
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::calls;
use crate::checkpoint::read_text;
use crate::durable_points::Key;
use crate::naming::EARLY_ACKS;
use crate::replace::{Durability, remove_if_there, replace, sync_dir};

const FIRST_LINE: &str = "whimbrel early acks 1";
const BOOT: &str = "boot ";
const CHECK: &str = "crc32c ";
/// A new one with each start of the kernel.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is known of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Early {
    /// Fewer records than this were acknowledged and not synced, at any time.
    pub(crate) bound: u64,
    /// Below it acknowledged records may be missing.
    pub(crate) hole: Option<i64>,
}

impl Default for Early {
    fn default() -> Self {
        Early {
            bound: 1,
            hole: None,
        }
    }
}

type Logs = BTreeMap<Key, Early>;

fn encode(boot: &str, logs: &Logs) -> String {
    let mut text = format!("{FIRST_LINE}\n{BOOT}{boot}\n");
    for ((topic_id, partition), early) in logs {
        let (bound, hole) = (early.bound, early.hole.unwrap_or(-1));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{topic_id} {partition} {bound} {hole}");
    }
    let check = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "{CHECK}{check:08x}");
    text
}

fn decode(text: &str) -> Option<(String, Logs)> {
    let (body, check) = text.strip_suffix('\n')?.rsplit_once(CHECK)?;
    if format!("{:08x}", crc32c::crc32c(body.as_bytes())) != check {
        return None;
    }
    let mut lines = body.lines();
    lines.next().filter(|first| *first == FIRST_LINE)?;
    let boot = lines.next()?.strip_prefix(BOOT)?.to_owned();
    let logs = lines.map(|line| {
        let mut words = line.split(' ');
        let topic_id = Uuid::parse_str(words.next()?).ok()?;
        let partition = words.next()?.parse().ok()?;
        let bound = words.next()?.parse().ok()?;
        let hole: i64 = words.next()?.parse().ok()?;
        let hole = Some(hole).filter(|hole| *hole >= 0);
        Some(((topic_id, partition), Early { bound, hole }))
    });
    Some((boot, logs.collect::<Option<_>>()?))
}

/// What an earlier run left. A file that is damaged says nothing: then a hole is damage, which loses nothing.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    logs: Logs,
    power_cut: bool,
}

impl Noted {
    pub(crate) fn read(root: &Path) -> io::Result<Noted> {
        let text = match read_text(&root.join(EARLY_ACKS)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
            other => other?,
        };
        let Some((boot, logs)) = text.as_deref().and_then(decode) else {
            return Ok(Noted::default());
        };
        Ok(Noted {
            logs,
            power_cut: boot.is_empty() || boot != boot_id(),
        })
    }

    pub(crate) fn of(&self, key: &Key) -> Early {
        self.logs.get(key).copied().unwrap_or_default()
    }

    /// The kernel was started since, as far as is known.
    pub(crate) fn power_cut(&self) -> bool {
        self.power_cut
    }
}

/// Empty where it cannot be read, which counts as another one.
fn boot_id() -> String {
    let text = calls::read_to_string(Path::new(BOOT_ID)).unwrap_or_default();
    text.trim().to_owned()
}

/// The file, as it is kept by this run.
#[derive(Debug)]
pub(crate) struct EarlyAcks {
    path: PathBuf,
    boot: String,
    logs: Mutex<Logs>,
}

impl EarlyAcks {
    pub(crate) fn new(root: &Path) -> Self {
        EarlyAcks {
            path: root.join(EARLY_ACKS),
            boot: boot_id(),
            logs: Mutex::default(),
        }
    }

    pub(crate) fn of(&self, key: &Key) -> Early {
        self.logs.lock().get(key).copied().unwrap_or_default()
    }

    /// Everything is synced, and this is left to be known. Durable on return.
    pub(crate) fn settle(&self, left: impl Iterator<Item = (Key, Early)>) -> io::Result<()> {
        let left = left.filter(|(_, early)| *early != Early::default());
        let after: Logs = left.collect();
        let mut logs = self.logs.lock();
        self.store(&after)?;
        *logs = after;
        Ok(())
    }

    /// From when this returns so much may be acknowledged before it is synced.
    pub(crate) fn allow(&self, bounds: impl Iterator<Item = (Key, u64)>) -> io::Result<()> {
        let mut logs = self.logs.lock();
        let mut after = logs.clone();
        for (key, bound) in bounds {
            let early = after.entry(key).or_default();
            early.bound = early.bound.max(bound);
        }
        self.replace(&mut logs, after)
    }

    /// The log was cut at `to`: no producer wrote anything behind that any more.
    pub(crate) fn cut(&self, key: Key, to: i64) -> io::Result<()> {
        let mut logs = self.logs.lock();
        let Some(early) = logs.get(&key) else {
            return Ok(());
        };
        let hole = early.hole.map(|hole| hole.min(to));
        let early = Early { hole, ..*early };
        let mut after = logs.clone();
        after.insert(key, early);
        self.replace(&mut logs, after)
    }

    pub(crate) fn forget(&self, key: Key) -> io::Result<()> {
        let mut logs = self.logs.lock();
        let mut after = logs.clone();
        after.remove(&key);
        self.replace(&mut logs, after)
    }

    fn replace(&self, logs: &mut Logs, after: Logs) -> io::Result<()> {
        if *logs != after {
            self.store(&after)?;
            *logs = after;
        }
        Ok(())
    }

    fn store(&self, logs: &Logs) -> io::Result<()> {
        if !logs.is_empty() {
            let text = encode(&self.boot, logs);
            return replace(&self.path, text.as_bytes(), Durability::Now);
        }
        if !self.path.exists() {
            return Ok(());
        }
        remove_if_there(&self.path)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u128) -> Key {
        (Uuid::from_u128(n), 3)
    }

    #[test]
    fn what_is_noted_comes_back_and_a_damaged_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let kept = EarlyAcks::new(dir.path());
        let early = |bound, hole| Early { bound, hole };
        kept.settle([(key(1), early(1, Some(70)))].into_iter())
            .unwrap();
        kept.allow([(key(1), 5), (key(2), 9)].into_iter()).unwrap();
        kept.allow([(key(2), 4)].into_iter()).unwrap();
        kept.allow([(key(3), 4)].into_iter()).unwrap();
        kept.forget(key(3)).unwrap();
        let noted = Noted::read(dir.path()).unwrap();
        assert!(!noted.power_cut(), "the kernel still runs");
        assert_eq!(noted.of(&key(1)), early(5, Some(70)));
        assert_eq!(noted.of(&key(2)), early(9, None));
        assert_eq!(noted.of(&key(3)), Early::default());
        kept.cut(key(1), 60).unwrap();
        kept.cut(key(2), 60).unwrap();
        let noted = Noted::read(dir.path()).unwrap();
        assert_eq!(noted.of(&key(1)), early(5, Some(60)));
        assert_eq!(noted.of(&key(2)), early(9, None));
        let path = dir.path().join(EARLY_ACKS);
        let good = std::fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            std::fs::write(&path, bad).unwrap();
            assert_eq!(Noted::read(dir.path()).unwrap().logs, Logs::new(), "{byte}");
        }
        kept.settle(std::iter::empty()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn another_boot_id_or_none_is_a_power_cut() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::from([(key(1), Early::default())]);
        let (another, now) = (Uuid::from_u128(7).to_string(), boot_id());
        for (boot, cut) in [("", true), (another.as_str(), true), (now.as_str(), false)] {
            std::fs::write(dir.path().join(EARLY_ACKS), encode(boot, &logs)).unwrap();
            assert_eq!(Noted::read(dir.path()).unwrap().power_cut(), cut, "{boot}");
        }
    }
}
