//! What the system tells of this process.

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{metrics::counter::Counter, metrics::gauge::Gauge, registry::Registry};
use std::sync::atomic::AtomicU64;

/// Parts of a second in which the kernel counts processor time; of all architectures that rp2pd is
/// built for.
const TICKS: f64 = 100.0;

/// Registers Prometheus' usual names. What cannot be read is left out.
pub(super) fn register(registry: &mut Registry, uptime: Duration) {
    let gauge = |value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    if let Some(seconds) = cpu_seconds() {
        let counter = Counter::<f64, AtomicU64>::default();
        counter.inc_by(seconds);
        registry.register("process_cpu_seconds", "Processor time used", counter);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // The folder itself is one while it is read.
        let open = files.count().saturating_sub(1) as u64;
        registry.register("process_open_fds", "Open files", gauge(open));
    }
    if let Ok((soft, _)) = rlimit::Resource::NOFILE.get() {
        registry.register("process_max_fds", "Files that may be open", gauge(soft));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for (line, name, help) in [
        ("VmRSS:", "process_resident_memory_bytes", "Resident memory"),
        ("VmSize:", "process_virtual_memory_bytes", "Virtual memory"),
    ] {
        if let Some(bytes) = kibibytes(&status, line) {
            registry.register(name, help, gauge(bytes));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let started = now.unwrap_or_default().saturating_sub(uptime);
    registry.register(
        "process_start_time_seconds",
        "When the daemon began, in seconds after 1970",
        gauge(started.as_secs()),
    );
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; of what follows the 12th and 13th are times.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn kibibytes(status: &str, line: &str) -> Option<u64> {
    let found = status.lines().find_map(|one| one.strip_prefix(line))?;
    let number = found.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}
