//! What the kernel tells about a process.

use std::fs;

use super::Daemon;

impl Daemon {
    /// Open file descriptors.
    #[must_use]
    pub fn fds(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Resident memory in KiB.
    #[must_use]
    pub fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        status
            .unwrap_or_default()
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().strip_suffix("kB"))
            .and_then(|value| value.trim().parse().ok())
            .expect("a running daemon has a VmRSS line")
    }

    /// Processor time used so far, in clock ticks (1/100 s).
    #[must_use]
    pub fn cpu_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("/proc stat");
        // The name in parentheses may hold blanks; utime and stime are fields 14 and 15.
        let after = stat.rsplit_once(')').expect("a name").1;
        let ticks = |field: &str| field.parse::<u64>().expect("ticks");
        let fields: Vec<&str> = after.split_whitespace().collect();
        ticks(fields[11]) + ticks(fields[12])
    }
}
