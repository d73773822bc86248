//! Producer state from the newest usable snapshot and the batches behind it.

use std::io;
use std::sync::Arc;

use whimbrel_wire::Batch;
use whimbrel_wire::batch::BatchHeader;
use whimbrel_wire::control::parse_batch;

use crate::calls;
use crate::log::Log;
use crate::log::read::read_batch;
use crate::naming::{RECENT, SNAPSHOT, TXN_INDEX, file_path, parse_file_name};
use crate::producers::{Producers, recent, snapshot};
use crate::replace::remove_if_there;
use crate::segment::SegmentFile;
use crate::segment::scan::{Scanner, Step};

/// What a recovery knows of the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovered {
    /// What lies there or above was held against its CRC a moment ago, and is not read again.
    pub(crate) verified_from: i64,
    /// Below, all files were synced: a snapshot from above may be there without the aborts that came before it.
    pub(crate) synced_end: i64,
}

/// Whether a batch is still to be held against its CRC.
fn unverified(header: &BatchHeader, recovered: Option<Recovered>) -> bool {
    recovered.is_some_and(|recovered| header.last_offset() < recovered.verified_from)
}

/// What a replay brought.
pub(crate) struct Replayed {
    /// The snapshot it is built on.
    pub(crate) snapshot: i64,
    pub(crate) producers: Producers,
    /// Where it had to end early, and why.
    pub(crate) damage: Option<String>,
}

impl Log {
    /// State of the producers at `end`. In a recovery the `.txnindex` files of what is replayed are written
    /// anew, from batches whose CRC is right: a marker that was missed would make aborted records committed
    /// ones.
    pub(crate) fn replay_producers(
        &self,
        end: i64,
        recovered: Option<Recovered>,
    ) -> io::Result<Replayed> {
        let rebuild_aborted = recovered.is_some();
        let segments = self.state.read().segments.clone();
        let sound = match recovered {
            Some(_) => self.aborts_sound_below(&segments, end)?,
            None => end,
        };
        let upto = recovered.map_or(sound, |recovered| sound.min(recovered.synced_end));
        let (from, mut producers) = self.newest_snapshot(upto, sound)?;
        let mut damage = None;
        for segment in segments
            .iter()
            .filter(|segment| segment.end() > from && segment.base < end)
        {
            let index = file_path(self.dir(), segment.base, TXN_INDEX);
            if rebuild_aborted {
                if from <= segment.base {
                    crate::txn_index::write_all(&index, &[])?;
                } else {
                    crate::txn_index::truncate(&index, from)?;
                }
            }
            let near = segment.near(from, &self.shared.descriptors)?;
            let file = segment.open(&self.shared.descriptors)?;
            let mut scanner = Scanner::new(&file, near, segment.size(), segment.base);
            loop {
                let (position, header) =
                    match scanner.step(|header| unverified(header, recovered))? {
                        Step::Batch { position, header } => (position, header),
                        Step::End => break,
                        Step::Bad { position, why, .. } => {
                            let base = segment.base;
                            damage.get_or_insert(format!("segment {base} byte {position}: {why}"));
                            break;
                        }
                    };
                if unverified(&header, recovered) {
                    self.shared.note_scanned(header.size() as u64);
                }
                if header.base_offset < from {
                    continue;
                }
                if header.base_offset >= end {
                    break;
                }
                let marker = if header.is_control() {
                    let bytes = read_batch(&file, position, &header)?;
                    parse_batch(&Batch { header, bytes }).unwrap_or(None)
                } else {
                    None
                };
                let aborted = producers.note(&header, marker.as_ref());
                if let (true, Some(aborted)) = (rebuild_aborted, aborted) {
                    crate::txn_index::append(&index, &aborted)?;
                }
            }
        }
        if let (true, Some(last)) = (rebuild_aborted, segments.last()) {
            // An abort is noted before its marker is written: one whose marker a crash took is none.
            let index = file_path(self.dir(), last.base, TXN_INDEX);
            if last.base >= end {
                crate::txn_index::write_all(&index, &[])?;
            } else {
                crate::txn_index::truncate(&index, end)?;
            }
        }
        Ok(Replayed {
            snapshot: from,
            producers,
            damage,
        })
    }

    /// Where the first segment begins whose `.txnindex` is damaged: from there on all is built again.
    fn aborts_sound_below(&self, segments: &[Arc<SegmentFile>], end: i64) -> io::Result<i64> {
        for segment in segments {
            match crate::txn_index::read(&file_path(self.dir(), segment.base, TXN_INDEX)) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(segment.base.min(end));
                }
                other => drop(other?),
            }
        }
        Ok(end)
    }

    /// The newest snapshot at or below `upto` that is sound; those above `end` or unsound are removed, and those in
    /// between that begin no segment.
    fn newest_snapshot(&self, upto: i64, end: i64) -> io::Result<(i64, Producers)> {
        let mut offsets = Vec::new();
        for entry in calls::read_dir(self.dir())? {
            if let Some((offset, SNAPSHOT)) = entry?.file_name().to_str().and_then(parse_file_name)
            {
                offsets.push(offset);
            }
        }
        offsets.sort_unstable();
        let begins = |offset| self.state.read().segments.iter().any(|s| s.base == offset);
        while let Some(offset) = offsets.pop() {
            if upto < offset && offset <= end && begins(offset) {
                continue;
            }
            let path = file_path(self.dir(), offset, SNAPSHOT);
            let sidecar = file_path(self.dir(), offset, RECENT);
            let states = if offset > upto {
                None
            } else {
                snapshot::decode(&calls::read(&path)?)
            };
            if let Some(mut states) = states {
                match calls::read(&sidecar) {
                    Ok(bytes) => recent::restore(&mut states, &bytes),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                return Ok((offset, Producers::from_entries(states)));
            }
            remove_if_there(&path)?;
            remove_if_there(&sidecar)?;
        }
        Ok((0, Producers::default()))
    }

    /// Highest timestamp of a segment's first batch.
    pub(crate) fn first_timestamp(&self, segment: &SegmentFile) -> io::Result<Option<i64>> {
        let file = segment.open(&self.shared.descriptors)?;
        match Scanner::new(&file, 0, segment.size(), segment.base).step(|_| false)? {
            Step::Batch { header, .. } => Ok(Some(header.max_timestamp)),
            _ => Ok(None),
        }
    }
}
