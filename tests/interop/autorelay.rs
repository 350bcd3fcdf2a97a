//! Places at relays, in namespaces: Go's daemons as the relay, as the one that calls, and the fork as
//! the measure of what IDENTIFY tells and of the seconds it takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libtest_mimic::Trial;

use super::install;
use super::suite::trial;
use crate::support::daemon::binary_under_test;
use crate::support::lab::{Host, Lab};
use crate::support::{Daemon, Handler, PATIENCE, eventually, payload};

const SUITE: &str = "autorelay";
const ECHO: &str = "/interop/autorelay/1.0.0";
const TCP: &str = "-hostAddrs=/ip4/0.0.0.0/tcp/4001";
const TCP_AND_QUIC: &str = "-hostAddrs=/ip4/0.0.0.0/tcp/4001,/ip4/0.0.0.0/udp/4001/quic-v1";

/// The fork waits three minutes where it does not find four relays.
const LONGEST: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Own,
    Fork,
    Go,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "rp2pd",
            Self::Fork => "fork",
            Self::Go => "go",
        }
    }

    fn program(self) -> Result<PathBuf, String> {
        Ok(match self {
            Self::Own => binary_under_test(),
            Self::Fork => install::HIVEMIND_P2PD.as_ref()?.join("p2pd"),
            Self::Go => install::GO.as_ref()?.join("p2pd"),
        })
    }

    fn spawn(self, host: &Host, flags: &[&str]) -> Result<Daemon, String> {
        let launch = host.launch_program(self.program()?);
        launch.args(flags.iter().copied()).try_spawn()
    }
}

pub fn trials() -> Vec<Trial> {
    use Kind::{Fork, Go, Own};
    let mut trials = Vec::new();
    for relay in [Own, Fork, Go] {
        for dialer in [Own, Fork, Go] {
            let name = format!("{}_calls_by_{}", dialer.name(), relay.name());
            trials.push(trial(SUITE, &name, move || calls(relay, dialer)));
        }
    }
    for (name, flags) in [
        ("listening", &[TCP][..]),
        ("on_tcp_and_quic", &[TCP_AND_QUIC]),
        ("without_listeners", &["-noListenAddrs"]),
        (
            "with_announced_addresses",
            &[
                TCP,
                "-announceAddrs=/ip4/9.9.9.9/tcp/1,/ip4/192.168.7.7/tcp/2",
            ],
        ),
    ] {
        let name = format!("identify_{name}_is_that_of_the_fork");
        trials.push(trial(SUITE, &name, move || identify(flags)));
    }
    // Four minutes: asked for by name alone (CONTRIBUTING.md).
    trials.push(trial(SUITE, "times", times).with_ignored_flag(true));
    trials
}

/// A relay with `number`, which joins `first`.
fn relay(
    lab: &Lab,
    kind: Kind,
    number: u8,
    listen: &str,
    first: Option<&str>,
) -> Result<(Host, Daemon), String> {
    let host = lab.host(&format!("60.0.{number}.1/16"));
    let joins = first.map(|first| format!("-bootstrapPeers={first}"));
    let mut flags = vec![listen, "-dhtServer", "-autonat", "-forceReachabilityPublic"];
    if let Some(joins) = &joins {
        flags.extend(["-b", joins]);
    }
    let relay = kind.spawn(&host, &flags)?;
    Ok((host, relay))
}

fn named(relay: &Daemon, number: u8) -> String {
    format!("/ip4/60.0.{number}.1/tcp/4001/p2p/{}", relay.peer_id())
}

/// What IDENTIFY says.
fn told(daemon: &Daemon) -> Vec<String> {
    let (_, addresses) = daemon.client().identify();
    addresses.iter().map(ToString::to_string).collect()
}

fn circuits(told: &[String]) -> usize {
    let circuits = told.iter().filter(|told| told.ends_with("/p2p-circuit"));
    circuits.count()
}

/// Flags of a node that is private and has these relays alone.
fn private(trusted: &str) -> Vec<String> {
    let mut flags = vec![format!("-trustedRelays={trusted}")];
    for flag in [
        "-autoRelay",
        "-relayDiscovery=0",
        "-dhtServer",
        "-forceReachabilityPrivate",
    ] {
        flags.push(flag.to_owned());
    }
    flags
}

/// A daemon that has the circuit's address alone opens a stream to a node behind a NAT.
fn calls(by: Kind, dialer: Kind) -> Result<(), String> {
    let Some(lab) = Lab::new() else { return Ok(()) };
    let (_host, relay) = relay(&lab, by, 1, TCP, None)?;
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let flags = private(&named(&relay, 1));
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.push(TCP);
    let begun = Instant::now();
    let node = Kind::Own.spawn(&inside, &flags)?;
    let there = eventually(PATIENCE, || circuits(&told(&node)) == 1);
    assert!(there, "{:?}: {}", told(&node), node.stderr());
    println!(
        "{} as relay: a circuit after {:.2?}",
        by.name(),
        begun.elapsed()
    );
    let circuit = format!("{}/p2p-circuit", named(&relay, 1));
    assert_eq!(told(&node).last(), Some(&circuit));
    let host = lab.host("60.0.20.1/16");
    let caller = dialer.spawn(&host, &[TCP])?;
    // As hivemind hands it on.
    let whole = format!("{circuit}/p2p/{}", node.peer_id());
    let whole: Multiaddr = whole.parse().expect("an address");
    caller.client().connect_to(node.peer_id(), &[whole])?;
    let listed = caller.client().list_peers().into_iter();
    let at: Vec<_> = listed.filter(|(peer, _)| *peer == node.peer_id()).collect();
    let circuit: Multiaddr = circuit.parse().expect("an address");
    assert_eq!(at, [(node.peer_id(), vec![circuit.clone()])]);
    let handler = Handler::unix();
    handler.register(&mut node.client(), &[ECHO], Some(false))?;
    let echo = handler.echo(1);
    let (info, pipe) = caller.client().open_stream(node.peer_id(), &[ECHO])?;
    assert_eq!(info.addr.to_vec(), circuit.to_vec());
    let sent = payload(50_000, 11);
    assert!(pipe.echo(&sent) == sent, "other bytes come back");
    let heard = echo.join().map_err(|_| "the echo handler panicked")?;
    assert_eq!(heard[0].peer, caller.peer_id().to_bytes());
    Ok(())
}

/// Two relays, of which one has two addresses: all is told as the fork tells it.
fn identify(flags: &[&'static str]) -> Result<(), String> {
    let Some(lab) = Lab::new() else { return Ok(()) };
    let (_first, both) = relay(&lab, Kind::Fork, 1, TCP_AND_QUIC, None)?;
    let (_second, plain) = relay(&lab, Kind::Own, 2, TCP, None)?;
    // Each relay is named once: where one was named twice, the fork told no circuit within 30 s.
    let trusted = [named(&both, 1), named(&plain, 2)].join(",");
    let mut answers = Vec::new();
    for (kind, router) in [(Kind::Fork, "60.0.10.1/16"), (Kind::Own, "60.0.11.1/16")] {
        let (_router, inside) = lab.behind_nat(router, 10);
        let trusted = private(&trusted);
        let mut all: Vec<&str> = trusted.iter().map(String::as_str).collect();
        all.extend(flags);
        let node = kind.spawn(&inside, &all)?;
        let there = eventually(PATIENCE, || circuits(&told(&node)) == 3);
        assert!(there, "{}: {:?}", kind.name(), told(&node));
        answers.push(in_order(told(&node)));
    }
    println!("{flags:?}: {:#?}", answers[0]);
    let own = answers.pop();
    assert_eq!(own.as_ref(), answers.first(), "rp2pd beside the fork");
    Ok(())
}

/// The addresses of the node in their order, and then the circuits, whose order is that of a map in Go.
fn in_order(told: Vec<String>) -> (Vec<String>, Vec<String>) {
    let split = told.len() - circuits(&told);
    let (direct, mut circuits) = (told[..split].to_vec(), told[split..].to_vec());
    circuits.sort();
    assert!(
        circuits.iter().all(|told| told.ends_with("/p2p-circuit")),
        "circuits stand last: {told:?}"
    );
    (direct, circuits)
}

/// Writes seconds from the start of a node behind a NAT, with hivemind's flags, to a circuit in
/// IDENTIFY.
fn times() -> Result<(), String> {
    let rows = [
        ("five relays", 5, "-dhtServer", false),
        ("five relays, -dhtClient", 5, "-dhtClient", false),
        ("one relay", 1, "-dhtServer", false),
        ("a trusted relay", 1, "-dhtServer", true),
    ];
    println!("{:>24}{:>9}{:>9}", "", "rp2pd", "fork");
    for (name, count, mode, trusted) in rows {
        let both = [Kind::Own, Kind::Fork]
            .map(|kind| std::thread::spawn(move || seconds(kind, count, mode, trusted)));
        let mut row = format!("{name:>24}");
        for thread in both {
            let took = thread.join().map_err(|_| "a measurement panicked")??;
            row += &took.map_or_else(
                || format!("{:>9}", "-"),
                |took| format!("{:>9.1}", took.as_secs_f64()),
            );
        }
        println!("{row}");
    }
    Ok(())
}

fn seconds(kind: Kind, count: u8, mode: &str, trusted: bool) -> Result<Option<Duration>, String> {
    let Some(lab) = Lab::new() else {
        return Ok(None);
    };
    let mut relays = vec![relay(&lab, Kind::Own, 1, TCP, None)?];
    let first = named(&relays[0].1, 1);
    for number in 2..=count {
        relays.push(relay(&lab, Kind::Own, number, TCP, Some(&first))?);
    }
    let (_router, inside) = lab.behind_nat("60.0.10.1/16", 10);
    let bootstrap = format!("-bootstrapPeers={first}");
    let trust = format!("-trustedRelays={first}");
    let mut flags = vec![TCP, "-autonat=1", "-b=1", "-autoRelay=1", "-natPortMap=1"];
    flags.extend(["-relay=1", mode, &bootstrap]);
    if trusted {
        flags.push(&trust);
    }
    let node = kind.spawn(&inside, &flags)?;
    let begun = Instant::now();
    let there = eventually(LONGEST, || circuits(&told(&node)) > 0);
    Ok(there.then(|| begun.elapsed()))
}
