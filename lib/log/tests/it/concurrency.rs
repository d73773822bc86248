//! Appends, syncs, reads, truncations and freeing at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use whimbrel_log::{AppendContext, ReadError};
use whimbrel_wire::Batches;

use crate::support::{Fixture, batch};

/// Reads from `from` as a consumer does and returns how far it got.
fn follow(log: &whimbrel_log::Log, mut from: i64, stop: &AtomicBool, durable_only: bool) -> i64 {
    loop {
        let last_look = stop.load(Ordering::Acquire);
        let offsets = log.offsets();
        let upto = if durable_only {
            offsets.durable_end
        } else {
            offsets.log_end
        };
        match log.read(from, 2000, true, upto) {
            Ok(slice) => {
                let mut next = from;
                for one in Batches::new(slice.records) {
                    let one = one.unwrap();
                    one.verify_crc().unwrap();
                    assert!(
                        one.header.base_offset <= next && one.header.next_offset() > next,
                        "gap at {next}"
                    );
                    next = one.header.next_offset();
                }
                assert_eq!(next.max(from), slice.next_offset.max(from));
                from = slice.next_offset;
            }
            // The log was cut below us, or freed above us: go where it is.
            Err(ReadError::OutOfRange { log_end, .. }) => from = log_end,
            Err(ReadError::BelowLocal { local_start, .. }) => from = local_start,
            Err(error) => panic!("{error}"),
        }
        if last_look && from >= log.offsets().log_end.min(upto) {
            return from;
        }
    }
}

#[test]
fn readers_see_every_durable_record_once_and_in_order() {
    let f = Fixture::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| follow(&f.log, 0, &stop, true)))
            .collect();
        let flusher = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let before = f.log.offsets().log_end;
                f.sync();
                assert!(f.log.offsets().durable_end >= before);
            }
            f.sync();
        });
        for n in 0..2000 {
            f.log.append(batch(n, 2), AppendContext::new(0, n)).unwrap();
        }
        // Readers leave once they have seen what was durable when they looked last.
        f.sync();
        stop.store(true, Ordering::Release);
        flusher.join().unwrap();
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 4000);
        }
    });
    assert!(f.log.segments().len() > 50);
}

#[test]
fn truncation_and_freeing_never_show_a_reader_a_mixture() {
    let f = Fixture::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| follow(&f.log, 0, &stop, false)))
            .collect();
        let flusher = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                f.sync();
            }
        });
        let mut epoch = 0;
        for n in 0..1500_i64 {
            f.log
                .append(batch(n, 1 + (n % 7) as usize), AppendContext::new(epoch, n))
                .unwrap();
            let offsets = f.log.offsets();
            if n % 40 == 39 {
                let to = offsets.log_end - (offsets.log_end - offsets.local_log_start).min(60);
                let owner = f
                    .log
                    .lineage()
                    .iter()
                    .rev()
                    .find(|e| e.start_offset < to)
                    .map_or(0, |e| e.epoch);
                f.log.truncate(owner, to).unwrap();
                epoch += 1;
                f.log.begin_epoch(epoch).unwrap();
            }
            if n % 100 == 99 {
                f.log.free_local_before(offsets.durable_end - 200).unwrap();
            }
        }
        stop.store(true, Ordering::Release);
        flusher.join().unwrap();
        for reader in readers {
            reader.join().unwrap();
        }
    });
    f.sync();
    let whole = crate::support::read_all(&f.log, f.log.offsets().local_log_start);
    for one in Batches::new(Bytes::from(whole.clone())) {
        one.unwrap().verify_crc().unwrap();
    }
    let (_disk, crashed) = f.crash().open();
    assert_eq!(
        crate::support::read_all(&crashed, crashed.offsets().local_log_start),
        whole
    );
}
