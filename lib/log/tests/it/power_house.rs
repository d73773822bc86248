//! The second film of power cuts (see [`crate::power`]): what the house does beside appends. Logs are cleaned, made,
//! deleted, freed, set aside, and their snapshots written.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;
use whimbrel_log::{AppendContext, Disk, Health, Log};
use whimbrel_wire::{BatchBuilder, Batches};

use crate::compaction::{self, Free, Model, Seen};
use crate::kills::{PRODUCER, retries_are_duplicates};
use crate::power::{Camera, Studio, passed_over};
use crate::support::{batch, flip, open, produced, read_all, small_segments};

pub const CLEANED: &str = "cleaned";
pub const FREED: &str = "freed";
pub const HURT: &str = "hurt";
pub const MADE: &str = "made";

/// Whether a log is there, where that is settled.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum There {
    #[default]
    Gone,
    Unsettled,
    Upto(i64),
}

#[derive(Debug, Clone, Default)]
pub struct House {
    pub cleaned_end: i64,
    /// All that may be in the log that is cleaned.
    pub written: BTreeMap<i64, Seen>,
    pub freed_end: i64,
    pub made: There,
    pub is_set_aside: bool,
}

pub fn named<'a>(logs: &'a [Arc<Log>], topic: &str) -> Option<&'a Arc<Log>> {
    logs.iter().find(|log| log.topic() == topic)
}

/// The logs, and the bytes of the damaged one. Its first segment is damaged where it was durable.
pub fn begun(root: &Path) -> (Arc<Disk>, Vec<Arc<Log>>, Vec<u8>) {
    let (disk, _) = open(root).unwrap();
    let configs = [
        (CLEANED, compaction::config()),
        (FREED, small_segments()),
        (HURT, small_segments()),
    ];
    for (id, (topic, config)) in configs.iter().enumerate() {
        let id = Uuid::from_u128(id as u128 + 1);
        let log = disk.create(topic, id, 0, config.clone()).unwrap();
        log.begin_epoch(0).unwrap();
        if *topic == HURT {
            for n in 0..9 {
                log.append(batch(n, 3), AppendContext::new(0, n)).unwrap();
            }
        }
    }
    disk.sync().unwrap();
    disk.flush_durable_points().unwrap();
    drop(disk);
    let damaged = root.join(format!("{HURT}-0/00000000000000000000.log"));
    flip(&damaged, 2000);
    let (disk, logs) = open(root).unwrap();
    for (topic, config) in configs {
        named(&logs, topic).unwrap().set_config(config);
    }
    (disk, logs, fs::read(damaged).unwrap())
}

fn film(camera: &Camera<House>, disk: &Disk, logs: &[Arc<Log>]) {
    let [cleaned, freed, hurt] = [CLEANED, FREED, HURT].map(|topic| named(logs, topic).unwrap());
    for n in 0..3_u8 {
        let now = AppendContext::new(0, 1000 * i64::from(n));
        for k in 0..12_u8 {
            let records = [(k % 4, (k % 5 != 3).then_some(n)), (n, Some(k))];
            let base = cleaned.offsets().log_end;
            camera.promise(|house| {
                for (at, (key, value)) in (base..).zip(records) {
                    let value = value.map(|value| format!("value-{value:050}"));
                    house.written.insert(at, (format!("key-{key}"), value));
                }
            });
            let bytes = Model::build(BatchBuilder::new(0), &records);
            assert_eq!(cleaned.append(bytes, now).unwrap().base_offset, base);
            let sequence = i32::try_from(freed.offsets().log_end).unwrap();
            freed
                .append(produced(PRODUCER, 0, sequence, 2), now)
                .unwrap();
        }
        disk.sync().unwrap();
        camera.promise(|house| {
            house.cleaned_end = cleaned.offsets().durable_end;
            house.freed_end = freed.offsets().durable_end;
        });
        cleaned.roll().unwrap();
        // With it a snapshot of the producers.
        freed.roll().unwrap();
        made_and_gone(camera, disk, n);
        let done = cleaned.clean(compaction::ALL, 10, &mut Free).unwrap();
        assert!(done.bytes_after < done.bytes_before);
        match n {
            0 => {
                hurt.set_aside_damage().unwrap();
                camera.promise(|house| house.is_set_aside = true);
            }
            1 => drop(freed.free_local_before(20).unwrap()),
            _ => drop(freed.set_log_start(30).unwrap()),
        }
    }
    disk.checkpoint().unwrap();
}

/// A log is made, and the one of the round before goes.
fn made_and_gone(camera: &Camera<House>, disk: &Disk, n: u8) {
    camera.promise(|house| house.made = There::Unsettled);
    if let Some(before) = named(&disk.logs(), MADE) {
        disk.delete(before).unwrap();
        camera.promise(|house| house.made = There::Gone);
    }
    if n == 2 {
        return;
    }
    camera.promise(|house| house.made = There::Unsettled);
    let id = Uuid::from_u128(100 + u128::from(n));
    let made = disk.create(MADE, id, 0, small_segments()).unwrap();
    made.begin_epoch(0).unwrap();
    made.append(batch(0, 3), AppendContext::new(0, 1)).unwrap();
    disk.sync().unwrap();
    camera.promise(|house| house.made = There::Upto(3));
}

pub fn check(root: &Path, house: &House, damaged: &[u8], number: usize) {
    let (disk, logs) = open(root).unwrap();
    let context = format!("cut {number}");
    let cleaned = named(&logs, CLEANED).unwrap();
    let end = cleaned.offsets().log_end;
    assert!(end >= house.cleaned_end, "{context}: {end} {house:?}");
    let there = house.written.range(..end);
    let there = there.map(|(at, seen)| (*at, seen.clone())).collect();
    compaction::check(&there, cleaned, &context);

    let freed = named(&logs, FREED).unwrap();
    let offsets = freed.offsets();
    assert!(
        offsets.log_end >= house.freed_end,
        "{context}: {offsets:?} {}",
        house.freed_end
    );
    let mut next = offsets.local_log_start;
    for one in Batches::new(read_all(freed, next).into()) {
        let header = one.unwrap().header;
        assert!(header.base_offset <= next, "{context}");
        assert_eq!(i64::from(header.base_sequence), header.base_offset);
        next = header.next_offset();
    }
    assert_eq!(next, offsets.log_end, "{context}");
    retries_are_duplicates(freed, number);

    match (house.made, named(&logs, MADE)) {
        (There::Unsettled, _) | (There::Gone, None) => {}
        (There::Upto(end), Some(made)) => assert!(made.offsets().log_end >= end, "{context}"),
        (settled, found) => panic!("{context}: {settled:?} {found:?}"),
    }

    let hurt = named(&logs, HURT).unwrap();
    let good = hurt.health() == Health::Good;
    assert!(good || !house.is_set_aside, "{context}");
    if good {
        let kept = root.join(format!("quarantine/{HURT}-0/00000000000000000000.log"));
        assert_eq!(fs::read(kept).unwrap(), damaged, "{context}");
    }
    for log in &logs {
        if log.topic() == HURT && !good {
            continue;
        }
        assert_eq!(log.health(), Health::Good, "{context}: {}", log.name());
        log.begin_epoch(1).unwrap();
        let bytes = if log.topic() == CLEANED {
            Model::build(BatchBuilder::new(0), &[(1, Some(1))])
        } else {
            batch(99, 1)
        };
        log.append(bytes, AppendContext::new(1, 1)).unwrap();
    }
    disk.sync().unwrap();
}

#[test]
fn a_power_cut_at_any_sync_of_what_the_house_does_loses_nothing_acknowledged() {
    let studio = match Studio::new() {
        Ok(studio) => studio,
        Err(why) => return eprintln!("{}", passed_over(why)),
    };
    let (disk, logs, damaged) = begun(&studio.root());
    assert_ne!(named(&logs, HURT).unwrap().health(), Health::Good);
    let (camera, watch) = studio.camera();
    film(&camera, &disk, &logs);
    drop(watch);
    drop((disk, logs));
    let shots = studio.develop(&camera, |root, house, number| {
        check(root, house, &damaged, number);
    });
    assert!(shots > 60, "{shots}");
}
