//! The programs under comparison and where they come from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The program cargo built along with this one.
pub(crate) const DEFAULT_A: &str = concat!("rp2pd=", env!("CARGO_BIN_EXE_rp2pd"));

/// Hivemind's Go daemon.
pub(crate) const DEFAULT_B: &str = "p2pd=fork";

/// Release of the Python package that carries the Go daemon.
const FORK_RELEASE: &str = "hivemind==1.1.12";

/// The Go daemon inside that package.
const FORK_MEMBER: &str = "hivemind/hivemind_cli/p2pd";

/// One daemon program with its name in the report.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Flags beyond those a measurement sets.
    pub(crate) flags: Vec<String>,
}

impl Side {
    /// Reads `NAME=PATH`; the path `fork` fetches Hivemind's daemon.
    ///
    /// # Errors
    /// Another syntax, or no such program.
    pub(crate) fn parse(text: &str, flags: &[String]) -> Result<Self> {
        let (name, path) = text
            .split_once('=')
            .with_context(|| format!("`{text}` is not NAME=PATH"))?;
        let path = if path == "fork" {
            fork()?
        } else {
            PathBuf::from(path)
        };
        ensure!(path.is_file(), "no program at {}", path.display());
        Ok(Self {
            name: name.to_owned(),
            path,
            flags: flags.to_vec(),
        })
    }
}

/// Directory below `target/` for what is fetched and written.
pub(crate) fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Path of Hivemind's Go daemon, taken out of its Python package on first use.
fn fork() -> Result<PathBuf> {
    let home = scratch().join("peers").join(FORK_RELEASE);
    let program = home.join(FORK_MEMBER);
    if program.is_file() {
        return Ok(program);
    }
    std::fs::create_dir_all(&home).with_context(|| format!("create {}", home.display()))?;
    python(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
            .arg(&home)
            .arg(FORK_RELEASE),
    )?;
    let wheel = std::fs::read_dir(&home)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ext| ext == "whl"))
        .with_context(|| format!("pip left no wheel of {FORK_RELEASE}"))?;
    python(
        Command::new("python3")
            .args(["-m", "zipfile", "--extract"])
            .arg(wheel)
            .arg(&home),
    )?;
    let mut mode = std::fs::metadata(&program)
        .with_context(|| format!("{FORK_RELEASE} carries no {FORK_MEMBER}"))?
        .permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&program, mode)?;
    Ok(program)
}

fn python(command: &mut Command) -> Result<()> {
    let status = command.status().context("run python3")?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
