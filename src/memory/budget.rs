//! How much memory the process may use: what the operator says, else the smallest of the control
//! groups' limits and the machine's memory.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

/// Largest file of the system that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Folders between a control group and the root that are looked at.
const MAX_DEPTH: usize = 64;

/// Where a budget came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The operator set it.
    Given,
    /// A control group's limit.
    ControlGroup,
    /// The memory of the machine.
    Machine,
}

/// Memory that the process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// In bytes; 0 is no limit.
    pub bytes: u64,
    /// Who says so.
    pub source: Source,
}

impl Budget {
    /// `given` if there is one, else what the system says.
    #[must_use]
    pub fn find(given: Option<u64>) -> Self {
        if let Some(bytes) = given {
            return Self {
                bytes,
                source: Source::Given,
            };
        }
        let machine = read(Path::new("/proc/meminfo")).and_then(|text| total(&text));
        let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        let mounts = read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let group = limit(&groups, &mounts, read);
        match (group, machine) {
            (Some(group), machine) if machine.is_none_or(|machine| group < machine) => Self {
                bytes: group,
                source: Source::ControlGroup,
            },
            (_, machine) => Self {
                bytes: machine.unwrap_or(0),
                source: Source::Machine,
            },
        }
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(MAX_SIZE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Reads `MemTotal:   1234 kB`.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let number = line.trim().strip_suffix("kB")?.trim_end();
    number.parse::<u64>().ok()?.checked_mul(1024)
}

/// The smallest limit of the process's control group and of those around it, of both versions.
/// `groups` and `mounts` are `/proc/self/cgroup` and `/proc/self/mountinfo`.
fn limit(groups: &str, mounts: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let mut smallest: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        // Above `memory.high` the kernel does not kill: it slows every allocation down until the group
        // is below it again, which is no better.
        let (kind, files): (&str, &[&str]) = match controllers {
            "" => ("cgroup2", &["memory.max", "memory.high"]),
            list if list.split(',').any(|name| name == "memory") => {
                ("cgroup", &["memory.limit_in_bytes"])
            }
            _ => continue,
        };
        let Some((root, top)) = mount(mounts, kind) else {
            continue;
        };
        // In a container the mount may show the process's own group as its root.
        let below = Path::new(group)
            .strip_prefix(&root)
            .unwrap_or(Path::new(""));
        let below = below.strip_prefix("/").unwrap_or(below);
        let leaf = top.join(below);
        for folder in leaf.ancestors().take(MAX_DEPTH) {
            if !folder.starts_with(&top) {
                break;
            }
            for file in files {
                // `max`, like everything else that is no number, is no limit.
                let bytes = read(&folder.join(file)).and_then(|text| text.trim().parse().ok());
                smallest = match (smallest, bytes) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    smallest
}

/// Which group is mounted where, of the hierarchy that limits memory.
fn mount(mounts: &str, kind: &str) -> Option<(PathBuf, PathBuf)> {
    mounts.lines().find_map(|line| {
        let (fields, system) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, top) = (fields.next()?, fields.next()?);
        let mut system = system.split(' ');
        if system.next()? != kind {
            return None;
        }
        let mut options = system.nth(1)?.split(',');
        let fits = kind == "cgroup2" || options.any(|option| option == "memory");
        fits.then(|| (PathBuf::from(root), PathBuf::from(top)))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n";
    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";

    fn found(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<&Path, &str> = files
            .iter()
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        limit(groups, mounts, |path| {
            files.get(path).map(|text| (*text).to_owned())
        })
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.max", "2000\n"),
            ("/sys/fs/memory.max", "1\n"),
        ];
        assert_eq!(found("0::/a/b\n", V2, &files), Some(1000));
        assert_eq!(found("0::/c\n", V2, &files), Some(2000));
        assert_eq!(found("0::/a/b\n", V2, &[]), None);
        assert_eq!(found("", V2, &files), None);
        assert_eq!(found("0::/a/b\n", "", &files), None);
    }

    #[test]
    fn where_the_kernel_slows_a_group_down_is_a_limit() {
        let mut files = vec![
            ("/sys/fs/cgroup/a/memory.max", "2000\n"),
            ("/sys/fs/cgroup/a/memory.high", "1500\n"),
            ("/sys/fs/cgroup/a/memory.current", "900\n"),
        ];
        assert_eq!(found("0::/a\n", V2, &files), Some(1500));
        files[1].1 = "max\n";
        assert_eq!(found("0::/a\n", V2, &files), Some(2000));
        files[0].1 = "max\n";
        assert_eq!(found("0::/a\n", V2, &files), None);
        // Of a group around it as well.
        files.push(("/sys/fs/cgroup/memory.high", "700\n"));
        assert_eq!(found("0::/a\n", V2, &files), Some(700));
    }

    #[test]
    fn the_first_version_has_a_hierarchy_of_its_own() {
        let groups = "9:name=systemd:/\n4:cpu,memory:/x/y\n1:cpu:/\n0::/\n";
        let files = [
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712",
            ),
            ("/sys/fs/cgroup/memory/x/memory.limit_in_bytes", "4096\n"),
            ("/sys/fs/cgroup/cpu/memory.limit_in_bytes", "1"),
        ];
        assert_eq!(found(groups, V1, &files), Some(4096));
    }

    #[test]
    fn a_container_may_see_its_own_group_as_the_root() {
        let mounts = "30 23 0:26 /docker/c1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let files = [
            ("/sys/fs/cgroup/memory.max", "1000\n"),
            ("/sys/fs/cgroup/sub/memory.max", "500\n"),
        ];
        assert_eq!(found("0::/docker/c1\n", mounts, &files), Some(1000));
        assert_eq!(found("0::/docker/c1/sub\n", mounts, &files), Some(500));
        assert_eq!(found("0::/\n", mounts, &files), Some(1000));
    }

    #[test]
    fn the_operator_is_obeyed_and_a_machine_has_memory() {
        let given = Budget::find(Some(5));
        assert_eq!((given.bytes, given.source), (5, Source::Given));
        assert!(Budget::find(None).bytes > 1 << 20);
        assert_eq!(
            total("MemTotal:       16 kB\nMemFree: 1 kB\n"),
            Some(16_384)
        );
    }
}
