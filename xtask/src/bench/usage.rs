//! CPU time and memory of processes, as the kernel counts them.

use std::fs;

use anyhow::Context;

/// What a set of processes has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu_s: f64,
    /// Highest resident set, summed over the processes.
    pub rss_peak_mb: f64,
}

impl Usage {
    pub fn of(pids: &[u32]) -> anyhow::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
                .with_context(|| format!("process {pid}"))?;
            sum.cpu_s += cpu_ticks(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?
                / rustix::param::clock_ticks_per_second() as f64;
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            sum.rss_peak_mb += kilobytes(&status, "VmHWM:").unwrap_or(0.0) / 1000.0;
        }
        Ok(sum)
    }

    /// CPU seconds of the programs this process has run to their end: the clients.
    pub fn of_clients() -> anyhow::Result<f64> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let ticks = children_ticks(&stat).context("/proc/self/stat")?;
        Ok(ticks / rustix::param::clock_ticks_per_second() as f64)
    }

    /// CPU seconds between an earlier reading and this one.
    pub fn cpu_since(&self, earlier: &Self) -> f64 {
        self.cpu_s - earlier.cpu_s
    }
}

/// utime + stime: fields 14 and 15 of proc_pid_stat(5).
fn cpu_ticks(stat: &str) -> Option<f64> {
    sum_from(stat, 14)
}

/// cutime + cstime: fields 16 and 17.
fn children_ticks(stat: &str) -> Option<f64> {
    sum_from(stat, 16)
}

/// A field and the next, counted from 1. The name before them is in parentheses and may hold anything.
fn sum_from(stat: &str, field: usize) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(number(field)? + number(field + 1)?)
}

/// Resident memory now, summed over the processes.
pub fn resident_mb(pids: &[u32]) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .with_context(|| format!("process {pid}"))?;
        sum += kilobytes(&status, "VmRSS:").context("no VmRSS")? / 1000.0;
    }
    Ok(sum)
}

/// Files and sockets that are open, summed over the processes.
pub fn open_files(pids: &[u32]) -> anyhow::Result<usize> {
    let mut sum = 0;
    for pid in pids {
        let folder = format!("/proc/{pid}/fd");
        sum += fs::read_dir(&folder).with_context(|| folder)?.count();
    }
    Ok(sum)
}

fn kilobytes(status: &str, field: &str) -> Option<f64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(field))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 120 30 5 6 20 0";
        assert_eq!(cpu_ticks(stat), Some(150.0));
        assert_eq!(children_ticks(stat), Some(11.0));
        assert_eq!(cpu_ticks("7 (cut"), None);
    }

    #[test]
    fn the_peak_is_read_from_status() {
        assert_eq!(
            kilobytes("Name:\tx\nVmHWM:\t  2048 kB\n", "VmHWM:"),
            Some(2048.0)
        );
    }
}
