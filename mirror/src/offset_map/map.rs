//! The runs of one partition.

/// `length` records: source offset `source + n` is target offset `target + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub source: i64,
    pub target: i64,
    pub length: i64,
}

impl Run {
    pub fn source_end(&self) -> i64 {
        self.source.saturating_add(self.length)
    }

    pub fn target_end(&self) -> i64 {
        self.target.saturating_add(self.length)
    }
}

/// A run that does not lie above all others on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("run {run:?} does not lie above source offset {source_end} and target offset {target_end}")]
pub struct NotRising {
    pub run: Run,
    pub source_end: i64,
    pub target_end: i64,
}

/// Runs in rising order. A *position* is the offset a reader reads next, so the end of a run is one too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetMap {
    runs: Vec<Run>,
}

impl OffsetMap {
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Where copying goes on: after the last record that was copied; `None` when none was.
    pub fn resume(&self) -> Option<i64> {
        self.runs.last().map(Run::source_end)
    }

    /// Adds records above all others; merged with the last run where they continue it on both sides.
    pub fn push(&mut self, run: Run) -> Result<(), NotRising> {
        let (source_end, target_end) = self
            .runs
            .last()
            .map_or((0, 0), |l| (l.source_end(), l.target_end()));
        let ends = run
            .source
            .checked_add(run.length)
            .zip(run.target.checked_add(run.length));
        let rising = run.length > 0 && run.source >= source_end && run.target >= target_end;
        if !rising || ends.is_none() {
            return Err(NotRising {
                run,
                source_end,
                target_end,
            });
        }
        match self.runs.last_mut() {
            Some(last) if run.source == source_end && run.target == target_end => {
                last.length += run.length
            }
            _ => self.runs.push(run),
        }
        Ok(())
    }

    /// The target position of a reader at `position` of the source: all records copied from below it lie
    /// below, all from at or above it at or above. `None` where that is not known yet, because records
    /// below `position` may still be uncopied: `scanned` says how far the source was looked through.
    pub fn to_target(&self, position: i64, scanned: i64) -> Option<i64> {
        if position > scanned.max(self.resume().unwrap_or(0)) {
            return None;
        }
        let next = self
            .runs
            .partition_point(|run| run.source_end() <= position);
        match (self.runs.get(next), self.runs.last()) {
            (Some(run), _) => Some(run.target + (position - run.source).max(0)),
            // Everything copied so far lies below; whatever comes next lies at or above the last end.
            (None, Some(last)) => Some(last.target_end()),
            (None, None) => Some(0),
        }
    }

    /// The source position of a reader at `position` of the target. Above everything that was copied it is
    /// where copying goes on: nothing is missed, and records that others wrote to the target have no
    /// source. `None` where nothing was copied.
    pub fn to_source(&self, position: i64) -> Option<i64> {
        let next = self
            .runs
            .partition_point(|run| run.target_end() <= position);
        match self.runs.get(next) {
            Some(run) => Some(run.source + (position - run.target).max(0)),
            None => self.resume(),
        }
    }
}
