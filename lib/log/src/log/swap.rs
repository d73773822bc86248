//! What a crash of Kafka or of ours may leave in a log directory, put in order before it is opened
//! (Kafka's `LogLoader.removeTempFilesAndCollectSwapFiles` and what follows it).

use std::fs::File;
use std::io;
use std::path::Path;

use crate::calls;
use crate::naming::{LOG, OF_A_SEGMENT, file_path, parse_file_name};
use crate::replace::{remove_if_there, sync_dir};
use crate::segment::scan::{Scanner, Step};

/// Names in the directory that begin with an offset.
fn names(dir: &Path) -> io::Result<Vec<(i64, String)>> {
    let mut names = Vec::new();
    for entry in calls::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some((offset, suffix)) = name.to_str().and_then(parse_file_name) {
            names.push((offset, suffix.to_owned()));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes temporary files, finishes a swap of cleaned segments, removes indexes without a log.
/// Returns the base offsets of the segments, in order.
pub(crate) fn tidy(dir: &Path) -> io::Result<Vec<i64>> {
    let all = names(dir)?;
    let cleaned = all
        .iter()
        .filter(|(_, suffix)| suffix.ends_with(".cleaned"))
        .map(|(base, _)| *base)
        .min();
    let mut swapped = false;
    for (base, suffix) in &all {
        let unfinished = suffix.ends_with(".swap") && cleaned.is_some_and(|first| *base >= first);
        let temporary = [".deleted", ".cleaned", ".cut", ".tmp"]
            .iter()
            .any(|end| suffix.ends_with(end));
        if temporary || suffix == crate::naming::CUT || unfinished {
            remove_if_there(&file_path(dir, *base, suffix))?;
        } else if suffix == "log.swap" {
            swapped = true;
        }
    }
    if swapped {
        finish_swaps(dir)?;
    }
    let all = names(dir)?;
    let logs: Vec<i64> = all
        .iter()
        .filter(|(_, suffix)| suffix == LOG)
        .map(|(base, _)| *base)
        .collect();
    for (base, suffix) in &all {
        let swap = suffix.strip_suffix(".swap");
        let of_a_segment = OF_A_SEGMENT.contains(&swap.unwrap_or(suffix));
        if of_a_segment && (swap.is_some() || logs.binary_search(base).is_err()) {
            remove_if_there(&file_path(dir, *base, suffix))?;
        }
    }
    Ok(logs)
}

/// A `.swap` is whole: what it replaces goes, then it takes its place.
fn finish_swaps(dir: &Path) -> io::Result<()> {
    let all = names(dir)?;
    for (swap, _) in all.iter().filter(|(_, suffix)| suffix == "log.swap") {
        let file = File::open(file_path(dir, *swap, "log.swap"))?;
        let length = file.metadata()?.len();
        let mut scanner = Scanner::new(&file, 0, length, *swap);
        let mut end = *swap;
        while let Step::Batch { header, .. } = scanner.step(|_| false)? {
            end = header.next_offset();
        }
        for (base, suffix) in &all {
            if base >= swap && *base < end.max(swap + 1) && OF_A_SEGMENT.contains(&suffix.as_str())
            {
                remove_if_there(&file_path(dir, *base, suffix))?;
            }
        }
        for suffix in OF_A_SEGMENT {
            match calls::rename(
                &file_path(dir, *swap, &format!("{suffix}.swap")),
                &file_path(dir, *swap, suffix),
            ) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    sync_dir(dir)
}
