//! The tour itself, on its own default input, with the binary that was just built.

use crate::whimbrel::{command, stderr, stdout};

#[test]
fn everything_that_is_promised_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("report.json");
    let output = command(&["tour", "--report", report.to_str().unwrap(), "-o", "json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        stderr(&output),
        stdout(&output)
    );
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["held"], true);
    assert_eq!(report["steps"].as_array().unwrap().len(), 12);
    assert!(report["records_lost"].as_u64() <= report["records_lost_bound"].as_u64());
    assert!(report["rpo_actual_ms"].as_u64() <= report["rpo_reported_ms"].as_u64());
    assert!(report["cold_records"].as_u64() > Some(0));
    assert_eq!(report["cold_mismatches"], 0);
    assert_eq!(report["group_position_error"], 0);
    assert!(report["orphans_exported"].as_u64() >= report["records_lost"].as_u64());
}
