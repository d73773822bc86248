//! What group commit gives: `cargo bench -p whimbrel-log [-- DIRECTORY]`.
//!
//! Open loop: 20,000 appends a second of one batch with one record of 1 KiB, round robin over the
//! partitions, while one thread syncs the disk as often as it can. Latency counts from the moment an append
//! was due to the end of the sync that covers it. Then: how long 10,000 partitions take to be created, to be
//! opened after a clean stop and after a kill, and what they cost in memory and open files.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints what it measured, by the machine's clock, and ends if it cannot"
)]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;
use whimbrel_log::{AppendContext, Disk, DiskOptions, Log, LogConfig};
use whimbrel_wire::BatchBuilder;

const RATE: u32 = 20_000;
const SECONDS: u32 = 5;

fn options(root: &Path) -> DiskOptions {
    DiskOptions {
        root: root.to_owned(),
        cluster_id: "bench".to_owned(),
        node_id: 1,
    }
}

fn create(disk: &Disk, partitions: i32) -> Vec<Arc<Log>> {
    let id = Uuid::from_u128(1);
    let all = (0..partitions).map(|n| disk.create("t", id, n, LogConfig::default()).unwrap());
    let all: Vec<_> = all.collect();
    disk.sync().unwrap();
    all
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.add(1, None, Some(&[b'x'; 1024]), &[]).unwrap();
    builder.finish().unwrap()
}

/// Appended and not yet known to be durable: log, end offset, when it was due.
type Waiting = Mutex<VecDeque<(usize, i64, Instant)>>;

fn busy(dir: &Path, partitions: i32) {
    let root = dir.join(format!("busy-{partitions}"));
    let (disk, _) = Disk::open(options(&root), 0).unwrap();
    let logs = create(&disk, partitions);
    let (waiting, done) = (Waiting::default(), AtomicBool::new(false));
    let (mut latencies, mut rounds) = (Vec::new(), 0_u32);
    let began = Instant::now();
    let took = std::thread::scope(|scope| {
        let appender = scope.spawn(|| {
            let one = batch();
            for n in 0..RATE * SECONDS {
                let due = began + Duration::from_secs(1) * n / RATE;
                let now = Instant::now();
                if due > now {
                    std::thread::sleep(due - now);
                }
                let at = n as usize % logs.len();
                let context = AppendContext::new(0, i64::from(n / 20));
                let end = logs[at].append(one.clone(), context).unwrap().last_offset + 1;
                waiting.lock().unwrap().push_back((at, end, due));
            }
            done.store(true, Ordering::Release);
            began.elapsed()
        });
        loop {
            let last = done.load(Ordering::Acquire);
            let covered = std::mem::take(&mut *waiting.lock().unwrap());
            if covered.is_empty() {
                if last {
                    break;
                }
                std::thread::yield_now();
                continue;
            }
            disk.sync().unwrap();
            rounds += 1;
            let now = Instant::now();
            for (at, end, due) in covered {
                assert!(logs[at].offsets().durable_end >= end);
                latencies.push(now.saturating_duration_since(due));
            }
        }
        appender.join().unwrap()
    });
    latencies.sort_unstable();
    let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{partitions:>6} partitions: {:5.1} MB/s, {:5.0} rounds/s, p50 {:.2} p99 {:.2} p99.9 {:.2} ms",
        latencies.len() as f64 * 1024.0 / 1e6 / took.as_secs_f64(),
        f64::from(rounds) / took.as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
    );
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn many(dir: &Path) {
    const PARTITIONS: i32 = 10_000;
    let root = dir.join("many");
    let before = resident_mib();
    let began = Instant::now();
    let (disk, _) = Disk::open(options(&root), 0).unwrap();
    let logs = create(&disk, PARTITIONS);
    println!(
        "{PARTITIONS} partitions created in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    for log in &logs {
        log.append(batch(), AppendContext::new(0, 1)).unwrap();
    }
    disk.sync().unwrap();
    println!("one batch each: {} open files", open_files());
    disk.checkpoint().unwrap();
    drop((disk, logs));
    let began = Instant::now();
    let (disk, logs) = Disk::open(options(&root), 0).unwrap();
    println!(
        "opened after a kill in {:.2} s, {} KiB of batches walked, {} open files, {} MiB more than before",
        began.elapsed().as_secs_f64(),
        disk.recovered_bytes() >> 10,
        open_files(),
        resident_mib().saturating_sub(before),
    );
    disk.close().unwrap();
    drop((disk, logs));
    let began = Instant::now();
    let opened = Disk::open(options(&root), 0).unwrap();
    println!(
        "opened after a clean stop in {:.2} s, {} open files",
        began.elapsed().as_secs_f64(),
        open_files()
    );
    drop(opened);
}

/// A log of some GiB, opened as a kill leaves it.
fn large(dir: &Path) {
    const BYTES: u64 = 4 << 30;
    let root = dir.join("large");
    let (disk, _) = Disk::open(options(&root), 0).unwrap();
    let logs = create(&disk, 4);
    let mut builder = BatchBuilder::new(0).producer(1, 0, 0);
    builder
        .add(1, None, Some(&vec![b'x'; 64 << 10]), &[])
        .unwrap();
    let first = builder.finish().unwrap();
    let began = Instant::now();
    let size = first.len() as u64;
    for n in 0..BYTES / size {
        let mut builder = BatchBuilder::new(0).producer(1, 0, i32::try_from(n / 4).unwrap());
        builder
            .add(1, None, Some(&vec![b'x'; 64 << 10]), &[])
            .unwrap();
        let context = AppendContext::new(0, i64::try_from(n).unwrap());
        logs[n as usize % 4]
            .append(builder.finish().unwrap(), context)
            .unwrap();
        if n % 64 == 0 {
            disk.sync().unwrap();
        }
        if disk.checkpoint_is_due() {
            disk.checkpoint().unwrap();
        }
    }
    disk.sync().unwrap();
    println!(
        "{} MiB written in {:.1} s",
        BYTES >> 20,
        began.elapsed().as_secs_f64()
    );
    drop((disk, logs));
    let began = Instant::now();
    let (disk, _logs) = Disk::open(options(&root), 0).unwrap();
    println!(
        "opened after a kill in {:.2} s, {} MiB of batches walked",
        began.elapsed().as_secs_f64(),
        disk.recovered_bytes() >> 20
    );
}

fn main() {
    // cargo's own flag stands among the arguments.
    let place = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let place = place.map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(place).unwrap();
    for partitions in [1, 100, 1_000, 10_000] {
        busy(dir.path(), partitions);
    }
    many(dir.path());
    large(dir.path());
}
