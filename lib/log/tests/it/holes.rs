//! Power cuts on a disk that writes pages in any order: some of what was never synced is there, what stands before it
//! is not.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use whimbrel_log::{AppendContext, Health, LogConfig};
use whimbrel_wire::Batches;

use crate::support::{Crashed, Fixture, bases, batch, flip, read_all, small_segments};

const PAGE: u64 = 4096;

/// Bytes of a segment file that never reached the disk.
#[derive(Debug, Clone, Copy)]
struct Hole {
    segment: i64,
    from: u64,
    to: u64,
}

/// A batch of what was not synced.
struct Written {
    segment: i64,
    from: u64,
    to: u64,
    base: i64,
}

/// A log of some segments whose last part was not synced: its batches, and its pages.
fn unsynced(segment_bytes: u64, batches: i64) -> (Fixture, Vec<Written>, Vec<Hole>) {
    let f = Fixture::with(LogConfig {
        segment_bytes,
        ..small_segments()
    });
    for n in 0..7 {
        f.append(n, 3);
    }
    f.sync();
    f.disk.flush_durable_points().unwrap();
    let (durable, synced) = (f.log.offsets().log_end, f.log.bytes_appended());
    assert_eq!(f.log.segments().len(), 1);
    for n in 0..batches {
        f.append(n, 2);
    }
    let (mut written, mut pages) = (Vec::new(), Vec::new());
    for segment in f.log.segments() {
        let base = segment.base_offset;
        let bytes = fs::read(crate::support::file_of(&f.root, base, "log")).unwrap();
        let mut at = 0;
        for one in Batches::new(bytes.into()) {
            let one = one.unwrap();
            let from = at;
            at += one.bytes.len() as u64;
            if one.header.base_offset >= durable {
                written.push(Written {
                    segment: base,
                    from,
                    to: at,
                    base: one.header.base_offset,
                });
            }
        }
        let from = if base == 0 { synced } else { 0 };
        for page in (from / PAGE)..segment.bytes.div_ceil(PAGE) {
            pages.push(Hole {
                segment: base,
                from: from.max(page * PAGE),
                to: segment.bytes.min((page + 1) * PAGE),
            });
        }
    }
    (f, written, pages)
}

/// What the disk has when the power comes back.
fn after_a_cut(f: &Fixture, holes: &[Hole]) -> Crashed {
    let crashed = f.crash();
    for hole in holes {
        let path = crashed.file(hole.segment, "log");
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let zeros = vec![0; (hole.to - hole.from) as usize];
        file.write_all_at(&zeros, hole.from).unwrap();
    }
    crashed
}

fn cut_at_the_first_hole(f: &Fixture, written: &[Written], pages: &[Hole]) {
    assert!((4..10).contains(&pages.len()), "{pages:?}");
    let whole = read_all(&f.log, 0);
    for chosen in 0..1_u32 << pages.len() {
        let is_chosen = |at: &usize| chosen & (1 << at) != 0;
        let holes = (0..pages.len()).filter(is_chosen).map(|at| pages[at]);
        let holes: Vec<Hole> = holes.collect();
        let hit = |batch: &&Written| {
            holes.iter().any(|hole| {
                hole.segment == batch.segment && hole.from < batch.to && batch.from < hole.to
            })
        };
        let end = f.log.offsets().log_end;
        let end = written.iter().find(hit).map_or(end, |first| first.base);
        let crashed = after_a_cut(f, &holes);
        // A recovery that was cut short begins again with the same point.
        let points = fs::read(crashed.root.join("durable-points")).unwrap();
        for _ in 0..2 {
            fs::write(crashed.root.join("durable-points"), &points).unwrap();
            let (disk, log) = crashed.open();
            assert_eq!(
                (log.health(), log.offsets().log_end),
                (Health::Good, end),
                "{holes:?}"
            );
            let read = read_all(&log, 0);
            assert_eq!(read, whole[..read.len()], "{holes:?}");
            drop((disk, log));
        }
        let (_disk, log) = crashed.open();
        log.append(batch(9, 1), AppendContext::new(0, 1)).unwrap();
        assert_eq!(bases(&log, 0).last(), Some(&end), "{holes:?}");
    }
}

#[test]
fn what_stands_behind_a_page_that_was_never_written_was_promised_to_nobody() {
    let (f, written, pages) = unsynced(1 << 20, 60);
    cut_at_the_first_hole(&f, &written, &pages);
}

#[test]
fn a_segment_that_begins_behind_such_a_page_goes_too() {
    let (f, written, pages) = unsynced(10 << 10, 60);
    assert!(f.log.segments().len() > 1);
    cut_at_the_first_hole(&f, &written, &pages);
}

/// What is left of closed segments when the power comes back: `length` bytes, nothing where the file is not there.
fn shortened(f: &Fixture, segment: i64, length: Option<u64>) -> Crashed {
    let crashed = f.crash();
    let path = crashed.file(segment, "log");
    match length {
        Some(length) => OpenOptions::new()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(length)
            .unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
    crashed
}

#[test]
fn a_closed_segment_that_ends_early_above_the_durable_point_ends_the_log() {
    let (f, written, _) = unsynced(5 << 10, 90);
    let segments = f.log.segments();
    assert!(segments.len() > 3);
    let whole = read_all(&f.log, 0);
    let closed = &segments[..segments.len() - 1];
    let is_closed = |batch: &&Written| closed.iter().any(|s| s.base_offset == batch.segment);
    let mut cuts = Vec::new();
    for batch in written.iter().filter(is_closed) {
        // The length of a file is written as it was after some append, or after some page.
        cuts.push((batch.segment, Some(batch.from), batch.base));
        let page = batch.from.next_multiple_of(PAGE);
        if page < batch.to {
            cuts.push((batch.segment, Some(page), batch.base));
        }
    }
    for segment in &closed[1..] {
        cuts.push((segment.base_offset, None, segment.base_offset));
    }
    for (segment, length, end) in cuts {
        let crashed = shortened(&f, segment, length);
        let (disk, log) = crashed.open();
        let found = (log.health(), log.offsets().log_end);
        assert_eq!(found, (Health::Good, end), "{segment} {length:?}");
        let read = read_all(&log, 0);
        assert_eq!(read, whole[..read.len()], "{segment} {length:?}");
        drop((disk, log));
        let (_disk, log) = crashed.open();
        log.append(batch(9, 1), AppendContext::new(0, 1)).unwrap();
        assert_eq!(
            bases(&log, 0).last(),
            Some(&end),
            "{segment} {length:?} again"
        );
    }
}

#[test]
fn a_closed_segment_that_ends_before_the_durable_point_is_damage() {
    let (f, written, _) = unsynced(5 << 10, 90);
    let durable = written[0].base;
    let bytes = fs::read(crate::support::file_of(&f.root, 0, "log")).unwrap();
    let mut at = 0;
    for one in Batches::new(bytes.into()) {
        let one = one.unwrap();
        if one.header.base_offset >= durable {
            break;
        }
        for length in [at, at + 70] {
            let (_disk, log) = shortened(&f, 0, Some(length)).open();
            let found = (log.health(), log.offsets().log_end);
            assert!(matches!(found.0, Health::Damaged { .. }), "{length}");
            assert_eq!(found.1, one.header.base_offset, "{length}");
        }
        at += one.bytes.len() as u64;
    }
}

#[test]
fn a_last_batch_with_another_length_is_no_file_that_ends_early() {
    let (f, written, _) = unsynced(5 << 10, 90);
    let segments = f.log.segments();
    let second = segments[1].base_offset;
    let last = written.iter().rfind(|b| b.segment == second).unwrap();
    let crashed = f.crash();
    // Its length becomes larger than the file.
    flip(&crashed.file(second, "log"), last.from as usize + 9);
    let (_disk, log) = crashed.open();
    assert!(matches!(log.health(), Health::Damaged { .. }));
    assert_eq!(log.offsets().log_end, last.base);
}

#[test]
fn a_hole_below_the_durable_point_is_damage_and_so_are_other_bytes_above_it() {
    let (f, written, pages) = unsynced(1 << 20, 60);
    let below = Hole {
        segment: 0,
        from: 512,
        to: 1536,
    };
    let (_disk, log) = after_a_cut(&f, &[below]).open();
    assert!(matches!(log.health(), Health::Damaged { .. }));
    // Something changed what was written: it may have been acknowledged in the last round.
    let crashed = after_a_cut(&f, &pages[3..4]);
    flip(&crashed.file(0, "log"), (written[1].from + 80) as usize);
    let (_disk, log) = crashed.open();
    assert!(matches!(log.health(), Health::Damaged { .. }));
    assert_eq!(log.offsets().log_end, written[1].base);
}
