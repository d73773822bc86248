//! `tier export` against a fleet: what the file has is what a consumer reads.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::RowAccessor,
};
use serde_json::Value;

use crate::{
    fleet::Fleet,
    whimbrel::{stderr, stdout},
};

const DEADLINE: Duration = Duration::from_secs(60);
/// In each partition, at least.
const LINES: usize = 2_000;

impl Fleet {
    /// With a topic that has some.
    fn with_lines() -> Self {
        let fleet = Self::start(DEADLINE);
        fleet.wait("the topic to be there", || {
            let topic = ["topic", "create", "lines", "--partitions", "2"];
            fleet.run(&topic).status.success()
        });
        for partition in ["0", "1"] {
            fleet.wait("a broker to lead it", || {
                fleet.produce(partition, "first\n")
            });
            let lines: String = (1..LINES).map(|n| format!("line {n}\n")).collect();
            assert!(fleet.produce(partition, &lines));
        }
        fleet
    }

    fn produce(&self, partition: &str, lines: &str) -> bool {
        let mut child = self
            .typed(&["topic", "produce", "lines", "--partition", partition])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // One that cannot reach the fleet ends without reading.
        let _unread = child.stdin.take().unwrap().write_all(lines.as_bytes());
        child.wait().unwrap().success()
    }

    fn export(&self, file: &Path, more: &[&str]) -> Output {
        let mut arguments = vec!["tier", "export", "lines", "-o", "json", "--file"];
        arguments.push(file.to_str().unwrap());
        arguments.extend(more);
        self.run(&arguments)
    }

    fn exported(&self, file: &Path, more: &[&str]) -> Value {
        let output = self.export(file, more);
        assert!(output.status.success(), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).unwrap()
    }

    #[track_caller]
    fn refused(&self, file: &Path, more: &[&str], exit: i32, says: &str) {
        let output = self.export(file, more);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(said.contains(says), "{said}");
    }
}

/// Partition, offset and value of each row.
fn rows(file: &Path) -> Vec<(i32, i64, String)> {
    let reader = SerializedFileReader::new(std::fs::File::open(file).unwrap()).unwrap();
    let read = |row: parquet::record::Row| {
        let value = row.get_bytes(4).unwrap().data().to_vec();
        let value = String::from_utf8(value).unwrap();
        (row.get_int(0).unwrap(), row.get_long(1).unwrap(), value)
    };
    let rows = reader.get_row_iter(None).unwrap();
    rows.map(|row| read(row.unwrap())).collect()
}

#[test]
fn a_topic_or_a_range_of_it_becomes_a_file_or_nothing_does() {
    let fleet = Fleet::with_lines();
    let all = fleet.path("all.parquet");
    let said = fleet.exported(&all, &[]);
    let of_all = rows(&all);
    assert_eq!(said["records"], of_all.len());
    assert_eq!(said["bytes"], std::fs::metadata(&all).unwrap().len());
    for partition in [0, 1] {
        let here = of_all.iter().filter(|(of, ..)| *of == partition);
        let values: Vec<_> = here.map(|(_, _, value)| value.as_str()).collect();
        assert!(values.len() >= LINES);
        let partition = partition.to_string();
        let read = [
            "topic",
            "consume",
            "lines",
            "--from-beginning",
            "--partition",
            &partition,
        ];
        let consumed = stdout(&fleet.run(&read));
        assert_eq!(consumed.lines().collect::<Vec<_>>(), values);
    }

    let some = fleet.path("some.parquet");
    let range = ["--partition", "0", "--from", "1", "--to", "1"];
    assert_eq!(fleet.exported(&some, &range)["records"], 0);
    assert_eq!(rows(&some), []);
    let end = of_all.iter().filter(|(of, ..)| *of == 0).count();
    let to = (end - 1).to_string();
    let range = [
        "--partition",
        "0",
        "--from",
        "1",
        "--to",
        &to,
        "--overwrite",
    ];
    let said = fleet.exported(&some, &range);
    assert_eq!(
        (&said["partitions"][0]["from"], &said["partitions"][0]["to"]),
        (&1.into(), &(end - 1).into())
    );
    assert_eq!(rows(&some), of_all[1..end - 1]);

    refuse(&fleet, &some, end);
    assert_eq!(rows(&some), of_all[1..end - 1]);
}

/// Nothing of this leaves a file, and what is there stays.
fn refuse(fleet: &Fleet, some: &Path, end: usize) {
    let none = fleet.path("none.parquet");
    let beyond = (end + 1).to_string();
    fleet.refused(
        &none,
        &["--partition", "0", "--to", &beyond],
        11,
        &format!("which holds 0..{end}"),
    );
    fleet.refused(&none, &["--partition", "9"], 1, "no partition 9");
    fleet.refused(&none, &["--from", "1"], 2, "--partition");
    fleet.refused(
        &fleet.path("no/such/folder"),
        &[],
        1,
        "No such file or directory",
    );
    fleet.refused(some, &[], 11, "--overwrite");
    let unknown = [
        "tier",
        "export",
        "unknown",
        "--file",
        none.to_str().unwrap(),
    ];
    let unknown = fleet.run(&unknown);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(stderr(&unknown).contains("unknown does not exist"));
    let names = std::fs::read_dir(fleet.folder.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["all.parquet", "fleet", "some.parquet"]);
}
