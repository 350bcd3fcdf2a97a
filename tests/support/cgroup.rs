//! Memory control groups, of either version of the interface.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Launch, PATIENCE, eventually};

/// A group made for one test, removed with it.
#[derive(Debug)]
pub struct Group {
    pub path: PathBuf,
    files: &'static Files,
}

/// The files of a group.
#[derive(Debug)]
struct Files {
    top: &'static str,
    limit: &'static str,
    kills: &'static str,
    peak: &'static str,
}

const VERSIONS: [Files; 2] = [
    Files {
        top: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        kills: "memory.oom_control",
        peak: "memory.max_usage_in_bytes",
    },
    Files {
        top: "/sys/fs/cgroup",
        limit: "memory.max",
        kills: "memory.events",
        peak: "memory.peak",
    },
];

impl Group {
    /// A group that may use so much, unless none can be made here; then the reason is told. On a
    /// machine that checks changes that is a failure.
    #[must_use]
    pub fn with_limit(bytes: u64) -> Option<Self> {
        let group = Self::try_with_limit(bytes);
        if group.is_none() {
            let ci = std::env::var_os("CI").is_some();
            assert!(!ci, "control groups cannot be made");
            println!("skipped: control groups cannot be made here");
        }
        group
    }

    fn try_with_limit(bytes: u64) -> Option<Self> {
        let name = format!("rp2pd-test-{}-{bytes}", std::process::id());
        VERSIONS.iter().find_map(|files| {
            let path = Path::new(files.top).join(&name);
            fs::create_dir(&path).ok()?;
            let group = Self { path, files };
            fs::write(group.path.join(files.limit), bytes.to_string()).ok()?;
            // Not there without swap.
            let _ = fs::write(group.path.join("memory.swap.max"), "0");
            Some(group)
        })
    }

    /// A script of the shell that joins the group at `path` and becomes its arguments.
    #[must_use]
    pub fn joins(path: &Path) -> String {
        format!(
            "echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"",
            path.display()
        )
    }

    /// A daemon in the group.
    #[must_use]
    pub fn launch(&self) -> Launch {
        Launch::new().shell(&Self::joins(&self.path))
    }

    /// How often the kernel has killed somebody in the group.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.files.kills)).expect("a file");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("a line").trim().parse().expect("a number")
    }

    /// The most bytes that the group has had; 0 where the kernel does not tell.
    #[must_use]
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.path.join(self.files.peak)).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever was in it has ended, which the kernel may not have noted yet.
        let removed = eventually(PATIENCE, || fs::remove_dir(&self.path).is_ok());
        assert!(removed || std::thread::panicking());
    }
}
