//! The adapter that makes a daemon a participant of libp2p's interop matrices.
//!
//! Each case runs `interop/adapter` as a matrix does: with the environment that its scripts set, a
//! Redis between the participants, and nothing but its output and exit code to judge it by.

mod absent;
mod misuse;
mod participant;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use self::participant::{Environment, Outcome, Participant};
use super::install;
use super::redis::Redis;
use super::suite::trial;
use crate::support::daemon::binary_under_test;
use crate::support::lab::Lab;
use crate::support::namespace;

const SUITE: &str = "adapter";
/// As the matrix writes them; the first may be the only one.
type Link = &'static [&'static str];
const LINKS: [Link; 7] = [
    &["tcp", "noise", "yamux"],
    &["tcp", "noise", "mplex"],
    &["tcp", "tls", "yamux"],
    &["tcp", "tls", "mplex"],
    &["ws", "noise", "yamux"],
    &["ws", "tls", "mplex"],
    &["quic-v1"],
];

pub fn trials() -> Vec<Trial> {
    let mut trials = misuse::trials();
    trials.extend(absent::trials());
    for link in LINKS {
        let name = format!("transport_{}", link.join("_"));
        trials.push(trial(SUITE, &name, move || {
            transport(&binary_under_test(), &binary_under_test(), link)
        }));
    }
    trials.push(trial(SUITE, "transport_under_older_names", older_names));
    trials.push(trial(SUITE, "perf", perf));
    trials.push(trial(SUITE, "perf_of_the_older_matrix", perf_command));
    trials.push(trial(SUITE, "kad_dht", || {
        let rp2pd = binary_under_test();
        kad_dht([&rp2pd, &rp2pd, &rp2pd])
    }));
    trials.push(trial(SUITE, "gossipsub", gossipsub));
    for link in [LINKS[0], LINKS[6]] {
        let name = format!("hole_punch_{}", link.join("_"));
        trials.push(trial(SUITE, &name, move || hole_punch(link)));
    }
    trials
}

/// The same with Go's daemon at one end: the adapter knows neither of them.
pub fn go() -> Vec<Trial> {
    let mut trials = Vec::new();
    for link in [LINKS[0], LINKS[3], LINKS[4]] {
        let name = format!("go_v0_9_2_transport_{}", link.join("_"));
        trials.push(trial(SUITE, &name, move || {
            let go = go_daemon()?;
            transport(&go, &binary_under_test(), link)?;
            transport(&binary_under_test(), &go, link)
        }));
    }
    trials.push(trial(SUITE, "go_v0_9_2_kad_dht", || {
        let go = go_daemon()?;
        kad_dht([&binary_under_test(), &go, &go])
    }));
    trials
}

fn go_daemon() -> Result<PathBuf, String> {
    Ok(install::GO.as_ref()?.join("p2pd"))
}

fn linked(environment: Environment, link: Link) -> Environment {
    ["TRANSPORT", "SECURE_CHANNEL", "MUXER"]
        .into_iter()
        .zip(link)
        .fold(environment, |environment, (name, value)| {
            environment.set(name, value)
        })
}

fn transport(listener: &Path, dialer: &Path, link: Link) -> Result<(), String> {
    let redis = Redis::start()?;
    let environment = linked(Environment::modern(&redis), link).set("LISTENER_IP", "0.0.0.0");
    let listener = Participant::start(
        "transport",
        environment
            .clone()
            .daemon(listener)
            .set("IS_DIALER", "false"),
    )?;
    let dialer = environment.daemon(dialer).set("IS_DIALER", "true");
    let outcome = Participant::start("transport", dialer)?.end()?;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_latency(&outcome.stdout);
    let outcome = listener.terminate()?;
    assert_eq!(outcome.code, Some(143), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "", "results are the dialer's");
    Ok(())
}

/// The lines that the matrix's script looks for, and no others.
fn assert_latency(stdout: &str) {
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{stdout}");
    assert_eq!((lines[0], lines[3]), ("latency:", "  unit: ms"));
    let number = |line: &str, name: &str| -> f64 {
        let text = line.strip_prefix(name).expect(name);
        text.parse().expect("a number")
    };
    let handshake = number(lines[1], "  handshake_plus_one_rtt: ");
    let round_trip = number(lines[2], "  ping_rtt: ");
    assert!(handshake >= round_trip && round_trip > 0.0, "{stdout}");
}

/// Lower case variables, one key for all, JSON with the misspelt name.
fn older_names() -> Result<(), String> {
    let redis = Redis::start()?;
    let environment = Environment::new()
        .set("redis_addr", &redis.address())
        .set("transport", "tcp")
        .set("security", "noise")
        .set("muxer", "yamux")
        .set("ip", "0.0.0.0")
        .set("test_timeout_seconds", "60")
        .daemon(&binary_under_test());
    let listener = environment.clone().set("is_dialer", "false");
    let _listener = Participant::start("transport", listener)?;
    let outcome = Participant::start("transport", environment.set("is_dialer", "true"))?.end()?;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let results: Value =
        serde_json::from_str(&outcome.stdout).map_err(|error| error.to_string())?;
    for name in ["handshakePlusOneRTTMillis", "pingRTTMilllis"] {
        assert!(
            results[name].as_f64().is_some_and(|ms| ms > 0.0),
            "{results}"
        );
    }
    Ok(())
}

fn perf() -> Result<(), String> {
    let redis = Redis::start()?;
    let mut environment = linked(Environment::modern(&redis), LINKS[0])
        .daemon(&binary_under_test())
        .set("LISTENER_IP", "0.0.0.0")
        .set("DURATION", "20");
    for (name, value) in [("UPLOAD", 3_000_000), ("DOWNLOAD", 2_000_000)] {
        environment = environment.set(&format!("{name}_BYTES"), &value.to_string());
        environment = environment.set(&format!("{name}_ITERATIONS"), "3");
    }
    let listener = environment.clone().set("IS_DIALER", "false");
    let _listener = Participant::start("perf", listener)?;
    // "null" is what the matrix writes where its table has no number.
    let dialer = environment
        .set("IS_DIALER", "true")
        .set("LATENCY_ITERATIONS", "null");
    let outcome = Participant::start("perf", dialer)?.end()?;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let results = sections(&outcome.stdout);
    for (name, times, unit) in [
        ("upload", "3", "Gbps"),
        ("download", "3", "Gbps"),
        ("latency", "100", "ms"),
    ] {
        let section = &results[name];
        assert_eq!(section["iterations"], times);
        assert_eq!(section["unit"], unit);
        let samples = section["samples"].split(',').count();
        assert_eq!(samples.to_string(), times, "{section:?}");
        let values = ["min", "q1", "median", "q3", "max"]
            .map(|name| section[name].parse::<f64>().expect("a number"));
        assert!(values.is_sorted() && values[0] > 0.0, "{section:?}");
    }
    Ok(())
}

/// Section to name to value, of the YAML that the matrix's scripts cut out line by line.
fn sections(stdout: &str) -> HashMap<&str, HashMap<&str, &str>> {
    let mut sections = HashMap::<_, HashMap<_, _>>::new();
    let mut current = "";
    for line in stdout.lines() {
        match line
            .strip_prefix("  ")
            .and_then(|line| line.split_once(": "))
        {
            Some((name, value)) => {
                sections.entry(current).or_default().insert(name, value);
            }
            None => current = line.trim_end_matches(':'),
        }
    }
    sections
}

/// `perf --run-server` and its client, which knows the server's key without being told.
fn perf_command() -> Result<(), String> {
    let address = format!("127.0.0.1:{}", super::redis::free_port()?);
    let environment = Environment::new().daemon(&binary_under_test());
    let server = ["perf", "--run-server", "--server-address", &address];
    let server = Participant::run(&server, environment.clone())?;
    server.said("/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")?;
    let mut client = vec!["perf", "--server-address", &address, "--transport", "tcp"];
    client.extend(["--upload-bytes", "100000", "--download-bytes", "200000"]);
    let outcome = Participant::run(&client, environment)?.end()?;
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let last = outcome.stdout.lines().last().unwrap_or_default();
    let results: Value = serde_json::from_str(last).map_err(|error| error.to_string())?;
    assert_eq!(results["type"], "final");
    assert_eq!(results["uploadBytes"], 100_000);
    assert_eq!(results["downloadBytes"], 200_000);
    assert!(
        results["timeSeconds"]
            .as_f64()
            .is_some_and(|time| time > 0.0)
    );
    Ok(())
}

/// Bootstrap node, provider, querier.
fn kad_dht(daemons: [&Path; 3]) -> Result<(), String> {
    let redis = Redis::start()?;
    let mut running = Vec::new();
    for (role, daemon) in ["bootstrap", "provider", "querier"]
        .into_iter()
        .zip(daemons)
    {
        let environment = Environment::modern(&redis).daemon(daemon).set("ROLE", role);
        running.push(Participant::start("kad-dht", environment)?);
    }
    let querier = running.pop().ok_or("no querier")?;
    let Outcome {
        code,
        stdout,
        stderr,
    } = querier.end()?;
    assert_eq!(
        (code, stdout.as_str()),
        (Some(0), "status: pass\n"),
        "{stderr}"
    );
    Ok(())
}

/// Dialer and listener behind NATs, each with a router of its own, and a relay beside Redis.
fn hole_punch(link: Link) -> Result<(), String> {
    let Some(lab) = Lab::new() else { return Ok(()) };
    let mut outcome = hole_punched(&lab, link)?;
    // The emulated NATs lose one now and then.
    if outcome.code != Some(0) {
        outcome = hole_punched(&lab, link)?;
    }
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_latency(&outcome.stdout);
    Ok(())
}

fn hole_punched(lab: &Lab, link: Link) -> Result<Outcome, String> {
    const RELAY: &str = "60.0.1.1";
    let public = lab.host(&format!("{RELAY}/16"));
    let mut redis = public.command("redis-server");
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    redis.args(["--bind", RELAY, "--save", "", "--protected-mode", "no"]);
    let redis = redis.arg("--dir").arg(directory.path());
    let _redis = Killed(
        redis
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?,
    );
    let (_near_router, near) = lab.behind_nat("60.0.10.1/16", 10);
    let (_far_router, far) = lab.behind_nat("60.0.20.1/16", 20);
    let environment = linked(Environment::new(), link)
        .daemon(&binary_under_test())
        .set("REDIS_ADDR", &format!("{RELAY}:6379"))
        .set("TEST_KEY", "a5b50d5e")
        .set("TEST_TIMEOUT_SECS", "60");
    let _relay = Participant::on(
        &public,
        "hole-punch",
        environment.clone().set("RELAY_IP", RELAY),
    )?;
    let listener = environment.clone().set("IS_DIALER", "false");
    let _listener = Participant::on(&far, "hole-punch", listener)?;
    Participant::on(&near, "hole-punch", environment.set("IS_DIALER", "true"))?.end()
}

/// Ends with its owner.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When a line was printed, from the beginning of that day on.
fn time_of(line: &Value) -> Option<Duration> {
    let (_, time) = line["time"].as_str()?.split_once('T')?;
    let mut parts = time.get(..15)?.splitn(3, ':');
    let mut number = || parts.next()?.parse::<f64>().ok();
    let seconds = number()? * 3600.0 + number()? * 60.0 + number()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Two nodes with host names and addresses of their own, as the simulator gives them.
fn gossipsub() -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = |name: &str| directory.path().join(name);
    let hosts = "127.0.1.1 node0\n127.0.1.2 node1\n";
    std::fs::write(path("hosts"), hosts).map_err(|error| error.to_string())?;
    let script = include_str!("../../interop/adapter/example-gossipsub.json");
    std::fs::write(path("params.json"), script).map_err(|error| error.to_string())?;
    // One network for both nodes; each has a host name, and thereby a number.
    let set_up = format!(
        "ip link set lo up; mount --bind {} /etc/hosts",
        path("hosts").display()
    );
    let Some(mut both) = namespace::inside_of(&["--net", "--mount", "--uts"], &set_up) else {
        eprintln!("not allowed to make namespaces: skipped");
        return Ok(());
    };
    let node = |number: u8| {
        format!(
            "unshare --uts sh -c 'hostname node{number}; exec python3 -B {} gossipsub --params {}'",
            install::source("adapter").display(),
            path("params.json").display(),
        )
    };
    let script = format!("{} & {}; wait $!", node(0), node(1));
    both.args(["sh", "-c", &script])
        .env("P2PD", binary_under_test());
    let printed = super::program::run(&mut both, participant::PATIENCE)?;
    let lines: Vec<Value> = printed
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let told = |message: &str| lines.iter().filter(|line| line["msg"] == message).count();
    assert_eq!(told("PeerID"), 2, "{printed}");
    for id in ["7", "8"] {
        let has_come = |line: &&Value| line["msg"] == "Received Message" && line["id"] == id;
        let come: Vec<_> = lines.iter().filter(has_come).collect();
        assert_eq!(come.len(), 1, "message {id}: {printed}");
        let first = lines.iter().filter_map(time_of).min();
        let spent = time_of(come[0]).zip(first).map(|(at, first)| at - first);
        // Published after 8 s, and judged for a second by each of the two.
        let delayed = spent.is_some_and(|spent| spent >= Duration::from_millis(9900));
        assert!(delayed, "message {id} after {spent:?}: {printed}");
    }
    Ok(())
}
