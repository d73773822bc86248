//! What the daemon is doing at the store, and since when: so that something stuck has a name, a step, an
//! age and a cause.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use parking_lot::Mutex;
use serde::Serialize;
use whimbrel_runtime::Clock;

use crate::Meter;

/// Clones share the list.
#[derive(Clone, Debug)]
pub struct Ops {
    clock: Clock,
    meter: Meter,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    ops: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    step: &'static str,
    what: String,
    since_ms: u64,
    failures: u32,
    last_error: Option<String>,
}

/// One operation that has taken long or has failed.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Stuck {
    pub step: &'static str,
    pub what: String,
    pub age_ms: u64,
    pub failures: u32,
    pub last_error: Option<String>,
}

/// Longer than any healthy store takes for a small request.
const LONG_MS: u64 = 10_000;

impl Ops {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            meter: Meter::default(),
            running: Arc::default(),
        }
    }

    /// The same, with the labels that what these operations count carries.
    pub fn metered(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Listed until the guard is dropped.
    pub fn begin(&self, step: &'static str, what: &dyn Display) -> Op {
        let mut running = self.running.lock();
        let id = running.next;
        running.next += 1;
        running.ops.insert(
            id,
            Entry {
                step,
                what: what.to_string(),
                since_ms: self.clock.boot_ms(),
                failures: 0,
                last_error: None,
            },
        );
        Op {
            ops: self.clone(),
            id,
        }
    }

    /// Operations that failed at least once or run for long, oldest first; ages are as of now.
    pub fn stuck(&self) -> Vec<Stuck> {
        let now = self.clock.boot_ms();
        let running = self.running.lock();
        let all = running.ops.values().map(|op| Stuck {
            step: op.step,
            what: op.what.clone(),
            age_ms: now.saturating_sub(op.since_ms),
            failures: op.failures,
            last_error: op.last_error.clone(),
        });
        all.filter(|op| op.failures > 0 || op.age_ms >= LONG_MS)
            .take(100)
            .collect()
    }

    /// The latest failure of an operation in one of these steps that is still being tried.
    pub fn failing(&self, steps: &[&str]) -> Option<String> {
        let running = self.running.lock();
        running
            .ops
            .values()
            .rev()
            .filter(|op| steps.contains(&op.step))
            .find_map(|op| op.last_error.clone())
    }
}

/// An operation under way.
#[derive(Debug)]
pub struct Op {
    ops: Ops,
    id: u64,
}

impl Op {
    /// It goes on with another step.
    pub fn step(&self, step: &'static str) {
        if let Some(op) = self.ops.running.lock().ops.get_mut(&self.id) {
            op.step = step;
        }
    }

    /// An attempt failed; it will be tried again.
    pub fn failed(&self, error: &dyn Display) {
        if let Some(op) = self.ops.running.lock().ops.get_mut(&self.id) {
            op.failures += 1;
            op.last_error = Some(error.to_string());
            if op.failures.is_power_of_two() {
                tracing::warn!(step = op.step, what = op.what, failures = op.failures, %error, "the store did not do it; trying again");
            }
        }
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        self.ops.running.lock().ops.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_age_rises_while_nothing_happens() {
        let clock = Clock::manual();
        let ops = Ops::new(clock.clone());
        let op = ops.begin("upload", &"key");
        assert!(ops.stuck().is_empty());
        clock.advance(Duration::from_secs(11));
        assert_eq!(ops.stuck()[0].age_ms, 11_000);
        op.failed(&"503");
        assert_eq!(ops.failing(&["upload"]).as_deref(), Some("503"));
        assert_eq!(ops.failing(&["fetch"]), None);
        clock.advance(Duration::from_secs(1));
        assert_eq!(
            (ops.stuck()[0].age_ms, ops.stuck()[0].failures),
            (12_000, 1)
        );
        drop(op);
        assert!(ops.stuck().is_empty());
    }
}
