//! How far a verification is, and what the last one found; read by the status and at scrape.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use whimbrel_runtime::Clock;

use super::Report;

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Proof(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    running: Option<Running>,
    last: Option<Last>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Running {
    objects: usize,
    of: usize,
    bytes: u64,
}

/// What the newest complete verification found.
#[derive(Clone, Debug)]
pub struct Last {
    finished_boot_ms: u64,
    pub finished_ms: i64,
    pub report: Report,
}

/// Whoever holds it verifies; there is one at a time.
#[derive(Debug)]
pub struct Turn(Proof);

impl Proof {
    /// `None` while another verification is under way.
    pub fn begin(&self) -> Option<Turn> {
        let mut state = self.0.lock();
        if state.running.is_some() {
            return None;
        }
        state.running = Some(Running::default());
        Some(Turn(self.clone()))
    }

    pub fn advance(&self, objects: usize, of: usize, bytes: u64) {
        let running = Running { objects, of, bytes };
        if let Some(now) = &mut self.0.lock().running {
            *now = running;
        }
    }

    pub fn finished(&self, report: &Report, clock: &Clock) {
        self.0.lock().last = Some(Last {
            finished_boot_ms: clock.boot_ms(),
            finished_ms: clock.wall_ms(),
            report: report.clone(),
        });
    }

    pub fn last(&self) -> Option<Last> {
        self.0.lock().last.clone()
    }

    /// Seconds since a verification was complete, as of now; `None` before the first.
    pub fn age_seconds(&self, clock: &Clock) -> Option<f64> {
        let since = self.0.lock().last.as_ref()?.finished_boot_ms;
        let age_ms = clock.boot_ms().saturating_sub(since);
        Some(std::time::Duration::from_millis(age_ms).as_secs_f64())
    }

    pub fn json(&self, clock: &Clock) -> Value {
        let age_seconds = self.age_seconds(clock);
        let state = self.0.lock();
        let running = state
            .running
            .map(|r| json!({"objects": r.objects, "of": r.of, "bytes": r.bytes}));
        let last = state.last.as_ref().map(|last| {
            let r = &last.report;
            json!({
                "finished_ms": last.finished_ms, "age_seconds": age_seconds, "ok": r.ok, "objects": r.objects,
                "objects_checked": r.objects_checked, "undecided": r.undecided, "bytes": r.bytes, "exhausted": r.exhausted,
                "problems": r.problems_found, "spent": r.spent,
            })
        });
        json!({"running": running, "last": last})
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.lock().running = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_at_a_time_and_its_age_goes_on_rising() {
        let (proof, clock) = (Proof::default(), Clock::manual());
        let turn = proof.begin().unwrap();
        assert!(proof.begin().is_none());
        drop(turn);
        assert!(proof.begin().is_some());
        proof.finished(&Report::default(), &clock);
        clock.advance(Duration::from_secs(90));
        assert_eq!(proof.age_seconds(&clock), Some(90.0));
    }
}
