//! A process that is killed before any call that changes the disk: a child of this test runs a workload,
//! says what it acknowledged, and kills itself at the n-th call.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use whimbrel_log::calls::{Call, Watcher, watch};
use whimbrel_log::{AppendContext, Disk, Health, Log, LogConfig};

use crate::support::{ID, TOPIC, batch, open, produced, quick_dir, read_all, small_segments};

const ROOT: &str = "WHIMBREL_LOG_TEST_ROOT";
const CALLS: &str = "WHIMBREL_LOG_TEST_CALLS";
pub const PRODUCER: i64 = 4;

/// Ends the process, as `kill -9` does, before the call after `left` others.
#[derive(Debug)]
struct Killer {
    left: AtomicUsize,
}

impl Watcher for Killer {
    fn before(&self, _call: Call, _path: &Path) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 0 {
            let me = std::process::id().to_string();
            let _ = Command::new("kill").args(["-9", &me]).status();
            loop {
                std::thread::park();
            }
        }
        Ok(())
    }
}

fn say(what: &str) {
    let mut out = io::stdout().lock();
    // The name of the test stands on the same line before the first word.
    writeln!(out, "\n{what}").unwrap();
    out.flush().unwrap();
}

/// Append, roll, sync, checkpoint, truncate, delete: what the child does until it dies. Every producer's
/// batch has the sequence that is its place in the log, so that the parent knows what must be there.
fn work(disk: &Disk, log: &Arc<Log>) {
    let (mut epoch, mut sequence) = (0, 0);
    log.begin_epoch(0).unwrap();
    for n in 0..30 {
        let bytes = produced(PRODUCER, 0, sequence, 2);
        log.append(bytes, AppendContext::new(epoch, 1000 * n))
            .unwrap();
        sequence += 2;
        if n % 3 != 1 {
            disk.sync().unwrap();
            say(&format!("acked {}", log.offsets().durable_end));
        }
        match n {
            6 | 20 => disk.checkpoint().unwrap(),
            8 | 21 => disk.flush_durable_points().unwrap(),
            10 => drop(log.roll().unwrap()),
            12 => {
                disk.sync().unwrap();
                let end = log.offsets().durable_end;
                // From here on the end is promised to nobody: another leader has it otherwise.
                say("acked 8");
                log.truncate(epoch, 8).unwrap();
                assert_eq!(end, 26);
                say("truncated");
                epoch = 1;
                log.begin_epoch(epoch).unwrap();
                sequence = 8;
            }
            15 => {
                let other = disk.create("other", ID, 1, LogConfig::default()).unwrap();
                other.append(batch(0, 1), AppendContext::new(0, 1)).unwrap();
                disk.sync().unwrap();
                disk.delete(&other).unwrap();
            }
            18 => drop(log.free_local_before(4).unwrap()),
            25 => drop(log.set_log_start(10).unwrap()),
            _ => {}
        }
    }
    say("done");
}

/// Not a test of its own: the child's part.
#[test]
#[ignore = "run as a child by the tests beside it"]
fn child() {
    let root = PathBuf::from(std::env::var(ROOT).unwrap());
    let left = std::env::var(CALLS).unwrap().parse().unwrap();
    let (disk, logs) = open(&root).unwrap();
    assert!(logs.is_empty());
    let log = disk.create(TOPIC, ID, 0, small_segments()).unwrap();
    disk.sync().unwrap();
    let _watch = watch(
        &root,
        Arc::new(Killer {
            left: AtomicUsize::new(left),
        }),
    );
    work(&disk, &log);
}

struct Ended {
    done: bool,
    acked: i64,
    truncated: bool,
}

fn run(root: &Path, calls: usize) -> Ended {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kills::child", "--ignored", "--nocapture"])
        .env(ROOT, root)
        .env(CALLS, calls.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let mut ended = Ended {
        done: false,
        acked: 0,
        truncated: false,
    };
    for line in String::from_utf8(child.stdout).unwrap().lines() {
        match line.split_once(' ') {
            Some(("acked", end)) => ended.acked = end.parse().unwrap(),
            _ if line == "done" => ended.done = true,
            _ if line == "truncated" => ended.truncated = true,
            _ => {}
        }
    }
    assert_eq!(ended.done, child.status.success());
    ended
}

#[test]
fn a_kill_before_any_call_loses_nothing_acknowledged_and_no_producers_memory() {
    let mut truncations = 0;
    for calls in 0.. {
        let dir = quick_dir();
        let root = dir.path().join("data");
        let ended = run(&root, calls);
        if ended.done {
            assert!(calls > 100 && truncations > 20, "{calls} {truncations}");
            break;
        }
        truncations += usize::from(ended.truncated);
        let (disk, logs) = open(&root).unwrap();
        // The other log is there or not, but never half.
        assert!(
            logs.iter().all(|log| log.health() == Health::Good),
            "{calls}"
        );
        let log = logs.iter().find(|log| log.topic() == TOPIC).unwrap();
        let offsets = log.offsets();
        assert!(offsets.log_end >= ended.acked, "{calls}: {offsets:?}");
        // A kill takes nothing that was written: sequence and offset go together, before and after the cut.
        let mut next = offsets.local_log_start;
        for one in whimbrel_wire::Batches::new(read_all(log, next).into()) {
            let header = one.unwrap().header;
            assert!(header.base_offset <= next && header.next_offset() > next);
            assert_eq!(
                i64::from(header.base_sequence),
                header.base_offset,
                "{calls}"
            );
            next = header.next_offset();
        }
        assert_eq!(next, offsets.log_end, "{calls}");
        retries_are_duplicates(log, calls);
        // And it goes on.
        let epoch = log.lineage().last().map_or(0, |last| last.epoch) + 1;
        log.begin_epoch(epoch).unwrap();
        let sequence = i32::try_from(offsets.log_end).unwrap();
        let more = log.append(
            produced(PRODUCER, 0, sequence, 2),
            AppendContext::new(epoch, 9),
        );
        assert_eq!(more.unwrap().base_offset, offsets.log_end, "{calls}");
        disk.sync().unwrap();
    }
}

/// The last five batches that are in the log are known to be.
pub fn retries_are_duplicates(log: &Log, calls: usize) {
    let end = log.offsets().log_end;
    let epoch = log.lineage().last().map_or(0, |last| last.epoch);
    for back in 1..=5 {
        let base = end - 2 * back;
        if base < 0 {
            break;
        }
        let again = produced(PRODUCER, 0, i32::try_from(base).unwrap(), 2);
        let answer = log.append(again, AppendContext::new(epoch, 1)).unwrap();
        assert!(answer.duplicate, "{calls}: sequence {base} of {end}");
        assert_eq!(answer.base_offset, base, "{calls}");
    }
    assert_eq!(log.offsets().log_end, end);
}
