//! What a matrix or its host can get wrong: one line on stderr, a code other than 0, in time, and
//! nothing left running.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use libtest_mimic::Trial;
use rustix::process::{Pid, Signal, test_kill_process};
use tempfile::TempDir;

use super::absent::asked;
use super::participant::{Environment, Participant};
use super::{LINKS, SUITE, linked};
use crate::interop::redis::Redis;
use crate::interop::suite::trial;
use crate::support::daemon::binary_under_test;
use crate::support::{PATIENCE, eventually};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(SUITE, "environment_incomplete", incomplete),
        trial(SUITE, "environment_contradictory", contradictory),
        trial(SUITE, "environment_malformed", malformed),
        trial(SUITE, "daemon_absent", daemon_absent),
        trial(SUITE, "daemon_ends_at_once", daemon_ends_at_once),
        trial(SUITE, "daemon_dies", daemon_dies),
        trial(SUITE, "listener_address_malformed", address_malformed),
        trial(SUITE, "killed", killed),
    ]
}

/// A complete environment of a dialer or listener, over TCP.
pub fn complete(redis: &Redis, is_dialer: &str) -> Environment {
    linked(Environment::modern(redis), LINKS[0])
        .daemon(&binary_under_test())
        .set("IS_DIALER", is_dialer)
        .set("LISTENER_IP", "127.0.0.1")
}

/// Runs a participant that must fail, and asserts the one line that it ends with.
pub fn refused(
    test: &str,
    environment: Environment,
    code: i32,
    reason: &str,
) -> Result<(), String> {
    let outcome = Participant::start(test, environment)?.end()?;
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    let last = outcome.stderr.lines().last().unwrap_or_default();
    let is_told = last.starts_with("adapter: ") && last.contains(reason);
    assert!(is_told, "{reason:?} is not in {:?}", outcome.stderr);
    assert!(!outcome.stderr.contains("Traceback"), "{}", outcome.stderr);
    Ok(())
}

fn incomplete() -> Result<(), String> {
    let redis = Redis::start()?;
    for (name, reason) in [
        ("IS_DIALER", "the environment lacks IS_DIALER"),
        ("TEST_KEY", "the environment lacks TEST_KEY"),
        ("TRANSPORT", "the environment lacks TRANSPORT"),
        ("SECURE_CHANNEL", "the environment lacks SECURE_CHANNEL"),
        ("MUXER", "the environment lacks MUXER"),
    ] {
        for is_dialer in ["true", "false"] {
            let environment = complete(&redis, is_dialer).without(name);
            refused("transport", environment, 2, reason)?;
        }
    }
    refused(
        "transport",
        Environment::new(),
        2,
        "the environment lacks IS_DIALER",
    )?;
    refused(
        "perf",
        Environment::new(),
        2,
        "the environment lacks IS_DIALER",
    )?;
    refused(
        "kad-dht",
        Environment::new(),
        2,
        "the environment lacks ROLE",
    )?;
    refused(
        "hole-punch",
        Environment::new(),
        2,
        "the environment lacks TEST_KEY",
    )?;
    refused("gossipsub", Environment::new(), 2, "--params FILE")?;
    let lonely = linked(Environment::modern(&redis), LINKS[0])
        .set("IS_DIALER", "true")
        .set("WAN_SUBNET", "10.1.1.64/27");
    refused(
        "hole-punch",
        lonely,
        2,
        "the environment lacks WAN_ROUTER_IP",
    )
}

fn contradictory() -> Result<(), String> {
    let redis = Redis::start()?;
    for (name, value) in [
        ("is_dialer", "false"),
        ("transport", "ws"),
        ("security", "tls"),
    ] {
        let environment = complete(&redis, "true").set(name, value);
        refused(
            "transport",
            environment,
            2,
            "the environment contradicts itself",
        )?;
    }
    Ok(())
}

fn malformed() -> Result<(), String> {
    let redis = Redis::start()?;
    for (name, value) in [
        ("IS_DIALER", "maybe"),
        ("TRANSPORT", "pigeon"),
        ("SECURE_CHANNEL", "secio"),
        ("MUXER", "spdy"),
        ("REDIS_ADDR", "host:port"),
        ("REDIS_ADDR", ":6379"),
        ("TEST_TIMEOUT_SECS", "0"),
        ("TEST_TIMEOUT_SECS", "-1"),
        ("TEST_TIMEOUT_SECS", "1e9"),
        ("TEST_KEY", "a\nb"),
    ] {
        refused(
            "transport",
            complete(&redis, "true").set(name, value),
            2,
            name,
        )?;
    }
    let environment = complete(&redis, "true").set("UPLOAD_BYTES", "0");
    refused("perf", environment, 2, "UPLOAD_BYTES")?;
    refused(
        "kad-dht",
        Environment::modern(&redis).set("ROLE", "king"),
        2,
        "ROLE",
    )?;
    refused("tea", Environment::new(), 2, "no such test")
}

fn daemon_absent() -> Result<(), String> {
    let redis = Redis::start()?;
    let environment = complete(&redis, "false").set("P2PD", "/nowhere/p2pd");
    refused("transport", environment, 2, "is no program")
}

fn daemon_ends_at_once() -> Result<(), String> {
    let redis = Redis::start()?;
    let environment = complete(&redis, "false").set("P2PD_FLAGS", "-noSuchFlag");
    refused("transport", environment, 1, "ended at once: ")
}

fn daemon_dies() -> Result<(), String> {
    let redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = complete(&redis, "false").daemon(&daemon.program);
    let listener = Participant::start("transport", environment)?;
    let pid = daemon.running()?;
    rustix::process::kill_process(pid, Signal::KILL).map_err(|error| error.to_string())?;
    let outcome = listener.end()?;
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("adapter: "), "{}", outcome.stderr);
    Ok(())
}

fn address_malformed() -> Result<(), String> {
    let redis = Redis::start()?;
    for address in [
        "",
        "/ip4/1.2.3.4",
        "/ip4/127.0.0.1/tcp/1/p2p/0OIl",
        "/ip4/x/tcp/1/p2p/QmX",
    ] {
        let text = if address.is_empty() { " " } else { address };
        asked(&redis, &["RPUSH", "a5b50d5e_listener_multiaddr", text])?;
        let outcome = Participant::start("transport", complete(&redis, "true"))?.end()?;
        assert_eq!(outcome.code, Some(1), "{address}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("Traceback"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("adapter: "), "{}", outcome.stderr);
    }
    Ok(())
}

/// Killed without a chance to end its daemon, which ends all the same.
fn killed() -> Result<(), String> {
    let redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = complete(&redis, "false").daemon(&daemon.program);
    let listener = Participant::start("transport", environment)?;
    let pid = daemon.running()?;
    assert!(test_kill_process(pid).is_ok(), "the daemon has not run");
    listener.signal(Signal::KILL);
    daemon.assert_ended();
    Ok(())
}

/// A program that notes its process id and becomes the daemon under test.
pub struct Wrapped {
    directory: TempDir,
    pub program: PathBuf,
}

impl Wrapped {
    pub fn new() -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let program = directory.path().join("p2pd");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in -help) ;; *) echo $$ > {0}/new && mv {0}/new {0}/pid ;; esac\nexec {1} \"$@\"\n",
            directory.path().display(),
            binary_under_test().display(),
        );
        fs::write(&program, script).map_err(|error| error.to_string())?;
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, executable).map_err(|error| error.to_string())?;
        Ok(Self { directory, program })
    }

    fn pid(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.directory.path().join("pid")).ok()?;
        text.trim().parse().ok().and_then(Pid::from_raw)
    }

    /// Its process id, once it runs.
    fn running(&self) -> Result<Pid, String> {
        let mut pid = None;
        let runs = eventually(PATIENCE, || {
            pid = self.pid();
            pid.is_some()
        });
        pid.filter(|_| runs)
            .ok_or_else(|| "the daemon was not started".into())
    }

    /// Whether it ran or not: it does not run any more.
    pub fn assert_ended(&self) {
        let ended = || self.pid().is_none_or(|pid| test_kill_process(pid).is_err());
        assert!(eventually(PATIENCE, ended), "the daemon still runs");
    }
}
