//! Golden files: what was written once must be readable for years, and be written so again.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use uuid::Uuid;
use whimbrel_tiering::{
    broker::slice_from,
    format::{Keys, Opened, TRAILER_BYTES, Unit},
    meta::Document,
    prepare::{PrepareError, Prepared, Writer, merge, prepare},
    root::{Claim, Hold, Moved, Root, Stamp, Unlinked, claim},
    store::Source,
};

use crate::support::{Log, at};

fn writer() -> Writer {
    Writer {
        region: "east".into(),
        incarnation: Uuid::from_u128(0x1c),
        epoch: 3,
        random: 0xabcd_ef01,
        now_ms: 1_760_000_000_000,
    }
}

fn prepared(log: &Log, n: usize) -> Prepared {
    let dir = log.segments[n].2.parent().unwrap();
    prepare(&slice_from(&log.slice(n, 1), dir).unwrap(), &writer()).unwrap()
}

fn object_bytes(prepared: &Prepared) -> Vec<u8> {
    read_source(&prepared.source)
}

fn read_source(source: &Source) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read: Result<(), std::io::Error> = source.read(1 << 20, |piece| {
        bytes.extend_from_slice(&piece);
        Ok(())
    });
    read.unwrap();
    bytes
}

fn root_with(prepared: &Prepared) -> Root {
    let by = Claim {
        incarnation: Uuid::from_u128(0x1c),
        nonce: Uuid::from_u128(0x2d),
        region: "east",
        shard: 4,
        shards: 16,
        now_ms: 1_760_000_000_000,
    };
    let mut root = claim(None, &by);
    root.commit(&Keys::new("east"), &prepared.commit, 1)
        .unwrap();
    root.truncate(&Keys::new("east"), at(0), 1, 20, 1).unwrap();
    root
}

/// Compares with the golden file, or writes it when `WHIMBREL_BLESS` is set.
fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/golden")
        .join(name);
    if std::env::var_os("WHIMBREL_BLESS").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    assert!(
        fs::read(&path).unwrap() == bytes,
        "{name} is written differently now"
    );
}

#[test]
fn object_and_root_are_written_as_they_always_were() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::write(dir.path(), 0, &[vec![(10, 40), (10, 2_000), (10, 40)]]);
    let ready = prepared(&log, 0);
    golden("object-v1.bin", &object_bytes(&ready));
    golden("root-v1.bin", &root_with(&ready).encode());
}

#[test]
fn merged_objects_and_parts_are_written_as_they_always_were() {
    let dir = tempfile::tempdir().unwrap();
    let slices: Vec<_> = (0..3)
        .map(|p| {
            let log = Log::write(dir.path(), p, &[vec![(10, 40), (2, 300)]]);
            let mut slice = log.slice(0, 0);
            slice.path.clear();
            slice.inline = log.segments[0].3.clone().into();
            slice_from(&slice, dir.path()).unwrap()
        })
        .collect();
    let (merged, refused) = merge(&slices, &writer());
    let merged = merged.unwrap();
    assert!(refused.is_empty());
    golden("merged-v1.bin", &read_source(&merged.source));
    let mut root = root_with(&prepared(&Log::write(dir.path(), 9, &[vec![(10, 40)]]), 0));
    for commit in &merged.commits {
        root.commit(&Keys::new("east"), commit, 1).unwrap();
    }
    for n in 1..6 {
        let mut next = merged.commits[1].clone();
        next.entry.base = n * 12;
        next.entry.end = n * 12 + 12;
        next.entry.object_end = next.entry.end;
        root.commit(&Keys::new("east"), &next, 1).unwrap();
    }
    let spilled = root.spill(3, 0x77).unwrap();
    golden("part-v1.bin", &spilled.bytes);
    golden("root-v2.bin", &root.encode());
    assert_eq!(Root::decode(&root.encode()).unwrap(), root);
}

#[test]
fn a_root_with_a_hold_is_written_as_it_always_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut root = root_with(&prepared(&Log::write(dir.path(), 0, &[vec![(10, 40)]]), 0));
    root.pending.push(Unlinked {
        key: Keys::new("east").kept_root(4, 1, 64),
        unlinked_ms: 1_760_000_000_001,
    });
    root.hold(&Hold {
        region: "west".into(),
        incarnation: Uuid::from_u128(0x3e),
        nonce: Uuid::from_u128(0x4f),
        since_ms: 1_760_000_000_002,
        before: 0,
    })
    .unwrap();
    golden("root-v3.bin", &root.encode());
    assert_eq!(Root::decode(&root.encode()).unwrap(), root);
}

#[test]
fn what_describes_the_fleet_is_written_as_it_always_was() {
    let (document, head) = crate::meta::golden();
    golden("meta-v1.bin", &document.encode().unwrap());
    golden("meta-head-v1.bin", &head.encode());
    assert_eq!(
        Document::decode(&document.encode().unwrap()).unwrap(),
        document
    );
}

#[test]
fn a_tombstone_is_written_as_it_always_was() {
    let moved = Moved {
        stamp: Stamp {
            incarnation: Uuid::from_u128(0x1c),
            epoch: 7,
            sequence: 1_001,
            nonce: Uuid::from_u128(0x2d),
        },
        region: "east".into(),
        unit: Unit::Shard(3),
        id: Uuid::from_u128(0x0303),
        written_ms: 1_700_000_000_000,
        to: "s3://bucket/whimbrel?region=eu-1".into(),
    };
    golden("moved-v1.bin", &moved.encode());
    assert_eq!(Moved::decode(&moved.encode()).unwrap(), moved);
}

#[test]
fn a_tail_with_one_bit_changed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::write(dir.path(), 0, &[vec![(3, 40); 3]]);
    let bytes = object_bytes(&prepared(&log, 0));
    let whole = Opened::parse(&bytes, 0, bytes.len() as u64).unwrap();
    assert_eq!(whole.slice_at(0).unwrap().meta.records, 9);
    for bit in 0..bytes.len() * 8 {
        let mut bent = bytes.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert!(
            Opened::parse(&bent, 0, bytes.len() as u64).is_err(),
            "bit {bit}"
        );
    }
    for cut in [0, 1, TRAILER_BYTES, bytes.len() - 1] {
        assert!(Opened::parse(&bytes[..cut], 0, cut as u64).is_err());
    }
    assert!(Opened::parse(&bytes, 1 << 18, bytes.len() as u64 + (1 << 18)).is_err());
}

#[test]
fn damaged_or_misplaced_batches_are_not_uploaded() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::write(dir.path(), 0, &[vec![(5, 100); 4], vec![(5, 100); 2]]);
    let good = slice_from(&log.slice(0, 1), dir.path()).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = log.segments[0].3.clone();
        change(&mut bytes);
        let path = dir.path().join("bent");
        fs::write(&path, &bytes).unwrap();
        let bent = whimbrel_tiering::prepare::Slice {
            path,
            bytes: bytes.len() as u64,
            ..good.clone()
        };
        prepare(&bent, &writer()).unwrap_err()
    };
    assert!(matches!(
        refused(&|b| b[100] ^= 1),
        PrepareError::Batch { .. }
    ));
    assert!(matches!(
        refused(&|b| b.truncate(b.len() - 1)),
        PrepareError::Batch { .. }
    ));
    assert!(matches!(
        refused(&|b| b.truncate(b.len() / 4)),
        PrepareError::Order { .. }
    ));
    assert!(matches!(
        refused(&|b| b[15] = 9),
        PrepareError::Order { .. }
    ));
    assert!(matches!(
        refused(&|b| b.rotate_left(log.batches[0].2.len())),
        PrepareError::Order { .. }
    ));
    let outside = tempfile::NamedTempFile::new().unwrap();
    let mut slice = log.slice(0, 1);
    for path in [
        outside.path().display().to_string(),
        "../../etc/passwd".to_owned(),
        "missing".to_owned(),
    ] {
        slice.path = path;
        assert!(slice_from(&slice, dir.path()).is_err());
    }
}

proptest! {
    #[test]
    fn random_bytes_are_never_an_object(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Opened::parse(&bytes, 0, bytes.len() as u64).is_err());
        bytes.extend_from_slice(b"WBTRAIL1");
        bytes.resize(bytes.len() + 56, 0);
        prop_assert!(Opened::parse(&bytes, 0, bytes.len() as u64).is_err());
    }
}
