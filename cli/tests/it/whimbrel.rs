//! Running the binary.

use std::process::{Command, Output, Stdio};

/// Runs `whimbrel` with `arguments` and an empty stdin.
pub fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_whimbrel"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("WHIMBREL_FLEET")
        .env_remove("WHIMBREL_OUTPUT");
    command
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
