//! Faults of processes: pause, resume, kill, start again.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use whimbrel_dev::ProcessEntry;

/// SIGSTOP: it keeps its connections and its beliefs, and does nothing.
pub fn pause(process: &ProcessEntry) -> io::Result<()> {
    signal(process, Signal::STOP)
}

/// SIGCONT: it goes on in the middle of what it was doing.
pub fn resume(process: &ProcessEntry) -> io::Result<()> {
    signal(process, Signal::CONT)
}

/// SIGKILL, without a word to anybody.
pub fn kill(process: &ProcessEntry) -> io::Result<()> {
    signal(process, Signal::KILL)
}

/// Starts a killed process again, by the command that its fleet wrote down.
pub fn start_again(process: &ProcessEntry) -> io::Result<Child> {
    let (program, arguments) = process
        .command
        .split_first()
        .ok_or(io::ErrorKind::NotFound)?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn signal(process: &ProcessEntry, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(process.pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, signal)?)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, path::Path};

    use whimbrel_fleet::{HostPort, Role};

    use super::*;

    fn state(pid: u32) -> char {
        let stat =
            std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim()
            .chars()
            .next()
            .unwrap()
    }

    #[test]
    fn a_process_is_paused_resumed_and_killed() {
        let command = vec!["sleep".to_owned(), "60".to_owned()];
        let mut entry = ProcessEntry {
            role: Role::Broker,
            region: "east".into(),
            pid: 0,
            admin: HostPort::new("127.0.0.1", 1),
            command,
        };
        let mut child = start_again(&entry).unwrap();
        entry.pid = child.id();
        pause(&entry).unwrap();
        while state(entry.pid) != 'T' {
            std::thread::yield_now();
        }
        resume(&entry).unwrap();
        while state(entry.pid) == 'T' {
            std::thread::yield_now();
        }
        kill(&entry).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
