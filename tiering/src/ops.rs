//! What the daemon is doing at the store, and since when: so that something stuck has a name, a step, an
//! age and a cause.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;
use serde::Serialize;
use whimbrel_runtime::Clock;

use crate::{Meter, format::FormatError};

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
    part: Part,
    what: String,
    since_ms: u64,
    failures: u32,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    error: String,
    cause: String,
    /// Failures in a row with this cause.
    times: u32,
}

/// Why an attempt failed, in a word or two: `503`. What it displays has the whole story.
pub trait Cause: Display {
    fn cause(&self) -> String;
}

impl Cause for FormatError {
    fn cause(&self) -> String {
        "damaged".to_owned()
    }
}

/// The part of a long operation that is under way, counted from 1; 0 when it has none. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Part(Arc<AtomicU32>);

impl Part {
    pub fn set(&self, number: u32) {
        self.0.store(number, Ordering::Relaxed);
    }
}

/// One operation that has taken long or has failed.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Stuck {
    /// `PUT part 3`
    pub step: String,
    pub what: String,
    pub age_ms: u64,
    pub failures: u32,
    /// The last failure in a word or two, and how often in a row it came.
    pub cause: Option<String>,
    pub times: u32,
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
                part: Part::default(),
                what: what.to_string(),
                since_ms: self.clock.boot_ms(),
                failures: 0,
                last: None,
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
        let age_ms = |op: &Entry| now.saturating_sub(op.since_ms);
        let stuck = running
            .ops
            .values()
            .filter(|op| op.failures > 0 || age_ms(op) >= LONG_MS);
        stuck
            .take(100)
            .map(|op| Stuck {
                step: op.step_text(),
                what: op.what.clone(),
                age_ms: age_ms(op),
                failures: op.failures,
                cause: op.last.as_ref().map(|l| l.cause.clone()),
                times: op.last.as_ref().map_or(0, |l| l.times),
                last_error: op.last.as_ref().map(|l| l.error.clone()),
            })
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
            .find_map(|op| op.last.as_ref().map(|l| l.error.clone()))
    }
}

impl Entry {
    fn step_text(&self) -> String {
        match self.part.0.load(Ordering::Relaxed) {
            0 => self.step.to_owned(),
            part => format!("{} part {part}", self.step),
        }
    }

    fn failed(&mut self, error: &dyn Cause) {
        let cause = error.cause();
        let before = self.last.take().filter(|last| last.cause == cause);
        self.failures += 1;
        self.last = Some(Last {
            error: error.to_string(),
            times: before.map_or(0, |last| last.times).saturating_add(1),
            cause,
        });
    }
}

/// An operation under way.
#[derive(Debug)]
pub struct Op {
    ops: Ops,
    id: u64,
}

impl Op {
    /// It goes on with another step, which has no parts.
    pub fn step(&self, step: &'static str) {
        self.step_in_parts(step, &Part::default());
    }

    /// It goes on with another step, and `part` tells how far that is.
    pub fn step_in_parts(&self, step: &'static str, part: &Part) {
        if let Some(op) = self.ops.running.lock().ops.get_mut(&self.id) {
            op.step = step;
            op.part = part.clone();
        }
    }

    /// An attempt failed; it will be tried again.
    pub fn failed(&self, error: &dyn Cause) {
        if let Some(op) = self.ops.running.lock().ops.get_mut(&self.id) {
            op.failed(error);
            if op.failures.is_power_of_two() {
                tracing::warn!(step = op.step_text(), what = op.what, failures = op.failures, %error, "the store did not do it; trying again");
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

    impl Cause for &str {
        fn cause(&self) -> String {
            (*self).to_owned()
        }
    }

    #[test]
    fn what_is_stuck_says_in_which_part_and_how_often_for_the_same_cause() {
        let clock = Clock::manual();
        let ops = Ops::new(clock.clone());
        let (op, part) = (ops.begin("read slice", &"key"), Part::default());
        op.failed(&"no answer");
        op.step_in_parts("PUT", &part);
        part.set(3);
        for _ in 0..6 {
            op.failed(&"503");
        }
        clock.advance(Duration::from_secs(47));
        let stuck = ops.stuck().remove(0);
        assert_eq!((stuck.step.as_str(), stuck.age_ms), ("PUT part 3", 47_000));
        assert_eq!((stuck.cause.as_deref(), stuck.times), (Some("503"), 6));
        assert_eq!(stuck.failures, 7);
        op.step("commit");
        assert_eq!(ops.stuck()[0].step, "commit");
    }

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
