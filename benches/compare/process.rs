//! What the kernel says of a process.

use anyhow::{Context, Result};

/// Clock ticks per second in `/proc/PID/stat`: 100 on every Linux this can run on.
const TICKS: f64 = 100.0;

/// Resident memory, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) total: f64,
    /// The process's own pages; the part that grows with work.
    pub(crate) anonymous: f64,
    /// Pages of the program file, which the kernel can drop at will.
    pub(crate) file: f64,
}

/// Seconds of processor time that all threads of a process have used.
///
/// # Errors
/// The process is gone.
pub(crate) fn cpu(pid: u32) -> Result<f64> {
    // utime and stime.
    ticks(&read(pid, "stat")?, 2)
}

/// Seconds of processor time that this program and its ended children have used.
///
/// # Errors
/// No `/proc`.
pub(crate) fn own_cpu() -> Result<f64> {
    // utime, stime, cutime and cstime.
    ticks(&read(std::process::id(), "stat")?, 4)
}

/// Seconds of processor time that the whole machine has used.
///
/// # Errors
/// No `/proc`.
pub(crate) fn machine_cpu() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
    // user nice system idle iowait irq softirq steal: all but the two that wait.
    let fields: Vec<f64> = stat
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let waiting: f64 = fields.iter().skip(3).take(2).sum();
    Ok((fields.iter().sum::<f64>() - waiting) / TICKS)
}

/// Sum of the `count` fields of a process's stat that begin with utime, in seconds.
fn ticks(stat: &str, count: usize) -> Result<f64> {
    // The program name before the parenthesis may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("malformed stat")?;
    let ticks: f64 = fields
        .split_whitespace()
        .skip(11)
        .take(count)
        .map(str::parse::<f64>)
        .sum::<Result<f64, _>>()?;
    Ok(ticks / TICKS)
}

/// Resident memory of a process.
///
/// # Errors
/// The process is gone.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = read(pid, "status")?;
    let field = |name: &str| -> Result<f64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name} of process {pid}"))?;
        let number = line.split_whitespace().nth(1).context("malformed status")?;
        Ok(number.parse()?)
    };
    Ok(Memory {
        total: field("VmRSS")?,
        anonymous: field("RssAnon")?,
        file: field("RssFile")?,
    })
}

/// Memory that the machine can give, in KiB.
///
/// # Errors
/// No `/proc`.
pub(crate) fn available_memory() -> Result<f64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .context("no MemAvailable")?;
    let number = line
        .split_whitespace()
        .next()
        .context("malformed meminfo")?;
    Ok(number.parse()?)
}

/// Number of open file descriptors of a process.
///
/// # Errors
/// The process is gone.
pub(crate) fn open_files(pid: u32) -> Result<usize> {
    let path = format!("/proc/{pid}/fd");
    Ok(std::fs::read_dir(&path).context(path)?.count())
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    std::fs::read_to_string(&path).context(path)
}
