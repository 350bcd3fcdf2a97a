//! Nodes that hold places at relays by themselves (COMPATIBILITY.md 4.32). Behind a NAT of the
//! test's own they need namespaces, and are skipped by name where there are none.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod lost;
mod seen;
mod times;

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId};

use support::daemon::binary_under_test;
use support::lab::{Host, Lab};
use support::relay::{HOP, Hop, OK, RESERVE, Reservation, STATUS, receive};
use support::{Daemon, Handler, Launch, PATIENCE, Pipe, eventually, payload};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

const ECHO: &str = "/autorelay/echo/1.0.0";

/// What IDENTIFY says.
fn told(daemon: &Daemon) -> Vec<String> {
    let (_, addresses) = daemon.client().identify();
    addresses.iter().map(ToString::to_string).collect()
}

/// The circuits among it.
fn circuits(daemon: &Daemon) -> Vec<String> {
    let told = told(daemon).into_iter();
    told.filter(|address| address.ends_with("/p2p-circuit"))
        .collect()
}

/// How long until there is a circuit.
fn circuit_within(daemon: &Daemon, time: Duration) -> Duration {
    let begun = Instant::now();
    let there = eventually(time, || !circuits(daemon).is_empty());
    assert!(there, "no circuit in {time:?}: {}", daemon.stderr());
    begun.elapsed()
}

/// The address of `relay`, as an operator names it.
fn named(relay: &Daemon, at: &str) -> String {
    format!("{at}/p2p/{}", relay.peer_id())
}

/// rp2pd, whatever daemon is under test.
fn own(launch: Launch) -> Launch {
    launch.binary(env!("CARGO_BIN_EXE_rp2pd"))
}

/// Relays on hosts of their own, of which all have joined the first.
struct Relays {
    all: Vec<(Host, Daemon)>,
}

impl Relays {
    fn new(lab: &Lab, count: usize) -> Self {
        let mut all: Vec<(Host, Daemon)> = Vec::new();
        for number in 1..=count {
            let host = lab.host(&format!("60.0.{number}.1/16"));
            let first = all.first().map(|(_, first)| named(first, &at(1)));
            let relay = Self::launch(&host, first.as_deref(), &[]).spawn();
            all.push((host, relay));
        }
        Self { all }
    }

    /// A relay on `host`, which joins `first`.
    fn launch(host: &Host, first: Option<&str>, flags: &[&str]) -> Launch {
        let program = env!("CARGO_BIN_EXE_rp2pd");
        let joins = first.map(|first| ["-b".to_owned(), format!("-bootstrapPeers={first}")]);
        host.launch_program(program)
            .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4001", "-dhtServer", "-autonat"])
            .args(["-forceReachabilityPublic"])
            .args(joins.into_iter().flatten())
            .args(flags.iter().copied())
    }

    fn first(&self) -> String {
        named(&self.all[0].1, &at(1))
    }

    /// Circuits through the relay of this number, as they are told.
    fn through(&self, number: usize) -> String {
        format!(
            "{}/p2p-circuit",
            named(&self.all[number - 1].1, &at(number))
        )
    }
}

/// Where the host of this number is.
fn at(number: usize) -> String {
    format!("/ip4/60.0.{number}.1/tcp/4001")
}

/// As Hivemind starts a daemon behind a NAT.
fn behind_nat(host: &Host, first: &str, flags: &[&str]) -> Daemon {
    host.launch()
        .args(["-hostAddrs=/ip4/0.0.0.0/tcp/4001", "-autonat=1", "-b=1"])
        .args(["-autoRelay=1", "-natPortMap=1", "-relay=1"])
        .args([format!("-bootstrapPeers={first}")])
        .args(flags.iter().copied())
        .env("GOLOG_LOG_LEVEL", "error,autorelay=info,autonat=info")
        .spawn()
}

/// Bytes that go to `node` through `circuit` and come back.
fn reached(stranger: &Daemon, node: &Daemon, circuit: &str) {
    let handler = Handler::unix();
    let balanced = binary_under_test() != std::path::Path::new(env!("CARGO_BIN_EXE_rp2pd"));
    handler
        .register(&mut node.client(), &[ECHO], balanced.then_some(false))
        .expect("a handler");
    let echo = handler.echo(1);
    let circuit: Multiaddr = circuit.parse().expect("an address");
    stranger
        .client()
        .connect_peer(node.peer_id(), std::slice::from_ref(&circuit));
    // With -autonat there may be a direct connection a moment later.
    let listed = stranger.client().list_peers();
    let of_node = listed.iter().find(|(peer, _)| *peer == node.peer_id());
    let (_, listed) = of_node.expect("the node is listed");
    assert!(listed.contains(&circuit), "{listed:?}");
    let opened = stranger.client().open_stream(node.peer_id(), &[ECHO]);
    let (_, pipe) = opened.expect("a stream");
    let sent = payload(50_000, 3);
    assert!(pipe.echo(&sent) == sent, "other bytes come back");
    echo.join().expect("an echo");
}

/// A relay in the hands of the test.
struct ByHand {
    daemon: Daemon,
    hops: Handler,
}

impl ByHand {
    fn new() -> Self {
        let daemon = own(Launch::new()).args([LISTEN, "-relay=0"]).spawn();
        let hops = Handler::unix();
        hops.register(&mut daemon.client(), &[HOP], None)
            .expect("no relay of its own");
        Self { daemon, hops }
    }

    fn named(&self) -> String {
        named(&self.daemon, &self.daemon.addrs()[0].to_string())
    }

    /// A node that is private and trusts this relay alone.
    fn trusted_by(&self, flags: &[&str]) -> Launch {
        Launch::new()
            .args([LISTEN, "-dhtClient", "-autoRelay", "-relayDiscovery=0"])
            .args(["-forceReachabilityPrivate"])
            .args([format!("-trustedRelays={}", self.named())])
            .args(flags.iter().copied())
            .env("GOLOG_LOG_LEVEL", "error,autorelay=debug")
    }

    /// The next request for a place within `time`.
    fn asked(&self, time: Duration) -> Option<Pipe> {
        let (_, mut pipe) = self.hops.accept(time).ok()?;
        let request: Hop = receive(&mut pipe).expect("a request");
        assert_eq!(request.kind, Some(RESERVE), "{request:?}");
        Some(pipe)
    }
}

/// A place until `expire`, in seconds after 1970.
fn grant(expire: u64) -> Hop {
    Hop {
        kind: Some(STATUS),
        status: Some(OK),
        reservation: Some(Reservation {
            expire: Some(expire),
            addrs: Vec::new(),
            voucher: None,
        }),
        ..Hop::default()
    }
}

/// The moment this many seconds from now, in seconds after 1970.
fn after(seconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_secs() + seconds
}

/// Nobody in particular.
fn nobody() -> PeerId {
    PeerId::random()
}
