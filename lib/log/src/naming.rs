//! Names of files and directories in a log directory, as Kafka gives them (`LogFileUtils`), and of
//! our own sidecars, whose suffixes Kafka ignores.

use std::path::{Path, PathBuf};

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const TXN_INDEX: &str = "txnindex";
/// Ours: checksums of the entries of `.txnindex`.
pub(crate) const TXN_CHECK: &str = "txncheck";
pub(crate) const SNAPSHOT: &str = "snapshot";
/// Ours: append times of a segment.
pub(crate) const APPEND_TIME: &str = "appendtime";
/// Ours: the last batches of each producer, beside the snapshot of the same offset.
pub(crate) const RECENT: &str = "recent";
/// Ours: the surviving part of a pinned segment while a truncation replaces the file.
pub(crate) const CUT: &str = "cut";

/// All files of a segment.
pub(crate) const OF_A_SEGMENT: [&str; 6] =
    [LOG, INDEX, TIME_INDEX, TXN_INDEX, TXN_CHECK, APPEND_TIME];
/// Behind a file's suffix: written by the cleaner, not whole yet.
pub(crate) const CLEANED: &str = ".cleaned";
/// Behind a file's suffix: whole, and about to take its place.
pub(crate) const SWAP: &str = ".swap";

pub(crate) const EPOCHS: &str = "leader-epoch-checkpoint";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";

pub(crate) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(crate) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(crate) const HIGH_WATERMARKS: &str = "replication-offset-checkpoint";
/// First dirty offsets of compacted logs.
pub(crate) const CLEANER_POINTS: &str = "cleaner-offset-checkpoint";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const LOCK: &str = ".lock";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
/// What it says when we wrote it; Kafka writes its broker's epoch.
pub(crate) const CLEAN_BY_US: &str = "{\"version\":0,\"brokerEpoch\":-1}";
/// Ours: how far each log is known to be durable.
pub(crate) const DURABLE_POINTS: &str = "durable-points";
/// Ours: how far compaction has looked at each log.
pub(crate) const CLEAN_POINTS: &str = "clean-points";
/// Ours: what may have been acknowledged before it was synced.
pub(crate) const EARLY_ACKS: &str = "early-acks";
/// Ours: what stood behind a hole, at the offset where the log was cut.
pub(crate) const TAIL: &str = "tail";
/// Ours: what a repair set aside.
pub(crate) const QUARANTINE: &str = "quarantine";

pub(crate) const DELETED_DIR: &str = "-delete";

/// Longest legal topic name: leaves room for `-<partition>` in a file name of 255 bytes.
const TOPIC_NAME_MAX: usize = 249;

/// `<20 digits>.<suffix>`.
pub(crate) fn file_name(offset: i64, suffix: &str) -> String {
    format!("{offset:020}.{suffix}")
}

pub(crate) fn file_path(dir: &Path, offset: i64, suffix: &str) -> PathBuf {
    dir.join(file_name(offset, suffix))
}

/// Splits `<20 digits>.<suffix>`; `None` for any other name.
pub(crate) fn parse_file_name(name: &str) -> Option<(i64, &str)> {
    let (digits, suffix) = name.split_once('.')?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, suffix))
}

pub(crate) fn directory_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Splits `<topic>-<partition>`; `None` for names that are not a live partition's.
pub(crate) fn parse_directory_name(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    if !is_topic_name(topic)
        || partition.is_empty()
        || !partition.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    Some((topic, partition.parse().ok()?))
}

/// Kafka's rule for topic names (`Topic.validate`).
pub fn is_topic_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= TOPIC_NAME_MAX
        && name != "."
        && name != ".."
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_round_trip_and_foreign_ones_are_none() {
        assert_eq!(file_name(42, LOG), "00000000000000000042.log");
        assert_eq!(parse_file_name("00000000000000000042.log"), Some((42, LOG)));
        assert_eq!(parse_file_name("9223372036854775807.log"), None);
        assert_eq!(parse_file_name("99999999999999999999.log"), None);
        assert_eq!(parse_file_name("leader-epoch-checkpoint"), None);
        assert_eq!(parse_file_name("00000000000000000042"), None);
    }

    #[test]
    fn directory_names_round_trip_and_foreign_ones_are_none() {
        assert_eq!(
            parse_directory_name(&directory_name("a-b", 7)),
            Some(("a-b", 7))
        );
        for foreign in [
            "pins",
            "a-",
            "-1",
            "a-b.0123-delete",
            "a--1x",
            "../x-1",
            "a-99999999999",
        ] {
            assert_eq!(parse_directory_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn topic_names_that_could_leave_the_directory_are_refused() {
        for bad in ["", ".", "..", "../x", "a/b", "a\0", &"x".repeat(250)] {
            assert!(!is_topic_name(bad), "{bad:?}");
        }
        assert!(is_topic_name("__consumer_offsets"));
    }
}
