//! Owner, lock, names, many logs, files of Kafka's shape.

use std::fs;

use uuid::Uuid;
use whimbrel_log::{Disk, DiskOptions, Health, LogConfig, LogError, OpenError};

use crate::support::{Fixture, append, bases, batch, copy_dir, file_of, open, options};

#[test]
fn a_directory_is_used_by_one_process_of_its_owner() {
    let f = Fixture::new();
    let second = Disk::open(options(&f.root), 1);
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    let root = f.root.clone();
    f.disk.close().unwrap();
    let Fixture { disk, log, .. } = &f;
    assert!(disk.sync().is_err());
    let _ = log;
    let copy = tempfile::tempdir().unwrap();
    copy_dir(&root, copy.path());
    let foreign = DiskOptions {
        cluster_id: "other".to_owned(),
        ..options(copy.path())
    };
    assert!(matches!(
        Disk::open(foreign, 0),
        Err(OpenError::ForeignFleet { .. })
    ));
    let foreign = DiskOptions {
        node_id: 2,
        ..options(copy.path())
    };
    assert!(matches!(
        Disk::open(foreign, 0),
        Err(OpenError::ForeignNode {
            found: 1,
            expected: 2
        })
    ));
    fs::write(copy.path().join("meta.properties"), "junk").unwrap();
    assert!(matches!(open(copy.path()), Err(OpenError::BadMeta { .. })));
}

#[test]
fn names_that_leave_the_directory_and_logs_that_are_there_are_refused() {
    let f = Fixture::new();
    let create = |topic: &str, partition| {
        f.disk
            .create(topic, Uuid::nil(), partition, LogConfig::default())
    };
    assert!(matches!(
        create("../x", 0),
        Err(LogError::InvalidName { .. })
    ));
    assert!(matches!(create("x", -1), Err(LogError::InvalidName { .. })));
    assert!(matches!(create("t", 0), Err(LogError::Exists { .. })));
    f.disk.delete(&f.log).unwrap();
    create("t", 0).unwrap();
}

#[test]
fn many_logs_become_durable_in_one_round_and_come_back() {
    let f = Fixture::new();
    let logs: Vec<_> = (1..200)
        .map(|n| {
            f.disk
                .create("many", Uuid::from_u128(7), n, LogConfig::default())
                .unwrap()
        })
        .collect();
    let epochs: Vec<_> = logs.iter().map(|log| (log.clone(), 4)).collect();
    f.disk.begin_epochs(&epochs).unwrap();
    for log in &logs {
        append(log, batch(0, 2));
    }
    let before = f.disk.sync().unwrap();
    assert_eq!(before.files, 199);
    assert!(logs.iter().all(|log| log.offsets().durable_end == 2));
    let crashed = f.crash();
    let (_disk, back) = open(&crashed.root).unwrap();
    assert_eq!(back.len(), 200);
    for log in back.iter().filter(|log| log.topic() == "many") {
        assert_eq!(
            (log.topic_id(), log.offsets().log_end),
            (Uuid::from_u128(7), 2)
        );
        assert_eq!(log.end_for_epoch(4).end_offset, 2);
    }
}

#[test]
fn the_roots_files_have_kafkas_shapes() {
    let f = Fixture::new();
    f.append(0, 3);
    f.log.set_high_watermark(2);
    f.sync();
    f.log.set_log_start(1).unwrap();
    f.disk.checkpoint().unwrap();
    let text = |name: &str| fs::read_to_string(f.root.join(name)).unwrap();
    assert_eq!(text("recovery-point-offset-checkpoint"), "0\n1\nt 0 3\n");
    assert_eq!(text("log-start-offset-checkpoint"), "0\n1\nt 0 1\n");
    assert_eq!(text("replication-offset-checkpoint"), "0\n1\nt 0 2\n");
    assert_eq!(text("t-0/leader-epoch-checkpoint"), "0\n1\n0 1\n");
    assert_eq!(
        text("t-0/partition.metadata"),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAASNA"
    );
    assert!(text("meta.properties").contains("cluster.id=fleet\n"));
    f.disk.close().unwrap();
    assert_eq!(
        text(".kafka_cleanshutdown"),
        "{\"version\":0,\"brokerEpoch\":-1}"
    );
}

#[test]
fn a_directory_as_kafka_leaves_it_is_taken_over() {
    let f = Fixture::new();
    for n in 0..40 {
        f.append(n, 3);
    }
    f.sync();
    f.disk.checkpoint().unwrap();
    let expected = bases(&f.log, 0);
    let crashed = f.crash();
    // Kafka knows nothing of our sidecars, and a crash leaves its active indexes with a tail of zeros.
    fs::remove_file(crashed.root.join("durable-points")).unwrap();
    for segment in f.log.segments() {
        let _ = fs::remove_file(crashed.file(segment.base_offset, "appendtime"));
        let _ = fs::remove_file(crashed.file(segment.base_offset, "recent"));
    }
    let active = f.log.segments().last().unwrap().base_offset;
    for suffix in ["index", "timeindex"] {
        let path = crashed.file(active, suffix);
        let mut bytes = fs::read(&path).unwrap();
        bytes.resize(10 << 20, 0);
        fs::write(&path, bytes).unwrap();
    }
    fs::write(crashed.file(7, "log.deleted"), b"x").unwrap();
    fs::write(crashed.file(7, "index.cleaned"), b"x").unwrap();
    fs::write(crashed.file(9, "timeindex"), b"x").unwrap();
    let (_disk, log) = crashed.open();
    assert_eq!(log.health(), Health::Good);
    assert_eq!(bases(&log, 0), expected);
    for gone in ["log.deleted", "index.cleaned"] {
        assert!(!crashed.file(7, gone).exists());
    }
    assert!(!crashed.file(9, "timeindex").exists());
}

#[test]
fn an_unfinished_swap_of_cleaned_segments_is_finished() {
    let f = Fixture::new();
    for n in 0..20 {
        f.append(n, 3);
    }
    f.sync();
    let expected = bases(&f.log, 0);
    let second = f.log.segments()[1].base_offset;
    let crashed = f.crash();
    // The first two segments cleaned into one.
    let mut merged = fs::read(crashed.file(0, "log")).unwrap();
    merged.extend(fs::read(crashed.file(second, "log")).unwrap());
    fs::write(crashed.file(0, "log.swap"), merged).unwrap();
    let (_disk, log) = crashed.open();
    assert_eq!(bases(&log, 0), expected);
    assert!(!crashed.file(second, "log").exists() && !crashed.file(0, "log.swap").exists());
    assert!(file_of(&f.root, second, "log").exists());
}

#[test]
fn a_log_created_again_owes_nothing_to_the_one_before() {
    let f = Fixture::new();
    for n in 0..40 {
        f.append(n, 3);
    }
    f.sync();
    f.log.set_log_start(50).unwrap();
    f.disk.checkpoint().unwrap();
    f.disk.delete(&f.log).unwrap();
    let again = f
        .disk
        .create("t", crate::support::ID, 0, LogConfig::default())
        .unwrap();
    append(&again, batch(0, 3));
    let (_disk, log) = f.crash().open();
    assert_eq!(
        (log.health(), log.offsets().log_start, log.offsets().log_end),
        (Health::Good, 0, 3)
    );
}
