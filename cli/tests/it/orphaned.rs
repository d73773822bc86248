//! What becomes of the processes of `dev --separate` when nobody is left to stop them.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use whimbrel_dev::Manifest;

use crate::whimbrel::command;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_killed_dev_leaves_no_process_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("fleet");
    let ports = whimbrel_dev::FreePorts::find().unwrap();
    let port = ports.base().to_string();
    let mut dev = command(&["dev", "--separate", "--one-region", "--port", &port])
        .arg("--data-dir")
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait("the fleet to be up", || Manifest::read(&data).is_ok());
    let pids: Vec<u32> = Manifest::read(&data)
        .unwrap()
        .processes
        .iter()
        .map(|p| p.pid)
        .collect();
    assert!(!pids.is_empty() && pids.iter().all(|pid| runs(*pid)));
    dev.kill().unwrap();
    dev.wait().unwrap();
    wait("its processes to end", || {
        !pids.iter().any(|pid| runs(*pid))
    });
}

/// A process that has ended and that nobody has waited for yet does not run.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| stat.contains("(whimbrel)") && !stat.contains(") Z "))
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for real processes: only real time counts"
)]
fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < DEADLINE, "not within a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
