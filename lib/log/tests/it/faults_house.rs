//! Calls that fail in what the house does beside appends: logs are cleaned, rolled, cut, freed, made, deleted and set
//! aside, with EIO and ENOSPC at every call of it.

use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use whimbrel_log::calls::{Call, watch};
use whimbrel_log::{AppendContext, Disk, Log};
use whimbrel_wire::BatchBuilder;

use crate::compaction::{self, Free, Model};
use crate::faults::{EIO, ENOSPC, Failing};
use crate::kills::PRODUCER;
use crate::power_house::{CLEANED, FREED, HURT, House, MADE, There, begun, check, named};
use crate::support::{Crashed, batch, quick_dir, small_segments};

struct Keeper<'a> {
    disk: &'a Disk,
    logs: &'a [Arc<Log>],
    house: House,
    failures: Vec<String>,
    /// A log that could not be deleted has its name until the next start.
    is_stuck: bool,
}

impl Keeper<'_> {
    fn noted<T, E: std::fmt::Display>(&mut self, done: Result<T, E>) -> Option<T> {
        done.map_err(|error| self.failures.push(error.to_string()))
            .ok()
    }

    fn append(&mut self, n: u8) {
        let [cleaned, freed] = [CLEANED, FREED].map(|topic| named(self.logs, topic).unwrap());
        let now = AppendContext::new(0, 1000 * i64::from(n));
        for k in 0..6_u8 {
            let records = [(k % 4, (k % 5 != 3).then_some(n)), (n, Some(k))];
            let base = cleaned.offsets().log_end;
            for (at, (key, value)) in (base..).zip(records) {
                let value = value.map(|value| format!("value-{value:050}"));
                let record = (format!("key-{key}"), value);
                self.house.written.insert(at, record);
            }
            let bytes = Model::build(BatchBuilder::new(0), &records);
            self.noted(cleaned.append(bytes, now));
            let sequence = i32::try_from(freed.offsets().log_end).unwrap();
            self.noted(freed.append(produced(sequence), now));
        }
        let synced = self.disk.sync();
        if self.noted(synced).is_some() {
            self.house.cleaned_end = cleaned.offsets().durable_end;
            self.house.freed_end = freed.offsets().durable_end;
        }
    }

    fn made_and_gone(&mut self, n: u8) {
        self.house.made = There::Unsettled;
        if self.is_stuck {
            return;
        }
        if let Some(before) = named(&self.disk.logs(), MADE) {
            let gone = self.disk.delete(before);
            if self.noted(gone).is_none() {
                self.is_stuck = true;
                return;
            }
            self.house.made = There::Gone;
        }
        self.house.made = There::Unsettled;
        let id = Uuid::from_u128(100 + u128::from(n));
        let made = self.disk.create(MADE, id, 0, small_segments());
        let Some(made) = self.noted(made) else { return };
        let begun = made.begin_epoch(0);
        self.noted(begun);
        let appended = made.append(batch(0, 3), AppendContext::new(0, 1));
        let synced = self.disk.sync();
        if self.noted(appended).is_some() && self.noted(synced).is_some() {
            self.house.made = There::Upto(3);
        }
    }

    fn round(&mut self, n: u8) {
        let [cleaned, freed, hurt] =
            [CLEANED, FREED, HURT].map(|topic| named(self.logs, topic).unwrap());
        self.append(n);
        self.noted(cleaned.roll());
        self.noted(freed.roll());
        self.made_and_gone(n);
        self.noted(cleaned.clean(compaction::ALL, 10, &mut Free));
        if n == 0 {
            let set_aside = hurt.set_aside_damage();
            self.house.is_set_aside |= self.noted(set_aside).is_some();
        }
        let offsets = freed.offsets();
        let to = offsets.log_end - 6;
        self.house.freed_end = self.house.freed_end.min(to);
        self.noted(freed.truncate(0, to));
        match n {
            0 => drop(self.noted(freed.free_local_before(6))),
            1 => drop(self.noted(freed.set_log_start(10))),
            _ => {}
        }
        self.noted(self.disk.checkpoint());
    }
}

fn produced(sequence: i32) -> bytes::Bytes {
    crate::support::produced(PRODUCER, 0, sequence, 2)
}

fn checked(root: &Path, house: &House, damaged: &[u8], number: usize) {
    check(&Crashed::copy_of(root).root, house, damaged, number);
}

/// `count` calls fail from every place on.
fn at_every_place(hits: fn(Call) -> bool, errno: i32, count: usize) {
    for first in 0.. {
        let dir = quick_dir();
        let root = dir.path().join("data");
        let (disk, logs, damaged) = begun(&root);
        let failing = Failing::some(hits, errno, first, count);
        let watching = watch(&root, failing.clone());
        let mut keeper = Keeper {
            disk: &disk,
            logs: &logs,
            house: House::default(),
            failures: Vec::new(),
            is_stuck: false,
        };
        for n in 0..2 {
            keeper.round(n);
        }
        if !failing.has_failed() {
            assert!(first > 60 && keeper.failures.is_empty(), "{first}");
            break;
        }
        failing.stop();
        checked(&root, &keeper.house, &damaged, first);
        if disk.failed().is_none() {
            // The disk is well again, and all is done that was not.
            keeper.failures.clear();
            keeper.round(2);
            assert_eq!(keeper.failures, [""; 0], "{first}");
            assert!(keeper.house.cleaned_end > 0);
        }
        checked(&root, &keeper.house, &damaged, first);
        let _ = disk.close();
        drop(watching);
        checked(&root, &keeper.house, &damaged, first);
    }
}

#[test]
fn an_io_error_of_any_one_call_of_the_house_loses_nothing() {
    at_every_place(|_| true, EIO, 1);
}

#[test]
fn io_errors_from_any_call_of_the_house_on_lose_nothing() {
    at_every_place(|_| true, EIO, usize::MAX);
}

#[test]
fn a_disk_that_is_full_at_any_call_of_the_house_loses_nothing_and_goes_on() {
    at_every_place(Call::takes_space, ENOSPC, 1);
    at_every_place(Call::takes_space, ENOSPC, usize::MAX);
}
