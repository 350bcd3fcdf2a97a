//! Who does not come, or goes: Redis, a partner.

use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

use super::misuse::{Wrapped, complete, refused};
use super::participant::{Environment, Participant};
use super::{LINKS, SUITE, linked};
use crate::interop::install;
use crate::interop::redis::{Redis, free_port};
use crate::interop::suite::trial;
use crate::support::daemon::binary_under_test;
use crate::support::namespace;
use crate::support::{PATIENCE, eventually};

/// The timeout given to participants whose partner does not come, in seconds.
const SHORT: u64 = 6;
/// What they may take beside it, on a busy machine: to start, to end their daemon.
const SLACK: Duration = Duration::from_secs(30);

pub fn trials() -> Vec<Trial> {
    vec![
        trial(SUITE, "redis_absent", redis_absent),
        trial(SUITE, "redis_that_is_none", redis_that_is_none),
        trial(SUITE, "redis_gone_from_under_the_dialer", || {
            redis_gone("true")
        }),
        trial(SUITE, "redis_gone_from_under_the_listener", || {
            redis_gone("false")
        }),
        trial(SUITE, "no_listener_comes", || {
            nobody_comes("true", "nothing within 6 s")
        }),
        trial(SUITE, "no_dialer_comes", || {
            nobody_comes("false", "no dialer came within 6 s")
        }),
        trial(SUITE, "no_provider_comes", no_provider),
        trial(SUITE, "no_partner_of_perf_comes", no_partner_of_perf),
        trial(
            SUITE,
            "no_partner_behind_a_nat_comes",
            no_partner_behind_a_nat,
        ),
        trial(
            SUITE,
            "no_partner_of_gossipsub_comes",
            no_partner_of_gossipsub,
        ),
        trial(
            SUITE,
            "redis_gone_from_under_the_bootstrap_node",
            redis_gone_from_a_dht,
        ),
    ]
}

fn redis_absent() -> Result<(), String> {
    let redis = Redis::start()?;
    let nobody = format!("127.0.0.1:{}", free_port()?);
    for is_dialer in ["true", "false"] {
        let begin = Instant::now();
        let environment = complete(&redis, is_dialer)
            .set("REDIS_ADDR", &nobody)
            .set("TEST_TIMEOUT_SECS", &SHORT.to_string());
        refused("transport", environment, 1, "cannot be reached")?;
        assert_in_time(begin);
    }
    Ok(())
}

/// Something else answers at its address.
fn redis_that_is_none() -> Result<(), String> {
    let redis = Redis::start()?;
    for answer in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "$99999999999\r\n",
        "*9999\r\n",
        ":x\r\n",
    ] {
        let socket =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
        let address = socket.local_addr().map_err(|error| error.to_string())?;
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = socket.accept()?;
            stream.write_all(answer.as_bytes())
        });
        let environment = complete(&redis, "true").set("REDIS_ADDR", &address.to_string());
        refused("transport", environment, 1, "went away")?;
        let _ = thread.join();
    }
    Ok(())
}

fn redis_gone(is_dialer: &str) -> Result<(), String> {
    let mut redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = complete(&redis, is_dialer).daemon(&daemon.program);
    let participant = Participant::start("transport", environment)?;
    if is_dialer == "true" {
        // It waits there, and has no daemon yet.
        let waits = || clients(&redis).is_ok_and(|text| text.contains("blpop"));
        assert!(eventually(PATIENCE, waits), "the dialer does not ask Redis");
    } else {
        let pushed = || asked(&redis, &["EXISTS", "a5b50d5e_listener_multiaddr"]) == Ok("1".into());
        assert!(
            eventually(PATIENCE, pushed),
            "the listener tells no address"
        );
    }
    redis.kill();
    let outcome = participant.end()?;
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("went away"), "{}", outcome.stderr);
    daemon.assert_ended();
    Ok(())
}

fn clients(redis: &Redis) -> Result<String, String> {
    asked(redis, &["CLIENT", "LIST"])
}

pub fn asked(redis: &Redis, words: &[&str]) -> Result<String, String> {
    let (host, port) = redis
        .address()
        .split_once(':')
        .map(|(h, p)| (h.to_owned(), p.to_owned()))
        .ok_or("no port")?;
    let mut command = std::process::Command::new("redis-cli");
    command.args(["-h", &host, "-p", &port]).args(words);
    crate::interop::program::run(&mut command, PATIENCE).map(|text| text.trim().to_owned())
}

fn nobody_comes(is_dialer: &str, reason: &str) -> Result<(), String> {
    let redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = complete(&redis, is_dialer)
        .daemon(&daemon.program)
        .set("TEST_TIMEOUT_SECS", &SHORT.to_string());
    let begin = Instant::now();
    refused("transport", environment, 1, reason)?;
    assert_in_time(begin);
    daemon.assert_ended();
    Ok(())
}

fn no_provider() -> Result<(), String> {
    let redis = Redis::start()?;
    let environment = Environment::modern(&redis)
        .daemon(&binary_under_test())
        .set("TEST_TIMEOUT_SECS", &SHORT.to_string());
    let begin = Instant::now();
    refused(
        "kad-dht",
        environment.clone().set("ROLE", "querier"),
        1,
        "bootstrap_addr",
    )?;
    refused(
        "kad-dht",
        environment.set("ROLE", "bootstrap"),
        1,
        "no provider was done",
    )?;
    assert!(begin.elapsed() < 2 * (Duration::from_secs(SHORT) + SLACK));
    Ok(())
}

fn no_partner_of_perf() -> Result<(), String> {
    let redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    for (is_dialer, reason) in [("true", "listener_multiaddr"), ("false", "no dialer came")] {
        let environment = complete(&redis, is_dialer)
            .daemon(&daemon.program)
            .set("TEST_TIMEOUT_SECS", &SHORT.to_string());
        let begin = Instant::now();
        refused("perf", environment, 1, reason)?;
        assert_in_time(begin);
    }
    daemon.assert_ended();
    Ok(())
}

fn no_partner_behind_a_nat() -> Result<(), String> {
    let redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = || {
        linked(Environment::modern(&redis), LINKS[0])
            .daemon(&daemon.program)
            .set("TEST_TIMEOUT_SECS", &SHORT.to_string())
    };
    let begin = Instant::now();
    let relay = environment().set("RELAY_IP", "127.0.0.1");
    refused(
        "hole-punch",
        relay,
        1,
        "nobody came to the relay within 6 s",
    )?;
    assert_in_time(begin);
    asked(&redis, &["FLUSHALL"])?;
    for is_dialer in ["true", "false"] {
        let begin = Instant::now();
        let end = environment().set("IS_DIALER", is_dialer);
        refused("hole-punch", end, 1, "relay_multiaddr: nothing within 6 s")?;
        assert_in_time(begin);
    }
    daemon.assert_ended();
    Ok(())
}

/// The other node has an address and no daemon.
fn no_partner_of_gossipsub() -> Result<(), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let hosts = directory.path().join("hosts");
    fs::write(&hosts, "127.0.1.1 node0\n127.0.1.2 node1\n").map_err(|error| error.to_string())?;
    let set_up = format!(
        "ip link set lo up; mount --bind {} /etc/hosts; hostname node0",
        hosts.display()
    );
    let Some(mut alone) = namespace::inside_of(&["--net", "--mount", "--uts"], &set_up) else {
        eprintln!("not allowed to make namespaces: skipped");
        return Ok(());
    };
    let daemon = Wrapped::new()?;
    alone
        .args(["python3", "-B"])
        .arg(install::source("adapter"))
        .args(["gossipsub", "--params"])
        .arg(install::source("adapter/example-gossipsub.json"))
        .env("P2PD", &daemon.program)
        .env("TEST_TIMEOUT_SECS", SHORT.to_string());
    let begin = Instant::now();
    let said = crate::interop::program::run(&mut alone, PATIENCE);
    let said = said.err().ok_or("it did not fail")?;
    assert!(said.contains("exit status: 1"), "{said}");
    assert!(
        said.contains("adapter: CONNECT to /ip4/127.0.1.2"),
        "{said}"
    );
    assert_in_time(begin);
    daemon.assert_ended();
    Ok(())
}

fn redis_gone_from_a_dht() -> Result<(), String> {
    let mut redis = Redis::start()?;
    let daemon = Wrapped::new()?;
    let environment = Environment::modern(&redis)
        .daemon(&daemon.program)
        .set("ROLE", "bootstrap");
    let bootstrap = Participant::start("kad-dht", environment)?;
    let told = || asked(&redis, &["EXISTS", "a5b50d5e_bootstrap_addr"]) == Ok("1".into());
    assert!(eventually(PATIENCE, told), "no address is told");
    redis.kill();
    let outcome = bootstrap.end()?;
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("went away"), "{}", outcome.stderr);
    daemon.assert_ended();
    Ok(())
}

fn assert_in_time(begin: Instant) {
    let time = begin.elapsed();
    assert!(time < Duration::from_secs(SHORT) + SLACK, "{time:?}");
}
