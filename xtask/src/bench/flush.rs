//! What makes many small appends durable at the least cost: the ways there are, on bare files, beside each other.
//!
//! Open loop: 20,000 appends a second of 1 KiB, round robin over the files. One flusher takes all that waits, writes it, makes it durable and
//! goes on; a latency counts from the moment the append was due to the end of the round that covers it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use super::{SystemKind, process::now, table::Table};

const RATE: u64 = 20_000;
const APPEND: usize = 1024;
const MEASURED: Duration = Duration::from_secs(5);
/// A way that falls behind is given up after so long.
const PATIENCE: Duration = Duration::from_secs(15);
const FILES: [usize; 3] = [1, 100, 1_000];
const THREADS: usize = 32;

/// How a round becomes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `fdatasync` of every file that was written, one after the other.
    EachFile,
    /// The same by some threads at once.
    InParallel,
    /// One `syncfs`.
    WholeDisk,
    /// Everything written a second time into one file, and `fdatasync` of that.
    Journal,
}

const WAYS: [(Way, &str); 4] = [
    (Way::EachFile, "fdatasync each"),
    (Way::InParallel, "fdatasync, 32 threads"),
    (Way::WholeDisk, "syncfs"),
    (Way::Journal, "journal"),
];

pub fn run(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    for files in FILES {
        for (way, name) in WAYS {
            let folder = folder.join("flush");
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder)?;
            let round = Round::new(&folder, files, way)?;
            note(files, name, round.run()?, table);
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// What one way gave.
struct Given {
    sorted_us: Vec<u64>,
    rounds: u32,
    took: Duration,
}

fn note(files: usize, name: &str, given: Given, table: &mut Table) {
    // The disk is the same under all systems: it stands in the column of the one that syncs before it acknowledges.
    let kind = SystemKind::Whimbrel;
    let what = |of: &str| format!("flush: {files} files, {name}, {of}");
    let (seconds, appends) = (given.took.as_secs_f64(), given.sorted_us.len());
    table.set(
        &what("MB/s"),
        kind,
        (appends * APPEND) as f64 / 1e6 / seconds,
    );
    table.set(&what("rounds/s"), kind, f64::from(given.rounds) / seconds);
    for (percent, name) in [(50, "p50 ms"), (99, "p99 ms")] {
        let us = given.sorted_us[(appends - 1) * percent / 100];
        table.set_cost(&what(name), kind, us as f64 / 1000.0);
    }
}

struct Round {
    way: Way,
    disk: File,
    files: Vec<File>,
    ends: Vec<u64>,
    journal: File,
    append: Vec<u8>,
}

impl Round {
    fn new(folder: &Path, files: usize, way: Way) -> anyhow::Result<Self> {
        let create = |name: String| {
            let path = folder.join(name);
            OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .open(path)
        };
        let made: Result<Vec<_>, _> = (0..files).map(|n| create(n.to_string())).collect();
        let round = Self {
            way,
            disk: File::open(folder)?,
            files: made?,
            ends: vec![0; files],
            journal: create("journal".to_owned())?,
            append: vec![b'x'; APPEND],
        };
        // Names are durable before it begins.
        rustix::fs::syncfs(&round.disk)?;
        Ok(round)
    }

    fn run(mut self) -> anyhow::Result<Given> {
        let total = RATE * MEASURED.as_secs();
        let (start, mut done, mut rounds) = (now(), 0, 0);
        let mut took_us = Vec::new();
        while done < total && start.elapsed() < PATIENCE {
            let due = due(start).min(total);
            if due == done {
                thread::sleep(Duration::from_micros(50));
                continue;
            }
            let mut written: Vec<usize> = Vec::new();
            for n in done..due {
                let at = usize::try_from(n)? % self.files.len();
                self.files[at].write_all_at(&self.append, self.ends[at])?;
                self.ends[at] += APPEND as u64;
                written.push(at);
                if self.way == Way::Journal {
                    self.journal.write_all(&self.append)?;
                }
            }
            written.sort_unstable();
            written.dedup();
            self.make_durable(&written)?;
            let now_us = u64::try_from(start.elapsed().as_micros())?;
            took_us.extend((done..due).map(|n| now_us - n * 1_000_000 / RATE));
            (done, rounds) = (due, rounds + 1);
        }
        took_us.sort_unstable();
        Ok(Given {
            sorted_us: took_us,
            rounds,
            took: start.elapsed(),
        })
    }

    fn make_durable(&self, written: &[usize]) -> anyhow::Result<()> {
        match self.way {
            Way::EachFile => sync_each(&self.files, written)?,
            Way::WholeDisk => rustix::fs::syncfs(&self.disk)?,
            Way::Journal => self.journal.sync_data()?,
            Way::InParallel => thread::scope(|scope| {
                let share = written.len().div_ceil(THREADS).max(1);
                let parts: Vec<_> = written
                    .chunks(share)
                    .map(|part| scope.spawn(|| sync_each(&self.files, part)))
                    .collect();
                parts.into_iter().try_for_each(|part| {
                    part.join()
                        .unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")))
                })
            })?,
        }
        Ok(())
    }
}

fn sync_each(files: &[File], written: &[usize]) -> std::io::Result<()> {
    written.iter().try_for_each(|at| files[*at].sync_data())
}

/// Appends that are due by now.
fn due(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).map_or(u64::MAX, |us| us * RATE / 1_000_000)
}
