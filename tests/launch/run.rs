//! One run of the program that is expected to end by itself.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;

use crate::support::PATIENCE;
use crate::support::daemon::binary_under_test;

/// Variables that change what the program does or says.
pub const VARIABLES: [&str; 8] = [
    "GOLOG_FILE",
    "GOLOG_LOG_FMT",
    "GOLOG_LOG_LEVEL",
    "GOLOG_OUTPUT",
    "IPFS_LOGGING",
    "IPFS_LOGGING_FMT",
    "LIBP2P_FORCE_PNET",
    "RUST_LOG",
];

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// How a run by other means ended.
    pub fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The first line of stderr, without the time if it has one.
    pub fn first_line(&self) -> &str {
        untimed(self.stderr.lines().next().unwrap_or_default())
    }

    /// Asserts that the start was refused in one line: in these words of Go's, and then with what
    /// to do about it.
    #[track_caller]
    pub fn assert_refused(&self, words: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (1, ""), "{self:?}");
        let lines = self.timed_lines();
        let advice = lines
            .last()
            .and_then(|line| line.strip_prefix(words)?.strip_prefix(": "));
        assert!(
            advice.is_some_and(|advice| advice.len() > 8),
            "{words}: {self:?}"
        );
    }

    /// The lines of stderr, each of which must carry the time.
    pub fn timed_lines(&self) -> Vec<&str> {
        self.stderr
            .lines()
            .inspect(|line| assert_ne!(untimed(line), *line, "no time in {line:?}"))
            .map(untimed)
            .collect()
    }
}

/// Takes `YYYY/MM/DD HH:MM:SS ` off.
fn untimed(line: &str) -> &str {
    let shape: String = line
        .chars()
        .take(20)
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    match shape.as_str() {
        "0000/00/00 00:00:00 " => &line[20..],
        _ => line,
    }
}

/// Runs the program with `words` and an empty stdin.
pub fn rp2pd<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Run {
    run(words, b"", &[])
}

/// Runs the program to its end; one that does not end in time is killed and fails the test.
pub fn run<W: Into<OsString>>(
    words: impl IntoIterator<Item = W>,
    stdin: &[u8],
    envs: &[(&str, &str)],
) -> Run {
    let words: Vec<OsString> = words.into_iter().map(Into::into).collect();
    let mut command = Command::new(binary_under_test());
    for name in VARIABLES {
        command.env_remove(name);
    }
    let mut child = command
        .args(&words)
        .envs(envs.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut input = child.stdin.take().expect("stdin");
    let stdin = stdin.to_vec();
    std::thread::spawn(move || {
        // A program that does not read its stdin may be gone by now.
        let _ = input.write_all(&stdin);
    });
    let stdout = collect(child.stdout.take().expect("stdout"));
    let stderr = collect(child.stderr.take().expect("stderr"));
    let (Ok(stdout), Ok(stderr)) = (stdout.recv_timeout(PATIENCE), stderr.recv_timeout(PATIENCE))
    else {
        child.kill().expect("kill");
        panic!("still running after {PATIENCE:?}: {words:?}");
    };
    let status = child.wait().expect("wait");
    let code = status.code();
    Run {
        code: code.unwrap_or_else(|| panic!("{status}: {words:?}")),
        stdout,
        stderr,
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> std::sync::mpsc::Receiver<String> {
    let (sender, receiver) = sync_channel(1);
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}
