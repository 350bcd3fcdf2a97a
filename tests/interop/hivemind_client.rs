//! Hivemind's own networking modules, with the daemon under test in the place of the one
//! that their package brings. Every case of the program is a trial.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use libtest_mimic::Trial;
use serde::Deserialize;

use super::install;
use super::program::run;
use super::suite::trial;
use crate::support::daemon::binary_under_test;

const SUITE: &str = "hivemind_client";
const RUN: Duration = Duration::from_secs(600);
const CASES: [&str; 26] = [
    "start_and_stop",
    "unary_both_ways",
    "every_kind_of_streaming",
    "caller_and_name_are_told",
    "exceptions_reach_the_caller",
    "a_cancelled_call_cancels_its_handler",
    "a_closed_stream_cancels_its_handler",
    "a_timeout_cancels_its_handler",
    "many_calls_at_once",
    "large_messages",
    "the_message_limit_is_passed_on",
    "binary_streams",
    "replicas_share_the_daemon",
    "balanced_replicas_take_turns",
    "a_handler_is_added_once",
    "a_removed_handler_is_refused",
    "calls_that_cannot_be_made_fail",
    "a_server_that_dies_fails_its_calls",
    "peers_are_listed_and_left",
    "an_identity_is_kept",
    "a_swarm_is_joined_through_its_peers",
    "an_identity_in_use_is_refused",
    "a_failed_start_tells_why",
    "the_daemon_goes_with_a_killed_python",
    "log_lines_are_understood",
    "a_daemon_without_a_client_ends",
];

/// Hivemind's relay test. It takes half a minute, so each is a run of its own; with the package's
/// own daemon too, whose behaviour is the measure.
const RELAYS: [&str; 2] = [
    "with_relays_a_node_without_listeners_is_reached",
    "without_relays_a_node_without_listeners_is_not_reached",
];

#[derive(Debug, Deserialize)]
struct Outcome {
    case: String,
    wrong: Option<String>,
}

static OUTCOMES: LazyLock<Result<Vec<Outcome>, String>> = LazyLock::new(|| outcomes(&CASES, true));

pub fn trials() -> Vec<Trial> {
    let cases = CASES.into_iter();
    let cases = cases.map(|case| trial(SUITE, case, move || passed(case, OUTCOMES.as_ref()?)));
    let relays = RELAYS.into_iter().flat_map(|case| {
        let fork = format!("{case}_by_the_fork");
        [
            trial(SUITE, case, move || passed(case, &outcomes(&[case], true)?)),
            trial(SUITE, &fork, move || {
                passed(case, &outcomes(&[case], false)?)
            }),
        ]
    });
    cases.chain(relays).collect()
}

fn passed(case: &str, outcomes: &[Outcome]) -> Result<(), String> {
    let outcome = outcomes.iter().find(|outcome| outcome.case == case);
    match outcome.map(|outcome| &outcome.wrong) {
        Some(None) => Ok(()),
        Some(Some(wrong)) => Err(wrong.clone()),
        None => Err("not run".into()),
    }
}

/// Runs these cases with the daemon under test, or with the one that the package brings.
fn outcomes(cases: &[&str], under_test: bool) -> Result<Vec<Outcome>, String> {
    let dir = install::HIVEMIND_CLIENT.as_ref()?;
    let python = dir.join("venv/bin/python");
    let shadow = tempfile::tempdir().map_err(|error| error.to_string())?;
    let printed = run(
        Command::new(&python).args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('purelib'))",
        ]),
        RUN,
    )?;
    if under_test {
        let package = Path::new(printed.trim()).join("hivemind");
        shadow_package(&package, shadow.path()).map_err(|error| error.to_string())?;
    }
    let path = std::env::join_paths([shadow.path(), &install::source("python")])
        .map_err(|error| error.to_string())?;
    let printed = run(
        Command::new(python)
            .arg(install::source("python/hivemind_suite.py"))
            .args(cases)
            .env("PYTHONPATH", path)
            .env("PYTHONDONTWRITEBYTECODE", "1"),
        RUN,
    )?;
    printed
        .lines()
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}")))
        .collect()
}

/// The installed `package` once more below `shadow`, with another daemon in it.
fn shadow_package(package: &Path, shadow: &Path) -> std::io::Result<()> {
    const FOLDER: &str = "hivemind_cli";
    const DAEMON: &str = "p2pd";
    let copy = shadow.join("hivemind");
    let folder = copy.join(FOLDER);
    fs::create_dir_all(&folder)?;
    for (from, to, left_out) in [
        (package.to_owned(), copy, FOLDER),
        (package.join(FOLDER), folder.clone(), DAEMON),
    ] {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_name() != left_out {
                symlink(entry.path(), to.join(entry.file_name()))?;
            }
        }
    }
    symlink(
        std::path::absolute(binary_under_test())?,
        folder.join(DAEMON),
    )
}
