//! What is typed wrong, and what it answers.

use crate::whimbrel::{run, stderr, stdout};

#[test]
fn nothing_typed_shows_help_and_exits_2() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("Usage: whimbrel"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_unknown_verb_exits_2() {
    assert_eq!(run(&["tuor"]).status.code(), Some(2));
}

#[test]
fn a_missing_input_is_named_and_nothing_is_started() {
    let output = run(&["tour", "--input", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("/no/such/file"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn an_empty_input_is_refused() {
    let output = run(&["tour", "--input", "-"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("empty"), "{}", stderr(&output));
}

#[test]
fn explain_knows_codes_and_says_when_it_does_not() {
    let output = run(&["explain", "wb-003"]);
    assert!(output.status.success());
    assert!(stdout(&output).contains("Unknown key"));
    let output = run(&["explain", "WB-003", "-o", "json"]);
    let page: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(page["code"], "WB-003");
    assert_eq!(run(&["explain", "WB-999"]).status.code(), Some(2));
}

#[test]
fn a_fleet_that_is_not_there_exits_20() {
    let output = run(&["--fleet", "/no/such/fleet", "status"]);
    assert_eq!(output.status.code(), Some(20));
    assert!(
        stderr(&output).contains("/no/such/fleet"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_controller_that_does_not_answer_exits_20() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    drop(taken);
    assert_eq!(
        run(&["--fleet", &address, "status"]).status.code(),
        Some(20)
    );
}

#[test]
fn a_port_that_is_taken_has_a_code_and_nothing_is_started() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("fleet");
    let arguments = [
        "dev",
        "--port",
        &port,
        "--data-dir",
        data_dir.to_str().unwrap(),
    ];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("WB-009") && said.contains(&port), "{said}");
    assert!(!data_dir.join("dev.json").exists());
}
