//! One bit flipped in each byte of each file of a data directory: what is served is what was written, or
//! nothing is, and it is said why.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use whimbrel_log::{AbortedTxn, AppendContext, Disk, EpochStart, Health, Log};
use whimbrel_wire::control::{ControlType, Marker, MarkerBatch};
use whimbrel_wire::{BatchBuilder, Batches};

use crate::support::{Crashed, Fixture, fill, options, produced, small_segments};

/// What a whole log says.
struct Truth {
    log_start: i64,
    local_start: i64,
    batches: BTreeMap<i64, Vec<u8>>,
    end: i64,
    high_watermark: i64,
    lineage: Vec<EpochStart>,
    aborted: Vec<AbortedTxn>,
}

fn transactional(sequence: i32) -> bytes::Bytes {
    let builder = BatchBuilder::new(0).producer(9, 0, sequence);
    fill(builder.transactional(true), i64::from(sequence), 2)
}

fn abort() -> bytes::Bytes {
    let batch = MarkerBatch {
        base_offset: 0,
        leader_epoch: 0,
        timestamp_ms: 50,
        producer_id: 9,
        producer_epoch: 0,
        marker: Marker {
            control_type: ControlType::Abort,
            coordinator_epoch: 0,
        },
    };
    batch.build().unwrap()
}

/// When the batch at `offset` was appended.
fn append_ms(offset: i64) -> i64 {
    50_000 + 2_000 * offset
}

/// Two epochs, three segments, aborted transactions, idempotent producers.
fn built() -> Fixture {
    let f = Fixture::new();
    for n in 0..8_i32 {
        if n == 4 {
            f.log.begin_epoch(3).unwrap();
        }
        let others = fill(BatchBuilder::new(0), i64::from(n), 4);
        for bytes in [
            produced(4, 0, n * 3, 3),
            transactional(n * 2),
            abort(),
            others,
        ] {
            let epoch = f.log.lineage().last().unwrap().epoch;
            let context = AppendContext::new(epoch, append_ms(f.log.offsets().log_end));
            f.log.append(bytes, context).unwrap();
        }
        f.sync();
    }
    assert!(f.log.segments().len() >= 3);
    // Below the end, as with copies that are slower.
    f.log.set_high_watermark(f.log.offsets().log_end - 5);
    f
}

fn truth(log: &Log) -> Truth {
    let offsets = log.offsets();
    Truth {
        log_start: offsets.log_start,
        local_start: offsets.local_log_start,
        batches: all(log, offsets.local_log_start).unwrap(),
        end: log.offsets().log_end,
        high_watermark: log.high_watermark(),
        lineage: log.lineage(),
        aborted: log.aborted(offsets.local_log_start, i64::MAX).unwrap(),
    }
}

/// The batches from `from` on; `None` if a read failed on the way, which says that there is damage.
fn all(log: &Log, from: i64) -> Option<BTreeMap<i64, Vec<u8>>> {
    let end = log.offsets().log_end;
    let (mut found, mut at) = (BTreeMap::new(), from);
    while at < end {
        let slice = log.read(at, 600, true, end).ok()?;
        if slice.records.is_empty() {
            break;
        }
        for one in Batches::new(slice.records) {
            let one = one.unwrap();
            found.insert(one.header.base_offset, one.bytes.to_vec());
        }
        at = slice.next_offset;
    }
    Some(found)
}

fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Opens a copy with one bit flipped and holds what it says against the truth.
fn look(closed: &Crashed, path: &Path, byte: usize, bit: u8, truth: &Truth) {
    let good = fs::read(path).unwrap();
    let mut bad = good.clone();
    bad[byte] ^= 1 << bit;
    let place = closed.root.clone();
    let copy = Crashed::copy_of(&place);
    let relative = path.strip_prefix(&place).unwrap();
    fs::write(copy.root.join(relative), bad).unwrap();
    let context = format!("{} byte {byte} bit {bit}", relative.display());
    // A directory that is another's is not opened, and says so.
    let Ok((_disk, logs)) = Disk::open(options(&copy.root), 1) else {
        let name = relative.display().to_string();
        assert!(name.contains("meta.properties"), "{context}");
        return;
    };
    assert_eq!(logs.len(), 1, "{context}");
    let log = &logs[0];
    log.set_config(small_segments());
    assert_eq!(log.topic_id(), crate::support::ID, "{context}");
    let offsets = log.offsets();
    let good = log.health() == Health::Good;
    assert!(
        !good || offsets.log_end == truth.end,
        "{context}: {offsets:?}"
    );
    the_log_start_is_right_or_unknown(log, truth, &context);
    // What was not visible does not become so. A slot that was hit is unknown, and the checkpoint counts.
    let high_watermark = log.high_watermark();
    assert!(
        !good || high_watermark == truth.high_watermark,
        "{context}: high watermark {high_watermark}"
    );
    // Of what is not local the file alone tells: it is as it was written, or counts for what is local.
    let in_file = context.contains("leader-epoch-checkpoint");
    let local = || local_part(&truth.lineage, truth.local_start);
    if good && !(in_file && log.lineage() == local()) {
        assert_eq!(log.lineage(), truth.lineage, "{context}");
    }
    match log.aborted(truth.local_start, i64::MAX) {
        Ok(aborted) if good => assert_eq!(aborted, truth.aborted, "{context}"),
        _ => {}
    }
    // From every batch on: the same batches, up to where a read fails.
    for from in truth.batches.keys() {
        let end = offsets.log_end;
        if *from >= end {
            break;
        }
        match log.read(*from, 1, true, end) {
            Ok(slice) => {
                let read: Vec<u8> = slice.records.to_vec();
                if !read.is_empty() {
                    assert_eq!(read, truth.batches[from], "{context} at {from}");
                }
                assert!(good || slice.next_offset <= end);
                assert!(
                    !(good && read.is_empty()),
                    "{context} at {from}: silently gone"
                );
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    append_times_are_not_too_young(log, truth, &context);
    let found = log.offset_for_timestamp(4001);
    if let (true, Ok(found)) = (good, found) {
        let expected = truth_of_time(truth);
        assert_eq!(found.map(|f| f.offset), expected, "{context}: by time");
    }
    // Nothing goes because of a wrong timestamp.
    assert_eq!(log.retention_start(7_000), None, "{context}");
    if good {
        let epoch = log.lineage().last().unwrap().epoch;
        let more = log.append(produced(77, 0, 0, 1), AppendContext::new(epoch, 1));
        assert_eq!(more.unwrap().base_offset, truth.end, "{context}");
    }
}

/// What the local log knows of a lineage by itself.
pub fn local_part(lineage: &[EpochStart], local_start: i64) -> Vec<EpochStart> {
    let holder = lineage.partition_point(|e| e.start_offset <= local_start);
    let mut local = lineage[holder - 1..].to_vec();
    local[0].start_offset = local[0].start_offset.max(local_start);
    local
}

/// Never taken from what is local.
fn the_log_start_is_right_or_unknown(log: &Log, truth: &Truth, context: &str) {
    let offsets = log.offsets();
    let known = offsets.known_log_start;
    assert!(
        known.is_none_or(|start| start == truth.log_start),
        "{context}: {offsets:?}"
    );
    assert!(
        offsets.log_start <= truth.log_start,
        "{context}: {offsets:?}"
    );
    let lost = context.starts_with("durable-points");
    assert!(known.is_some() || lost, "{context}: {offsets:?}");
}

/// An age that is computed from one would be too small.
fn append_times_are_not_too_young(log: &Log, truth: &Truth, context: &str) {
    let end = log.offsets().log_end;
    for from in truth.batches.keys().filter(|from| **from < end) {
        let said = log.append_time_of(*from);
        assert!(
            said.is_none_or(|said| said <= append_ms(*from)),
            "{context} at {from}: {said:?}"
        );
    }
}

/// Offset of the first record at or after the time that is asked for.
fn truth_of_time(truth: &Truth) -> Option<i64> {
    truth.batches.values().find_map(|bytes| {
        let batch = whimbrel_wire::Batch::take(&mut bytes.clone().into()).unwrap();
        let mut records =
            whimbrel_wire::record::records(&batch, whimbrel_wire::codec::Limits::default())
                .unwrap();
        records.find_map(|record| {
            let record = record.unwrap();
            (record.timestamp_ms >= 4001).then_some(record.offset)
        })
    })
}

fn flip_all(closed: &Crashed, truth: &Truth) {
    for path in files(&closed.root) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let length = fs::metadata(&path).unwrap().len() as usize;
        // Of the records' bytes a few are as good as all.
        let checked = ["snapshot", "recent", "durable-points"];
        let step = match &name {
            log if log.ends_with(".log") => 23,
            // One checksum over all of it.
            name if checked.iter().any(|end| name.ends_with(end)) => 7,
            _ => 1,
        };
        for byte in (0..length).step_by(step) {
            look(closed, &path, byte, (byte % 7) as u8, truth);
        }
    }
}

#[test]
fn a_flipped_bit_after_a_clean_stop_is_never_served_and_loses_nothing_silently() {
    let f = built();
    let truth = truth(&f.log);
    f.disk.close().unwrap();
    flip_all(&Crashed::copy_of(&f.root), &truth);
}

#[test]
fn a_flipped_bit_after_a_kill_is_never_served_and_loses_nothing_silently() {
    let f = built();
    let truth = truth(&f.log);
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    flip_all(&f.crash(), &truth);
}

/// Some of it deleted, more of it in the bucket alone: log start < local start, neither of them 0.
fn freed() -> Fixture {
    let f = built();
    let segments = f.log.segments();
    f.log.set_log_start(segments[0].base_offset + 3).unwrap();
    f.log.free_local_before(segments[0].end_offset).unwrap();
    let offsets = f.log.offsets();
    assert!(0 < offsets.log_start && offsets.log_start < offsets.local_log_start);
    f.sync();
    f
}

#[test]
fn a_flipped_bit_moves_no_log_start_where_local_segments_were_freed() {
    let f = freed();
    let truth = truth(&f.log);
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    flip_all(&f.crash(), &truth);
    f.disk.close().unwrap();
    flip_all(&Crashed::copy_of(&f.root), &truth);
}

/// The sidecar as a bit in its slot, one in its first bytes and a hand that removes it leave it.
fn without_points(f: &Fixture, n: usize) -> Crashed {
    let crashed = f.crash();
    let path = crashed.root.join("durable-points");
    match n {
        0 => crate::support::flip(&path, 64 + 30),
        1 => crate::support::flip(&path, 2),
        _ => fs::remove_file(&path).unwrap(),
    }
    crashed
}

#[test]
fn a_lost_log_start_stays_unknown_until_a_source_tells_it() {
    let f = freed();
    let start = f.log.offsets().log_start;
    let lineage = f.log.lineage();
    f.disk.checkpoint().unwrap();
    f.disk.flush_durable_points().unwrap();
    for n in 0..3 {
        let crashed = without_points(&f, n);
        // Also the next start does not take it for known.
        for _ in 0..2 {
            let (disk, log) = crashed.open();
            let offsets = log.offsets();
            assert_eq!(offsets.known_log_start, None, "{n}");
            assert!(offsets.log_start <= start, "{n}: {offsets:?}");
            assert_eq!(log.lineage(), lineage, "{n}");
            disk.sync().unwrap();
            disk.checkpoint().unwrap();
            disk.flush_durable_points().unwrap();
            drop((disk, log));
        }
        let (disk, log) = crashed.open();
        assert!(log.learn_log_start(-1).is_err(), "{n}");
        assert!(log.learn_log_start(start).unwrap(), "{n}");
        assert!(!log.learn_log_start(start + 1).unwrap(), "{n}: it is known");
        drop((disk, log));
        let offsets = crashed.open().1.offsets();
        assert_eq!(offsets.known_log_start, Some(start), "{n}");
        assert!(offsets.local_log_start > start, "{n}");
    }
}

#[test]
fn a_lost_point_of_a_log_from_0_on_hides_nothing() {
    let f = built();
    for n in 0..2 {
        let offsets = without_points(&f, n).open().1.offsets();
        assert_eq!((offsets.known_log_start, offsets.log_start), (Some(0), 0));
    }
}
