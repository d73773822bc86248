use std::{fs, path::Path};

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use whimbrel_client::{Aborted, committed};
use whimbrel_wire::{
    Batch, BatchBuilder, Codec, Record,
    control::{ControlType, Marker, MarkerBatch},
};

use super::{writer::tests::read, *};

const CODECS: [Codec; 5] = [
    Codec::None,
    Codec::Gzip,
    Codec::Snappy,
    Codec::Lz4,
    Codec::Zstd,
];

/// What comes next in a log.
#[derive(Clone, Debug)]
enum Next {
    Plain {
        records: i64,
        codec: usize,
    },
    Aborted {
        producer: i64,
        records: i64,
    },
    /// Offsets that compaction took.
    Gap(i64),
}

fn any_next() -> impl Strategy<Value = Next> {
    prop_oneof![
        (1..9_i64, 0..5_usize).prop_map(|(records, codec)| Next::Plain { records, codec }),
        (0..3_i64, 1..9_i64).prop_map(|(producer, records)| Next::Aborted { producer, records }),
        (1..9_i64).prop_map(Next::Gap),
    ]
}

fn take(bytes: Bytes) -> Batch {
    Batch::take(&mut bytes.clone()).unwrap()
}

fn records(builder: BatchBuilder, count: i64, base: i64) -> Batch {
    let mut builder = builder;
    for n in 0..count {
        let value = format!("value {}", base + n);
        builder
            .add(5, Some(b"key"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    take(builder.finish().unwrap())
}

/// A log of batches, and what was aborted in it. Each aborted transaction is one batch and its marker.
fn log(parts: &[Next]) -> (Vec<Batch>, Vec<Aborted>, i64) {
    let (mut batches, mut aborted, mut end) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        match part {
            Next::Plain {
                records: count,
                codec,
            } => {
                let builder = BatchBuilder::new(end).codec(CODECS[*codec]);
                batches.push(records(builder, *count, end));
                end += count;
            }
            Next::Aborted {
                producer,
                records: count,
            } => {
                let builder = BatchBuilder::new(end).producer(*producer, 0, 0);
                batches.push(records(builder.transactional(true), *count, end));
                aborted.push(Aborted {
                    producer_id: *producer,
                    first_offset: end,
                });
                end += count;
                batches.push(marker(end, *producer));
                end += 1;
            }
            Next::Gap(count) => end += count,
        }
    }
    (batches, aborted, end)
}

fn marker(base_offset: i64, producer_id: i64) -> Batch {
    let marker = Marker {
        control_type: ControlType::Abort,
        coordinator_epoch: 0,
    };
    let batch = MarkerBatch {
        base_offset,
        leader_epoch: 0,
        timestamp_ms: 5,
        producer_id,
        producer_epoch: 0,
        marker,
    };
    take(batch.build().unwrap())
}

fn answer(batches: &[Batch], aborted: &[Aborted]) -> Fetched {
    let ends = batches.iter().map(|b| b.header.next_offset());
    let starts = batches.iter().map(|b| b.header.base_offset);
    let (low, high) = (starts.min().unwrap_or(0), ends.max().unwrap_or(0));
    let touches = |a: &&Aborted| (low..high).contains(&a.first_offset);
    Fetched {
        batches: batches.to_vec(),
        high_watermark: high,
        last_stable_offset: high,
        log_start: 0,
        aborted: aborted.iter().filter(touches).copied().collect(),
    }
}

fn work(file: &Path, from: i64, to: i64) -> Work {
    let output = Output::create(file.to_owned(), false, "topic").unwrap();
    let bounds = Bounds {
        partition: 3,
        from,
        to,
    };
    Work::new(output, "topic", bounds)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_is_exported_is_what_a_consumer_reads(
        parts in vec(any_next(), 1..20),
        percents in (0..=100_i64, 0..=100_i64),
        cut in 0..40_usize,
    ) {
        let (batches, aborted, end) = log(&parts);
        let (low, high) = (percents.0.min(percents.1), percents.0.max(percents.1));
        let (from, to) = (end * low / 100, end * high / 100);
        let (seen, _) = committed(answer(&batches, &aborted), from).unwrap();
        let wanted: Vec<(i32, Record)> =
            seen.into_iter().filter(|r| r.offset < to).map(|r| (3, r)).collect();

        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("records");
        // A marker stands beside what it ends: the second answer begins with a whole transaction.
        let mut cut = cut.min(batches.len());
        while batches.get(cut).is_some_and(|b| b.header.is_control()) {
            cut += 1;
        }
        let mut work = work(&file, from, to);
        for part in [&batches[..cut], &batches[cut..]] {
            work = work.take(answer(part, &aborted)).unwrap();
        }
        prop_assert_eq!(work.records, wanted.len() as u64);
        work.output.finish().unwrap();
        prop_assert_eq!(read(fs::read(&file).unwrap().into()), wanted);
    }
}

#[test]
fn a_record_that_cannot_be_read_ends_it_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let whole = records(BatchBuilder::new(0).codec(Codec::Zstd), 4, 0);
    let mut bytes = BatchBuilder::new(4).codec(Codec::Zstd);
    bytes.add(5, None, Some(&[7; 100]), &[]).unwrap();
    let mut bytes = bytes.finish().unwrap().to_vec();
    // Behind the header is the frame's magic number.
    bytes[61] ^= 0xff;
    let bent = take(bytes.into());
    let failed = work(&dir.path().join("records"), 0, 5)
        .take(answer(&[whole, bent], &[]))
        .unwrap_err();
    assert!(
        matches!(failed, ExportError::Records { offset: 4, .. }),
        "{failed}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
