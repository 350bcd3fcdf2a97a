//! The foreign programs, installed once below `target/interop` and kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use super::program::run;
use super::suite::Toolchain;

/// Longest time for one download or build on a slow network and a busy machine.
const INSTALL: Duration = Duration::from_secs(900);

const GO_DAEMON: &str = "github.com/libp2p/go-libp2p-daemon";

/// Something installed, or why not; the reason is the same for every trial that needs it.
pub type Installed = LazyLock<Result<PathBuf, String>>;

/// The release whose own suite is run.
const P2PCLIENT: &str = "p2pclient==0.3.0";
/// The release whose wheel carries the fork's Go daemon.
const HIVEMIND: &str = "hivemind==1.1.12";

/// Directory of p2pclient's virtual environment (`venv`) and of its sources (`tests`).
pub static P2PCLIENT_PYTHON: Installed = LazyLock::new(|| {
    let pins = include_str!("../../interop/python/requirements-p2pclient.txt");
    installed("p2pclient", &format!("{P2PCLIENT}\n{pins}"), |dir| {
        let python = venv(dir, "requirements-p2pclient.txt")?;
        let sdist = dir.join("sdist");
        pip(&python)
            .args(["download", "--quiet", "--no-deps", "--no-binary=:all:"])
            .arg("--dest")
            .arg(&sdist)
            .arg(P2PCLIENT)
            .step("downloading p2pclient's sources")?;
        Command::new(&python)
            .args(["-m", "tarfile", "-e"])
            .arg(only_file(&sdist)?)
            .arg(&sdist)
            .step("unpacking p2pclient's sources")?;
        fs::rename(sdist.join("p2pclient-0.3.0/tests"), dir.join("tests")).text()
    })
});

/// Directory of the virtual environment (`venv`) with what the package's own client needs.
pub static PY_CLIENT: Installed = LazyLock::new(|| {
    let pins = include_str!("../../interop/python/requirements-client.txt");
    installed("py-client", pins, |dir| {
        venv(dir, "requirements-client.txt").map(drop)
    })
});

/// Directory of py-libp2p's virtual environment (`venv`).
pub static PY_LIBP2P: Installed = LazyLock::new(|| {
    let pins = include_str!("../../interop/python/requirements-libp2p.txt");
    installed("py-libp2p", pins, |dir| {
        venv(dir, "requirements-libp2p.txt").map(drop)
    })
});

/// Directory of the virtual environment (`venv`) with hivemind and what its networking
/// modules need.
pub static HIVEMIND_CLIENT: Installed = LazyLock::new(|| {
    let pins = include_str!("../../interop/python/requirements-hivemind.txt");
    installed("hivemind-client", pins, |dir| {
        venv(dir, "requirements-hivemind.txt").map(drop)
    })
});

/// Directory of the fork's daemon (`p2pd`).
pub static HIVEMIND_P2PD: Installed = LazyLock::new(|| {
    installed("hivemind", HIVEMIND, |dir| {
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps"])
            .args(["--only-binary=:all:", "--dest"])
            .arg(dir)
            .arg(HIVEMIND)
            .step("downloading hivemind's wheel")?;
        let wheel = only_file(dir)?;
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(dir.join("wheel"))
            .step("unpacking hivemind's wheel")?;
        let binary = dir.join("p2pd");
        fs::rename(dir.join("wheel/hivemind/hivemind_cli/p2pd"), &binary).text()?;
        fs::remove_dir_all(dir.join("wheel")).text()?;
        fs::remove_file(wheel).text()?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(binary, executable).text()
    })
});

/// Directory of Go's daemon (`p2pd`), that in a private network (`private`), its `p2p-keygen` and
/// the program around its client (`client`).
pub static GO: Installed = LazyLock::new(|| {
    let sources = source("go");
    let key = [
        include_str!("../../interop/go/go.mod"),
        include_str!("../../interop/go/client/main.go"),
        include_str!("../../interop/go/client/scenarios.go"),
        include_str!("../../interop/go/records/main.go"),
        include_str!("../../interop/go/private/main.go"),
    ];
    installed("go", &key.concat(), |dir| {
        Command::new("go")
            .current_dir(&sources)
            .args(["build", "-o"])
            .arg(dir)
            .args(["./client", "./records", "./private"])
            .args(["p2pd", "p2p-keygen"].map(|tool| format!("{GO_DAEMON}/{tool}")))
            .step("building go-libp2p-daemon and its client")
    })
});

/// Directory of the JavaScript programs beside their packages.
pub static JS: Installed = LazyLock::new(|| {
    let files = [
        (
            "package.json",
            include_str!("../../interop/js/package.json"),
        ),
        (
            "package-lock.json",
            include_str!("../../interop/js/package-lock.json"),
        ),
        ("node20.mjs", include_str!("../../interop/js/node20.mjs")),
        ("address.mjs", include_str!("../../interop/js/address.mjs")),
        ("client.mjs", include_str!("../../interop/js/client.mjs")),
        ("server.mjs", include_str!("../../interop/js/server.mjs")),
    ];
    let key: String = files.iter().map(|(_, text)| *text).collect();
    installed("js", &key, |dir| {
        for (name, text) in files {
            fs::write(dir.join(name), text).text()?;
        }
        Command::new("npm")
            .current_dir(dir)
            .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
            .step("installing the npm packages")
    })
});

/// Python 3.10 or newer that can make virtual environments.
pub fn python_toolchain() -> Toolchain {
    let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))";
    works(Command::new("python3").args(["-c", check]))
        .map_err(|_| "no python3 (3.10 or newer) with venv and pip".into())
}

/// The fork's binary is for one platform only.
pub fn hivemind_platform(python: &Toolchain) -> Toolchain {
    python.clone()?;
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Ok(());
    }
    Err("hivemind's wheel carries a daemon for Linux on x86-64 only".into())
}

pub fn node_toolchain() -> Toolchain {
    let check = "process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)";
    works(Command::new("node").args(["-e", check]))
        .and_then(|()| works(Command::new("npm").arg("--version")))
        .map_err(|_| "no node (20 or newer) with npm".into())
}

pub fn go_toolchain() -> Toolchain {
    works(Command::new("go").arg("version")).map_err(|_| "no go".into())
}

/// A file or directory of `interop/` in the sources.
pub fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(path)
}

fn works(command: &mut Command) -> Result<(), String> {
    run(command, Duration::from_secs(60)).map(drop)
}

/// `target/interop/<name>-<version>`, filled by `fill` unless an earlier run did. `key` is
/// all that decides what is in it: another key is another version beside this one, so that
/// nothing changes under a run of older tests. Concurrent runs wait for each other; an
/// interrupted one is begun anew.
fn installed(
    name: &str,
    key: &str,
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("interop");
    fs::create_dir_all(&root).text()?;
    let digest = Sha256::digest(key);
    let version: String = digest[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let dir = root.join(format!("{name}-{version}"));
    let lock = File::create(dir.with_extension("lock")).text()?;
    flock(&lock, FlockOperation::LockExclusive).text()?;
    let stamp = dir.join("complete");
    if stamp.exists() {
        return Ok(dir);
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).text()?;
    }
    fs::create_dir_all(&dir).text()?;
    fill(&dir)?;
    File::create(stamp).text()?;
    Ok(dir)
}

/// A virtual environment in `dir/venv` with exactly the pinned packages; its interpreter.
fn venv(dir: &Path, requirements: &str) -> Result<PathBuf, String> {
    let venv = dir.join("venv");
    Command::new("python3")
        .args(["-m", "venv"])
        .arg(&venv)
        .step("making a virtual environment")?;
    let python = venv.join("bin/python");
    pip(&python)
        .args(["install", "--quiet", "--no-deps", "--requirement"])
        .arg(source("python").join(requirements))
        .step(&format!("installing {requirements}"))?;
    Ok(python)
}

fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-m", "pip"])
        .env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    command
}

fn only_file(dir: &Path) -> Result<PathBuf, String> {
    let mut files = fs::read_dir(dir).text()?.filter_map(Result::ok);
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file.path()),
        _ => Err(format!("not exactly one file in {}", dir.display())),
    }
}

trait Step {
    /// Runs the command as one announced step of an installation.
    fn step(&mut self, what: &str) -> Result<(), String>;
}

impl Step for Command {
    fn step(&mut self, what: &str) -> Result<(), String> {
        eprintln!("interop: {what}");
        run(self, INSTALL).map(drop)
    }
}

trait Text<T> {
    fn text(self) -> Result<T, String>;
}

impl<T, E: std::fmt::Display> Text<T> for Result<T, E> {
    fn text(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}
