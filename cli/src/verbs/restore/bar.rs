//! How far a restore is: a bar on a terminal, a line now and then elsewhere.

use indicatif::ProgressBar;
use whimbrel_fleet::restore::Progress;
use whimbrel_tiering::restore::Trouble;

use super::apply::say;
use crate::{bar, output};

/// Between two lines where there is no terminal.
const LINE_MS: u64 = 10_000;

/// Everything goes to stderr; stdout belongs to the report.
pub struct Bar {
    bar: ProgressBar,
    /// When it was first looked, and what was there.
    first: Option<(u64, u64)>,
    said_ms: Option<u64>,
    troubles: Vec<Trouble>,
}

impl Bar {
    pub fn new() -> Self {
        Self {
            bar: bar::new(0, "{wide_bar} {percent}% {msg} {elapsed}"),
            first: None,
            said_ms: None,
            troubles: Vec::new(),
        }
    }

    pub fn show(&mut self, progress: &Progress, now_ms: u64) {
        let (first_ms, first) = *self.first.get_or_insert((now_ms, progress.offsets_there));
        let eta = eta_s(
            progress.offsets_there.saturating_sub(first),
            now_ms.saturating_sub(first_ms),
            progress.offsets.saturating_sub(progress.offsets_there),
        );
        let eta = eta.map_or_else(String::new, |s| format!(", {} to go", duration(s)));
        let logs = format!("{} of {} logs{eta}", progress.there, progress.partitions);
        if bar::is_shown() {
            self.bar.set_length(progress.offsets);
            self.bar.set_position(progress.offsets_there);
            self.bar.set_message(logs);
            return;
        }
        if self
            .said_ms
            .is_none_or(|said| now_ms.saturating_sub(said) >= LINE_MS)
        {
            self.said_ms = Some(now_ms);
            output::note(&format!(
                "{} of {} offsets, {logs}",
                progress.offsets_there, progress.offsets
            ));
        }
    }

    /// Each is told when it comes or becomes another.
    pub fn troubles(&mut self, now: &[Trouble]) {
        for trouble in now.iter().filter(|t| !self.troubles.contains(t)) {
            let text = format!("{}: {}", trouble.code, say(trouble));
            self.bar.suspend(|| output::note(&text));
        }
        self.troubles = now.to_vec();
    }

    pub fn done(&self) {
        self.bar.finish_and_clear();
    }
}

/// By the rate so far; none before there is one.
fn eta_s(came: u64, in_ms: u64, left: u64) -> Option<u64> {
    let ms = u128::from(left) * u128::from(in_ms) / u128::from(came).max(1);
    (came > 0).then(|| u64::try_from(ms / 1_000).unwrap_or(u64::MAX))
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_came() {
        assert_eq!(eta_s(0, 5_000, 10), None);
        assert_eq!(eta_s(10, 5_000, 20), Some(10));
        assert_eq!(eta_s(1, u64::MAX, u64::MAX), Some(u64::MAX));
        let said: Vec<_> = [0, 119, 120, 7_199, 7_200].map(duration).into();
        assert_eq!(said, ["0 s", "119 s", "2 min", "119 min", "2 h"]);
    }
}
