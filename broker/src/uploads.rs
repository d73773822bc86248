//! The broker's side of tiering: hands closed segments to the node's daemon, pinned, and hears what the
//! bucket holds. Small slices go along as bytes, large ones as links.
//!
//! At home a segment may go up once it is below the high watermark and the last stable offset. Elsewhere
//! only what the source of the current region epoch has confirmed to be in its lineage.

mod cleaned;
mod extent;
mod service;
mod slice;
mod timebox;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use whimbrel_fleet::TopicPartition;

pub use service::run;

/// Hard links that keep slices readable while they are uploaded; dropped at every start.
const PINS: &str = "pins";
/// A slice that was handed out and neither released nor reported within this time is handed out again:
/// the daemon may have started anew and forgotten it.
const FORGOTTEN_NS: u64 = 30_000_000_000;

#[derive(Debug)]
pub struct Uploads {
    dir: PathBuf,
    pinned: Mutex<Pinned>,
    ages: timebox::Ages,
}

#[derive(Debug, Default)]
struct Pinned {
    next: u64,
    slices: HashMap<u64, Handed>,
}

#[derive(Clone, Copy, Debug)]
struct Handed {
    at: TopicPartition,
    base_offset: i64,
    boot_ns: u64,
}

impl Uploads {
    pub fn new(data_dir: &Path) -> Self {
        let dir = data_dir.join(PINS);
        // Links of an earlier process: nobody knows their tokens any more.
        if let Err(error) = std::fs::remove_dir_all(&dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "old pins were not removed");
        }
        Self {
            dir,
            pinned: Mutex::default(),
            ages: timebox::Ages::default(),
        }
    }

    /// A token and a directory for a slice that is not out already.
    fn reserve(
        &self,
        at: TopicPartition,
        base_offset: i64,
        boot_ns: u64,
    ) -> Option<(u64, PathBuf)> {
        let mut pinned = self.pinned.lock();
        let same = pinned
            .slices
            .iter()
            .find(|(_, h)| h.at == at && h.base_offset == base_offset)
            .map(|(token, h)| (*token, h.boot_ns));
        if let Some((token, since_ns)) = same {
            if boot_ns.saturating_sub(since_ns) < FORGOTTEN_NS {
                return None;
            }
            pinned.slices.remove(&token);
            self.unlink(token);
        }
        pinned.next += 1;
        let token = pinned.next;
        pinned.slices.insert(
            token,
            Handed {
                at,
                base_offset,
                boot_ns,
            },
        );
        Some((token, self.dir.join(token.to_string())))
    }

    fn release(&self, tokens: &[u64]) {
        let known: Vec<_> = {
            let mut pinned = self.pinned.lock();
            tokens
                .iter()
                .filter(|token| pinned.slices.remove(token).is_some())
                .copied()
                .collect()
        };
        for token in known {
            self.unlink(token);
        }
    }

    fn unlink(&self, token: u64) {
        if let Err(error) = std::fs::remove_dir_all(self.dir.join(token.to_string()))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(token, %error, "a pin was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_out_once_until_it_is_released_or_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(dir.path());
        let at = TopicPartition::new(uuid::Uuid::nil(), 0);
        let (token, path) = uploads.reserve(at, 0, 0).unwrap();
        std::fs::create_dir_all(&path).unwrap();
        assert!(uploads.reserve(at, 0, 1).is_none());
        assert!(uploads.reserve(at, 100, 1).is_some());
        uploads.release(&[token, 99]);
        assert!(!path.exists());
        assert!(uploads.reserve(at, 0, 2).is_some());
        assert!(uploads.reserve(at, 0, 2 + FORGOTTEN_NS).is_some());
    }
}
