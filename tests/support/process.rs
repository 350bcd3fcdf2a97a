//! What the kernel tells about a process.

use std::fs;

use rustix::process::Signal;

use super::{Daemon, PATIENCE, eventually};

impl Daemon {
    /// Stops the process; every thread of it stands still when this returns.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        let stopped = eventually(PATIENCE, || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("/proc task");
            tasks.filter_map(Result::ok).all(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ")
                    .is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        });
        assert!(stopped, "the daemon does not stop");
    }

    /// Lets it run again after [`Daemon::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// What SIGUSR1 makes the daemon print, after all that it has printed before.
    #[must_use]
    pub fn report(&self) -> String {
        const END: &str = "End of limits\n";
        let before = self.stderr().matches(END).count();
        self.signal(Signal::USR1);
        let told = || self.stderr().matches(END).count() > before;
        assert!(eventually(PATIENCE, told), "no report");
        self.stderr()
    }

    /// How often the daemon says that `limit` has bitten.
    #[must_use]
    pub fn bites(&self, limit: &str) -> u64 {
        let text = self.report();
        let (_, last) = text.rsplit_once("Limits reached:\n").expect("a list");
        let line = last
            .lines()
            .find_map(|line| line.strip_prefix(&format!("\t{limit}: ")));
        line.map_or(0, |count| count.parse().expect("a number"))
    }

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
