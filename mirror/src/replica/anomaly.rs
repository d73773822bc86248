//! Why a partition was stopped, with the exact range.

use std::fmt;

use serde::Serialize;

use crate::codes;

/// What stopped a partition until somebody acts. The others go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnomalyKind {
    /// Retention or DeleteRecords at the source overtook this copy.
    Trimmed,
    /// Compaction at the source waited long enough, and went on past the end of this copy.
    Overtaken,
    /// The target's log is damaged below its durable point.
    Damaged,
    /// Source and target cannot agree where to go on.
    NoAgreement,
    /// The target refuses what the source sends, again and again.
    Refused,
}

/// A stopped partition: offsets `from..to` are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    pub kind: AnomalyKind,
    pub code: &'static str,
    pub from: i64,
    /// Exclusive.
    pub to: i64,
}

impl Anomaly {
    pub fn new(kind: AnomalyKind, from: i64, to: i64) -> Self {
        let code = match kind {
            AnomalyKind::Trimmed => codes::TRIMMED,
            AnomalyKind::Overtaken => codes::OVERTAKEN,
            AnomalyKind::Damaged => codes::DAMAGED,
            AnomalyKind::NoAgreement => codes::NO_AGREEMENT,
            AnomalyKind::Refused => codes::REFUSED,
        };
        Self {
            kind,
            code,
            from,
            to,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            AnomalyKind::Trimmed => "the source no longer has",
            AnomalyKind::Overtaken => "the source compacted",
            AnomalyKind::Damaged => "the target's log is damaged; it holds",
            AnomalyKind::NoAgreement => "source and target find no common point in",
            AnomalyKind::Refused => "the target refuses",
        };
        write!(
            f,
            "{}: {what} offsets {} to {} (exclusive)",
            self.code, self.from, self.to
        )
    }
}
