//! How far a log was cleaned is never said to be further than it is: a tombstone above that goes before what it
//! deletes, and the deleted comes back.

use std::fs;
use std::sync::Arc;

use uuid::Uuid;
use whimbrel_log::{AppendContext, CleanError, Health, Log, Pace};

use crate::compaction::{ALL, Free, Model, config, dirty};
use crate::support::{Crashed, TOPIC, batch, read_all};

/// A log that was cleaned, with more behind that; its clean end is in the checkpoints.
fn cleaned() -> (Model, i64) {
    let model = dirty();
    let end = model.log.clean(ALL, 10, &mut Free).unwrap().clean_end;
    model.disk.sync().unwrap();
    model.disk.checkpoint().unwrap();
    more(&model.log);
    model.disk.sync().unwrap();
    assert!(end > 10);
    (model, end)
}

fn more(log: &Log) {
    for n in 0..40 {
        log.append(batch(n, 3), AppendContext::new(0, 5)).unwrap();
    }
}

fn first_dirty(crashed: &Crashed) -> i64 {
    let (_disk, log) = crashed.open();
    assert_eq!(log.health(), Health::Good);
    log.set_config(config());
    log.dirt(i64::MAX, 10).unwrap().first_dirty
}

#[test]
fn a_flipped_bit_never_has_the_cleaner_pass_over_what_is_dirty() {
    let (model, end) = cleaned();
    let place = &model.place.root;
    assert_eq!(first_dirty(&Crashed::copy_of(place)), end);
    for name in ["cleaner-offset-checkpoint", "clean-points"] {
        let good = fs::read(place.join(name)).unwrap();
        for byte in 0..good.len() {
            for bit in [byte % 3, 3 + byte % 5] {
                let mut bad = good.clone();
                bad[byte] ^= 1 << bit;
                let copy = Crashed::copy_of(place);
                fs::write(copy.root.join(name), bad).unwrap();
                assert!(first_dirty(&copy) <= end, "{name} byte {byte} bit {bit}");
            }
        }
        let copy = Crashed::copy_of(place);
        fs::remove_file(copy.root.join(name)).unwrap();
        assert!(first_dirty(&copy) <= end, "{name} gone");
    }
}

#[test]
fn what_is_written_above_a_cut_is_dirty_after_a_kill_too() {
    let (model, end) = cleaned();
    let to = model.log.truncate(0, end - 3).unwrap().to;
    more(&model.log);
    model.disk.sync().unwrap();
    assert!(to < end && model.log.offsets().log_end > end);
    let crashed = Crashed::copy_of(&model.place.root);
    assert!(first_dirty(&crashed) <= to);
    // And it is cleaned and noted as before.
    let again = model.log.clean(ALL, 20, &mut Free).unwrap().clean_end;
    assert!(again > end);
    model.disk.sync().unwrap();
    model.disk.checkpoint().unwrap();
    let crashed = Crashed::copy_of(&model.place.root);
    assert_eq!(first_dirty(&crashed), again);
}

#[test]
fn a_log_that_was_created_again_was_never_cleaned() {
    let (model, end) = cleaned();
    model.disk.delete(&model.log).unwrap();
    let id = Uuid::from_u128(0x77);
    let fresh = model.disk.create(TOPIC, id, 0, config()).unwrap();
    fresh.begin_epoch(0).unwrap();
    more(&fresh);
    model.disk.sync().unwrap();
    assert!(fresh.offsets().log_end > end);
    assert_eq!(first_dirty(&Crashed::copy_of(&model.place.root)), 0);
}

/// Cuts the log while it is cleaned, and writes on.
struct Cutting<'a> {
    log: &'a Arc<Log>,
    to: i64,
    left: Option<Vec<u8>>,
}

impl Pace for Cutting<'_> {
    fn moved(&mut self, _bytes: u64) -> bool {
        if self.left.is_none() {
            self.log.truncate(0, self.to).unwrap();
            more(self.log);
            self.log.roll().unwrap();
            self.left = Some(read_all(self.log, 0));
        }
        true
    }
}

#[test]
fn a_cleaning_does_not_bring_back_what_was_cut_meanwhile() {
    let model = dirty();
    let first = model.log.segments()[0].end_offset;
    let mut cutting = Cutting {
        log: &model.log,
        to: first - 1,
        left: None,
    };
    let done = model.log.clean(ALL, 10, &mut cutting);
    assert!(matches!(done, Err(CleanError::Changed { .. })), "{done:?}");
    assert_eq!(read_all(&model.log, 0), cutting.left.unwrap());
    assert_eq!(model.log.dirt(i64::MAX, 10).unwrap().first_dirty, 0);
}
