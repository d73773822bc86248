//! The report: what was promised, what was measured, whether it held.

use serde::Serialize;

use super::{Tour, TourError, facts::Facts};

#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    pub name: String,
    pub ok: bool,
    pub seconds: f64,
}

/// A row of the closing table.
#[derive(Clone, Debug, Serialize)]
pub struct Promise {
    pub promise: String,
    pub measured: String,
    pub held: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub held: bool,
    pub error: Option<String>,
    pub steps: Vec<StepReport>,
    pub promises: Vec<Promise>,
    pub records_produced: u64,
    pub killed_pids: Vec<u32>,
    pub rpo_reported_ms: Option<u64>,
    pub rpo_actual_ms: Option<u64>,
    pub records_lost: Option<u64>,
    pub records_lost_bound: Option<u64>,
    pub records_repeated: Option<u64>,
    pub rto_ms: Option<u64>,
    pub cold_records: Option<u64>,
    pub cold_mismatches: Option<u64>,
    pub group_position_error: Option<i64>,
    pub orphans_exported: Option<u64>,
}

impl Report {
    pub(crate) fn new(steps: Vec<StepReport>, facts: &Facts, error: Option<String>) -> Self {
        let promises = promises(facts);
        Self {
            held: error.is_none() && steps.iter().all(|s| s.ok) && promises.iter().all(|p| p.held),
            error,
            steps,
            promises,
            records_produced: facts.records_produced,
            killed_pids: facts.killed_pids.clone(),
            rpo_reported_ms: facts.rpo_reported_ms,
            rpo_actual_ms: facts.rpo_actual_ms,
            records_lost: facts.records_lost,
            records_lost_bound: facts.records_lost_bound,
            records_repeated: facts.records_repeated,
            rto_ms: facts.rto_ms,
            cold_records: facts.cold_records,
            cold_mismatches: facts.cold_mismatches,
            group_position_error: facts.group_position_error,
            orphans_exported: facts.orphans_exported,
        }
    }
}

/// Closes a step: its line in the report and on the screen.
pub(crate) fn finish(
    tour: &mut Tour<'_>,
    steps: &mut Vec<StepReport>,
    name: &str,
    begun_ms: u64,
    result: &Result<(), TourError>,
) {
    let seconds = tour.clock.boot_ms().saturating_sub(begun_ms) as f64 / 1_000.0;
    steps.push(StepReport {
        name: name.to_owned(),
        ok: result.is_ok(),
        seconds,
    });
    if let Err(error) = result {
        tour.progress.fact(&error.to_string());
    }
    tour.progress.done(result.is_ok(), seconds);
}

fn row<T: std::fmt::Display>(
    promise: &str,
    measured: Option<T>,
    unit: &str,
    held: impl FnOnce(&T) -> bool,
) -> Promise {
    Promise {
        promise: promise.to_owned(),
        held: measured.as_ref().is_some_and(held),
        measured: measured.map_or_else(
            || "not reached".to_owned(),
            |m| format!("{m} {unit}").trim_end().to_owned(),
        ),
    }
}

fn promises(f: &Facts) -> Vec<Promise> {
    let mut rows = copies(f).to_vec();
    rows.extend(loss(f));
    rows.extend(clients(f));
    rows.extend(return_home(f));
    rows
}

/// What is true while nothing fails.
fn copies(f: &Facts) -> [Promise; 3] {
    [
        row(
            "the mirror is byte-equal",
            f.mirror_differences,
            "batches differ",
            |d| *d == 0 && f.mirror_batches_compared > Some(0),
        ),
        row(
            "local copies go only after the bucket verifies",
            f.segments_freed_records,
            "records freed",
            |n| *n > 0 && f.bucket_verified == Some(true),
        ),
        row(
            "cold records are the same bytes",
            f.cold_mismatches,
            &format!("of {} cold records differ", f.cold_records.unwrap_or(0)),
            |m| *m == 0 && f.cold_records > Some(0),
        ),
    ]
}

/// What a region's death cost, against what was said beforehand.
fn loss(f: &Facts) -> [Promise; 2] {
    let lost_and_bound = f.records_lost.zip(f.records_lost_bound);
    let rpo = f.rpo_actual_ms.zip(f.rpo_reported_ms);
    [
        row(
            "loss stays within the bound stated before",
            lost_and_bound.map(|(lost, bound)| format!("{lost} of at most {bound} records lost")),
            "",
            |_| lost_and_bound.is_some_and(|(lost, bound)| lost <= bound),
        ),
        row(
            "the RPO shown is never below the truth",
            rpo.map(|(actual, reported)| format!("{actual} ms lost, {reported} ms shown")),
            "",
            |_| rpo.is_some_and(|(actual, reported)| actual <= reported),
        ),
    ]
}

/// What stock clients saw of it.
fn clients(f: &Facts) -> [Promise; 3] {
    [
        row(
            "the same producer carries on",
            f.rto_ms,
            "ms after the kill",
            |_| true,
        ),
        row(
            "an idempotent producer repeats nothing",
            f.records_repeated,
            "records repeated",
            |r| *r == 0,
        ),
        row(
            "the group resumes at its last commit",
            f.group_position_error,
            "records off",
            |e| *e == 0,
        ),
    ]
}

/// The way back.
fn return_home(f: &Facts) -> [Promise; 4] {
    [
        row(
            "the returned region is fenced",
            f.old_home_fenced,
            "",
            |fenced| *fenced,
        ),
        row(
            "every lost record is in the exported tail",
            f.orphans_exported,
            "orphans exported",
            |o| Some(*o) >= f.records_lost,
        ),
        row(
            "failback loses nothing",
            f.failback_lost,
            "records lost",
            |l| *l == 0,
        ),
        row(
            "both regions are byte-equal again",
            f.final_differences,
            "batches differ",
            |d| *d == 0 && f.final_batches_compared > Some(0),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_held() -> Facts {
        Facts {
            mirror_batches_compared: Some(1),
            mirror_differences: Some(0),
            segments_freed_records: Some(1),
            bucket_verified: Some(true),
            cold_records: Some(1),
            cold_mismatches: Some(0),
            group_position_error: Some(0),
            records_lost_bound: Some(10),
            rpo_reported_ms: Some(5),
            rpo_actual_ms: Some(5),
            records_lost: Some(10),
            records_repeated: Some(0),
            rto_ms: Some(1),
            old_home_fenced: Some(true),
            orphans_exported: Some(10),
            failback_lost: Some(0),
            final_batches_compared: Some(1),
            final_differences: Some(0),
            ..Facts::default()
        }
    }

    #[test]
    fn what_was_not_reached_did_not_hold() {
        let report = Report::new(vec![], &Facts::default(), None);
        assert!(!report.held);
        assert!(report.promises.iter().all(|p| !p.held));
    }

    #[test]
    fn each_planted_violation_is_found() {
        assert!(Report::new(vec![], &all_held(), None).held);
        let violations: [fn(&mut Facts); 11] = [
            |f| f.mirror_differences = Some(1),
            |f| f.bucket_verified = Some(false),
            |f| f.cold_mismatches = Some(1),
            |f| f.records_lost = Some(11),
            |f| f.rpo_actual_ms = Some(6),
            |f| f.records_repeated = Some(1),
            |f| f.group_position_error = Some(1),
            |f| f.old_home_fenced = Some(false),
            |f| f.orphans_exported = Some(9),
            |f| f.failback_lost = Some(1),
            |f| f.final_differences = Some(1),
        ];
        for (at, plant) in violations.into_iter().enumerate() {
            let mut facts = all_held();
            plant(&mut facts);
            assert!(
                !Report::new(vec![], &facts, None).held,
                "violation {at} was not found"
            );
        }
    }
}
