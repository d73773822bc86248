//! Opening a log directory: after a clean shutdown, after a crash, after Kafka.
//!
//! A crash may leave a torn tail above what was durable: it was never promised and is cut off, with all
//! that stands behind a hole of bytes that were never written ([`unwritten`]). Bytes that are wrong below the
//! durable point, or that are other than written with sound batches behind them, are damage: the log opens with what is before them, refuses to be appended to, and the files are kept for repair. Files
//! that cannot be read are neither: nothing is concluded from them ([`unread`]).
//!
//! Everything here can be killed and begun again: nothing is cut that the next start would not cut too.

mod begin;
mod bytes;
mod closed;
mod hole;
mod lineage;
mod start;
mod unread;
mod unwritten;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::calls;
use crate::config::LogConfig;
use crate::disk::shared::Shared;
use crate::durable_points::{Counted, Point, name_check};
use crate::early_acks::Early;
use crate::epochs::EpochStart;
use crate::log::replay::Recovered;
use crate::log::{Identity, Log, State, Writer, swap};
use crate::naming::{LOG, file_path};
use crate::replace::Durability;
use crate::segment::SegmentFile;
use crate::segment::behind::Behind;
use crate::segment::scan::{Scanner, Step};
use crate::types::Health;
pub(crate) use closed::Told;
pub(crate) use unread::refuse;

/// What the disk's own files say about a log.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stored {
    /// Kafka's checkpoints.
    pub(crate) recovery_point: Option<i64>,
    pub(crate) log_start: Option<i64>,
    pub(crate) high_watermark: Option<i64>,
    pub(crate) clean_end: Option<i64>,
    /// Our sidecar.
    pub(crate) point: Option<Point>,
    /// There is a sidecar for the disk at all: without one, Kafka wrote the directory.
    pub(crate) ours: bool,
    /// The disk was shut down in order.
    pub(crate) clean: bool,
    /// And by us: the sidecar is as new as the logs.
    pub(crate) clean_by_us: bool,
    /// What was acknowledged before its sync, and what became of that before.
    pub(crate) early: Early,
    /// The kernel was started since the log was used.
    pub(crate) power_cut: bool,
}

impl Stored {
    /// From here on bytes are checked against their CRCs.
    fn scan_from(&self) -> i64 {
        match (self.clean, self.point, self.recovery_point) {
            (true, _, _) => i64::MAX,
            // A truncation lowers the point, not the checkpoint.
            (_, Some(point), Some(recovery)) => point.durable_end.min(recovery),
            (_, None, Some(recovery)) if !self.ours => recovery,
            _ => 0,
        }
    }

    /// Up to here bytes were promised.
    fn promised(&self) -> i64 {
        match self.point {
            Some(point) => point.durable_end,
            None if self.ours => 0,
            None => self.recovery_point.unwrap_or(0),
        }
    }

    fn recovered(&self) -> Recovered {
        let synced_end = if self.clean {
            i64::MAX
        } else {
            self.promised()
        };
        Recovered {
            verified_from: self.scan_from(),
            synced_end,
        }
    }

    fn promised_bytes(&self) -> Counted {
        let none = Counted::ToFirstLocal(0);
        self.point.map_or(none, |point| point.bytes)
    }

    /// The point's, which has a checksum, before the checkpoint's.
    fn high_watermark(&self) -> i64 {
        let noted = self.point.and_then(|point| point.high_watermark);
        noted.or(self.high_watermark).unwrap_or(0)
    }
}

/// What a look at the segments brought.
struct Found {
    segments: Vec<Arc<SegmentFile>>,
    log_end: i64,
    health: Health,
    /// Where the epoch changes in what was scanned.
    epochs: Vec<EpochStart>,
    /// Sound batches behind a hole were set aside.
    cut_at_a_hole: bool,
}

/// Opens the log; its durable end is set by the caller's sync.
pub(crate) fn recover(
    identity: Identity,
    shared: Arc<Shared>,
    config: LogConfig,
    stored: Stored,
) -> io::Result<Arc<Log>> {
    let dir = identity.dir.clone();
    let mut bases = swap::tidy(&dir)?;
    closed::drop_unbegun(&dir, &mut bases, &shared.descriptors)?;
    let known = start::known(&dir, &stored, bases.first().copied())?;
    // Below the first local segment there may be as much as there is nothing: 0 until the lineage is read.
    let log_start = known.unwrap_or(0);
    let mut found = look(&dir, &bases, &shared, &stored, config.index_interval_bytes)?;
    if found.segments.is_empty() || (found.log_end < log_start && found.health == Health::Good) {
        for segment in found.segments.drain(..).rev() {
            segment.remove()?;
        }
        found.segments.push(Arc::new(SegmentFile::create(
            &dir,
            log_start,
            &shared.descriptors,
        )?));
        found.log_end = log_start;
    }
    judge_end(&mut found, &stored);
    let epochs = lineage::read(&dir, &found, known, &stored, &shared)?;
    let log_start = known.unwrap_or_else(|| start::at_least(&epochs, &bases));
    let bytes = bytes::count(&dir, &bases, &found, &stored, &shared)?;
    let state = State {
        log_start,
        start_known: known.is_some(),
        log_end: found.log_end,
        durable_end: found.log_end,
        base_bytes: bytes.below_local,
        end_bytes: bytes.end,
        durable_bytes: bytes.end,
        high_watermark: stored
            .high_watermark()
            .clamp(log_start.min(found.log_end), found.log_end),
        epochs: epochs.epochs,
        epochs_check: epochs.check,
        clean_end: stored
            .clean_end
            .filter(|end| *end <= found.log_end)
            .unwrap_or(0),
        hole: stored.hole(found.log_end),
        cut_at_a_hole: found.cut_at_a_hole,
        emptied: false,
        generation: 0,
        cuts: 0,
        health: found.health,
        unread: None,
        promised_end: stored.promised(),
        promised_bytes: stored.promised_bytes(),
        name: name_check(&identity.topic),
        segments: found.segments,
    };
    let log = Log::new(identity, shared, config, Writer::default(), state);
    // Of a damaged log the epochs behind the damage stay, for the case that it can be read another time.
    if epochs.changed && log.health() == Health::Good {
        let epochs = log.state.read().epochs.clone();
        log.store_epochs(&epochs, Durability::NextSync)?;
    }
    let log_end = log.state.read().log_end;
    let active = log.active();
    log.close_append_gap(&active)?;
    let first_timestamp_ms = log.first_timestamp(&active)?;
    let replayed = log.replay_producers(log_end, Some(stored.recovered()))?;
    if let Some(why) = replayed.damage {
        log.state.write().health.worsen(why);
    }
    *log.writer.lock() = Writer {
        producers: replayed.producers,
        first_timestamp_ms,
        snapshot_bytes: 0,
        inner_snapshot: Some(replayed.snapshot).filter(|at| !bases.contains(at)),
    };
    Ok(log)
}

/// An end below what was promised, or above what a clean shutdown noted, is damage.
fn judge_end(found: &mut Found, stored: &Stored) {
    let (end, promised) = (found.log_end, stored.promised());
    let closed_at = stored
        .point
        .filter(|_| stored.clean_by_us)
        .map(|point| point.durable_end);
    let why = match closed_at {
        _ if found.health != Health::Good => return,
        _ if end < promised => {
            format!("the log ends at {end}, but was durable up to {promised}")
        }
        Some(closed) if end > closed => {
            format!("the log ends at {end}, but was closed at {closed}")
        }
        _ => return,
    };
    if let Some(closed) = closed_at.filter(|closed| *closed < end) {
        // The newest batch is not where it says it is; readers run into the end before it.
        found.log_end = closed;
        if let Some(last) = found.segments.last() {
            last.set_end(closed);
        }
    }
    found.health.worsen(why);
}

fn look(
    dir: &Path,
    bases: &[i64],
    shared: &Shared,
    stored: &Stored,
    interval: u64,
) -> io::Result<Found> {
    let mut found = Found {
        segments: Vec::with_capacity(bases.len()),
        log_end: 0,
        health: Health::Good,
        epochs: Vec::new(),
        cut_at_a_hole: false,
    };
    for (at, &base) in bases.iter().enumerate() {
        let next = bases.get(at + 1).copied();
        let (segment, indexed) =
            SegmentFile::load(dir, base, next.unwrap_or(base), &shared.descriptors)?;
        let promised = next.filter(|next| *next <= stored.promised());
        let short = match promised {
            Some(next) => closed::cut_short(&segment, next, &shared.descriptors)?,
            None => None,
        };
        let whole_below = next.unwrap_or(i64::MAX) <= stored.scan_from();
        if indexed && whole_below && next.is_some() && short.is_none() {
            found.log_end = segment.end();
            found.segments.push(Arc::new(segment));
            continue;
        }
        let look = Look {
            shared,
            stored,
            interval,
            segment: &segment,
            indexed,
            last: next.is_none(),
        };
        let damage = match short {
            Some(short) => Some(short),
            None => look.scan(&mut found.epochs)?,
        };
        let damage = damage.or_else(|| unwritten::gap(&segment, next, stored));
        found.log_end = segment.end();
        if next.is_some() && damage.is_none() {
            segment.finish(&shared.descriptors)?;
            found.segments.push(Arc::new(segment));
            continue;
        }
        found.segments.push(Arc::new(segment));
        let Some(bad) = damage else { break };
        let later = &bases[at + 1..];
        match bad.judge(dir, later, stored, &found)? {
            Verdict::Damage(why) => found.health = Health::Damaged { reason: why.into() },
            Verdict::Torn => bad.cut_off(dir, later, shared, &found)?,
            Verdict::Hole => {
                hole::set_aside(dir, bad.position, later, shared, &found)?;
                bad.cut_off(dir, later, shared, &found)?;
                found.cut_at_a_hole = true;
            }
        }
        break;
    }
    Ok(found)
}

/// One segment to be looked at.
struct Look<'a> {
    shared: &'a Shared,
    stored: &'a Stored,
    interval: u64,
    segment: &'a SegmentFile,
    indexed: bool,
    last: bool,
}

/// Where the sound part of a segment ends before its file does.
struct Bad {
    position: u64,
    next: Option<u64>,
    why: String,
    /// Never taken for a torn tail: a sound batch is in the wrong place, or the file is not what it was.
    sure: bool,
}

/// What is made of it.
enum Verdict {
    /// Nothing sound follows, and nothing was promised: cut off.
    Torn,
    /// As torn, but for sound batches that follow: they never were durable before those in the hole.
    Hole,
    Damage(String),
}

impl Look<'_> {
    /// Walks the segment from the last place the index is trusted for; sets its size and end.
    fn scan(&self, epochs: &mut Vec<EpochStart>) -> io::Result<Option<Bad>> {
        let descriptors = &self.shared.descriptors;
        let segment = self.segment;
        let file = segment.open(descriptors)?;
        let length = segment.size();
        let check_from = self.stored.scan_from();
        let (start, mut indexed) = self.start(&file, length)?;
        if !indexed {
            segment.truncate_indexes(segment.base, 0, descriptors)?;
        }
        let mut scanner = Scanner::new(&file, start, length, segment.base);
        segment.hide_from(segment.base, start);
        let promised = self.stored.point.map_or(0, |point| point.durable_end);
        let (mut before, mut first) = ((segment.base, start), start > 0);
        loop {
            let now = (segment.end(), scanner.position());
            let step = scanner.step(|header| header.last_offset() >= check_from);
            self.shared.note_scanned(scanner.position() - now.1);
            let bad = match step {
                // What was durable ended with a batch: one that reaches over that place stands elsewhere
                // than it says. Its offset is outside the CRC.
                Ok(Step::Batch { position, header })
                    if !std::mem::take(&mut first)
                        && now.0 < promised
                        && header.next_offset() > promised =>
                {
                    let why = format!("offsets {}.. after {}", header.base_offset, now.0);
                    Bad::sure(position, why)
                }
                Ok(Step::Batch { position, header }) => {
                    lineage::note(epochs, &header);
                    before = now;
                    if std::mem::take(&mut indexed) && start > 0 {
                        segment.resume_indexes(header.size() as u64);
                        segment.hide_from(header.next_offset(), position + header.size() as u64);
                    } else {
                        segment.note(&[(header, position)], self.interval, None, descriptors);
                    }
                    continue;
                }
                Ok(Step::End) => return Ok(None),
                Ok(Step::Bad { position, why, .. })
                    if !unwritten::lacks_its_first_bytes(&file, position, now.0)?
                        && self.overlaps(&file, position, length, now.0)? =>
                {
                    // Two sound batches with the same offsets: one of them is wrong about its own.
                    segment.truncate_indexes(before.0, before.1.max(1), descriptors)?;
                    segment.hide_from(before.0, before.1);
                    Bad::sure(position, why)
                }
                Ok(Step::Bad {
                    position,
                    why,
                    next,
                }) => Bad {
                    position,
                    next,
                    why,
                    sure: false,
                },
                Err(error) if calls::is_unreadable(&error) => return Err(error),
                Err(error) => Bad::sure(scanner.position(), error.to_string()),
            };
            return Ok(Some(bad));
        }
    }

    /// Whether the batch at `position` is whole and sound but for its offset, which lies below `end`.
    fn overlaps(&self, file: &File, position: u64, length: u64, end: i64) -> io::Result<bool> {
        let step = Scanner::new(file, position, length, 0).step(|_| true)?;
        Ok(matches!(step, Step::Batch { header, .. } if header.base_offset < end))
    }
}

impl Bad {
    fn sure(position: u64, why: String) -> Bad {
        Bad {
            position,
            next: None,
            why,
            sure: true,
        }
    }

    fn judge(
        &self,
        dir: &Path,
        later: &[i64],
        stored: &Stored,
        found: &Found,
    ) -> io::Result<Verdict> {
        let Some(segment) = found.segments.last() else {
            return Ok(Verdict::Torn);
        };
        let place = format!(
            "segment {} byte {}: {}",
            segment.base, self.position, self.why
        );
        let promised = stored.promised();
        if self.sure {
            return Ok(Verdict::Damage(place));
        }
        if found.log_end < promised {
            let why = format!("{place}; durable up to offset {promised}");
            return Ok(Verdict::Damage(why));
        }
        let file = File::open(segment.path())?;
        let length = file.metadata()?.len();
        let mut follows = None;
        for base in later {
            if std::fs::metadata(file_path(dir, *base, LOG))?.len() > 0 {
                follows = Some((length, format!("{place}; segment {base} follows")));
                break;
            }
        }
        let behind = Behind {
            position: self.position,
            next: self.next,
            end: length,
            next_offset: found.log_end,
            epoch: found.epochs.last().map_or(-1, |last| last.epoch),
        };
        if let Some(at) = behind.sound_batches(&file)? {
            let why = format!("{place}; sound batches follow at byte {at}");
            follows = Some((at, why));
        }
        let Some((sound, why)) = follows else {
            return Ok(Verdict::Torn);
        };
        if stored.may_have_a_hole() {
            return Ok(Verdict::Hole);
        }
        let torn = unwritten::is_torn(&file, self.position, found.log_end, sound)?
            || (sound == length && unwritten::ends_early(&file, self.position, length)?);
        Ok(match torn {
            true => Verdict::Torn,
            false => Verdict::Damage(why),
        })
    }

    /// Cuts the torn tail off, and the empty segments behind it.
    fn cut_off(&self, dir: &Path, later: &[i64], shared: &Shared, found: &Found) -> io::Result<()> {
        for base in later.iter().rev() {
            SegmentFile::load(dir, *base, *base, &shared.descriptors)?
                .0
                .remove()?;
        }
        match found.segments.last() {
            Some(segment) => segment.cut(found.log_end, self.position, &shared.descriptors),
            None => Ok(()),
        }
    }
}
