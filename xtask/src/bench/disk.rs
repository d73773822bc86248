//! What the disk gives to one writer that makes every append durable: the ceiling of every produce figure of a system that does so.

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use super::{SystemKind, process::now, table::Table};

const MEASURED: Duration = Duration::from_secs(3);
/// A group commit under load is of this size; one at a steady small rate is of the other.
const APPENDS: [(usize, &str); 2] = [(1 << 20, "1 MiB"), (64 << 10, "64 KiB")];

pub fn run(folder: &Path, table: &mut Table) -> anyhow::Result<()> {
    for (bytes, name) in APPENDS {
        let path = folder.join("appends");
        let mut file = File::create(&path)?;
        let append = vec![b'x'; bytes];
        let (start, mut took_us) = (now(), Vec::new());
        while start.elapsed() < MEASURED {
            let begun: Instant = now();
            file.write_all(&append)?;
            file.sync_data()?;
            took_us.push(begun.elapsed().as_micros());
        }
        let seconds = start.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        took_us.sort_unstable();
        // The disk is the same under all of them; it stands in the column of the one that syncs before it acknowledges.
        let kind = SystemKind::Whimbrel;
        table.set(
            &format!("disk: {name} appends with fdatasync, MB/s"),
            kind,
            (took_us.len() * bytes) as f64 / 1e6 / seconds,
        );
        table.set_cost(
            &format!("disk: {name} append with fdatasync, p99 ms"),
            kind,
            took_us[took_us.len() * 99 / 100] as f64 / 1000.0,
        );
    }
    Ok(())
}
