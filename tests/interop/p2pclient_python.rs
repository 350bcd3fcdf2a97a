//! p2pclient's own test-suite from its source distribution, unchanged, on both kinds of
//! control socket. One run of it each; every test of it is a trial.

use std::collections::BTreeSet;
use std::ffi::OsString;
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

const SUITE: &str = "p2pclient_python";
const RUN: Duration = Duration::from_secs(300);
/// The file of the suite that starts daemons; the others test the client alone.
const INTEGRATION: &str = "test_p2pclient_integration.py";
/// The client has two event loops: one is tried with each kind of control socket.
const IP4_LOOP: &str = "not trio";
const UNIX_LOOP: &str = "trio";
const TESTS: [&str; 27] = [
    "test_client_identify_unix_socket",
    "test_client_identify",
    "test_client_connect_success",
    "test_client_connect_failure",
    "test_connect_safe",
    "test_client_list_peers",
    "test_client_disconnect",
    "test_client_stream_open_success",
    "test_client_stream_open_failure",
    "test_client_stream_handler_success",
    "test_client_stream_handler_failure",
    "test_client_dht_find_peer_success",
    "test_client_dht_find_peer_failure",
    "test_client_dht_find_providers",
    "test_client_dht_get_closest_peers",
    "test_client_dht_get_public_key_success",
    "test_client_dht_get_public_key_failure",
    "test_client_dht_get_value",
    "test_client_dht_search_value",
    "test_client_dht_provide",
    "test_client_connmgr_tag_peer",
    "test_client_connmgr_untag_peer",
    "test_client_connmgr_trim",
    "test_client_pubsub_get_topics",
    "test_client_pubsub_list_topic_peers",
    "test_client_pubsub_publish",
    "test_client_pubsub_subscribe",
];

#[derive(Debug, Deserialize)]
struct Outcome {
    file: String,
    test: String,
    outcome: String,
    reason: String,
}

impl Outcome {
    /// The name without its parameters.
    fn function(&self) -> &str {
        self.test.split('[').next().unwrap_or(&self.test)
    }
}

type Outcomes = LazyLock<Result<Vec<Outcome>, String>>;

static IP4: Outcomes = LazyLock::new(|| outcomes("ip4", IP4_LOOP));
static UNIX: Outcomes = LazyLock::new(|| outcomes("unix", UNIX_LOOP));

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (control, outcomes) in [("ip4", &IP4), ("unix", &UNIX)] {
        for test in TESTS {
            trials.push(trial(SUITE, &format!("{test}_{control}"), move || {
                passed(outcomes, |outcome| outcome.function() == test)
            }));
        }
    }
    trials.push(trial(SUITE, "the_clients_own_units", || {
        passed(&IP4, |outcome| outcome.file != INTEGRATION)
    }));
    trials.push(trial(SUITE, "no_test_in_scope_is_left_out", || {
        let run: BTreeSet<_> = IP4
            .as_ref()?
            .iter()
            .filter(|outcome| outcome.file == INTEGRATION)
            // What upstream itself skips, with a reason in its source.
            .filter(|outcome| outcome.outcome != "skipped")
            .map(Outcome::function)
            .collect();
        if run == BTreeSet::from(TESTS) {
            return Ok(());
        }
        Err(format!("the suite has these tests in scope: {run:?}"))
    }));
    trials
}

/// All tests that `chosen` picks passed, and there is at least one.
fn passed(outcomes: &Outcomes, chosen: impl Fn(&Outcome) -> bool) -> Result<(), String> {
    let mut any = false;
    for outcome in outcomes.as_ref()?.iter().filter(|outcome| chosen(outcome)) {
        any = true;
        if outcome.outcome != "passed" {
            return Err(format!(
                "{} {}\n{}",
                outcome.test, outcome.outcome, outcome.reason
            ));
        }
    }
    if any { Ok(()) } else { Err("not run".into()) }
}

fn outcomes(control: &str, selected: &str) -> Result<Vec<Outcome>, String> {
    let dir = install::P2PCLIENT_PYTHON.as_ref()?;
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let results = scratch.path().join("results");
    std::os::unix::fs::symlink(absolute(&binary_under_test())?, scratch.path().join("p2pd"))
        .map_err(|error| error.to_string())?;
    let ended = run(
        Command::new(dir.join("venv/bin/python"))
            .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
            .args(["-p", "p2pclient_suite", "-k", selected])
            .arg(dir.join("tests"))
            .env("PATH", first_on_path(scratch.path())?)
            .env("PYTHONPATH", install::source("python"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CONTROL", control)
            .env("RESULTS", &results),
        RUN,
    );
    // Failed tests are reported one by one; a run without results as a whole.
    match std::fs::read_to_string(results) {
        Ok(lines) => lines
            .lines()
            .map(|line| serde_json::from_str(line).map_err(|error| error.to_string()))
            .collect(),
        Err(error) => Err(ended.err().unwrap_or_else(|| error.to_string())),
    }
}

fn absolute(path: &Path) -> Result<std::path::PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}

fn first_on_path(dir: &Path) -> Result<OsString, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(dirs).map_err(|error| error.to_string())
}
