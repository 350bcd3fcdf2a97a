//! Peers behind a circuit that ask for dials of their choice, or say something else.

use std::io::Write as _;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;

use super::*;
use crate::support::lab::Host;
use crate::support::punch::said;
use crate::support::quiet::{Quiet, assert_quick};
use crate::support::relay::{HOP, Hop, OK, RESERVE, ask};
use crate::support::{Daemon, Handler, PATIENCE, Pipe, eventually, raw};

const DCUTR: &str = "/libp2p/dcutr";

const ROUNDS: &str = "hole punches that one peer asks for";

fn connect(addresses: &[&str]) -> Vec<u8> {
    let addresses = addresses.iter().flat_map(|text| {
        let address: Multiaddr = text.parse().expect("an address");
        raw::bytes(2, &address.to_vec())
    });
    let fields = raw::int(1, 100).into_iter().chain(addresses);
    raw::frame(&fields.collect::<Vec<_>>())
}

fn sync() -> Vec<u8> {
    raw::frame(&raw::int(1, 300))
}

/// A daemon that punches holes, and a stranger that can do so by hand alone. Both can be called.
struct Scene {
    relay: Daemon,
    victim: Daemon,
    stranger: Daemon,
    /// The victim's host, and others.
    hosts: Vec<Host>,
    _reservations: Vec<Pipe>,
    _lab: Lab,
}

impl Scene {
    fn new() -> Option<Self> {
        let lab = Lab::new()?;
        let listen = "-hostAddrs=/ip4/0.0.0.0/tcp/4001";
        let mut hosts: Vec<Host> = (1..=3)
            .map(|number| lab.host(&format!("60.0.{number}.1/16")))
            .collect();
        // Somebody on its own network.
        hosts[1].run("ip addr add 192.168.9.1/24 dev wan");
        let relay = hosts[0].launch().args([listen]).spawn();
        let flags = ["-autonat", "-forceReachabilityPrivate"];
        let victim = hosts[1].launch().args([listen]).args(flags);
        let victim = victim
            .env("GOLOG_LOG_LEVEL", "error,p2p-holepunch=debug")
            .spawn();
        let stranger = hosts[2].launch().args([listen]).spawn();
        let at: Multiaddr = "/ip4/60.0.1.1/tcp/4001".parse().expect("an address");
        let reservations = [&victim, &stranger].map(|daemon| {
            daemon
                .client()
                .connect_peer(relay.peer_id(), std::slice::from_ref(&at));
            let stream = daemon.client().open_stream(relay.peer_id(), &[HOP]);
            let mut stream = stream.expect("a stream").1;
            let request = Hop {
                kind: Some(RESERVE),
                ..Hop::default()
            };
            let answer: Hop = ask(&mut stream, &request).expect("an answer");
            assert_eq!(answer.status, Some(OK));
            stream
        });
        hosts.swap(0, 1);
        Some(Self {
            relay,
            victim,
            stranger,
            hosts,
            _reservations: reservations.into(),
            _lab: lab,
        })
    }

    fn call(&self, from: &Daemon, to: &Daemon) {
        let text = format!(
            "/ip4/60.0.1.1/tcp/4001/p2p/{}/p2p-circuit",
            self.relay.peer_id()
        );
        let circuit = text.parse().expect("an address");
        from.client().connect_peer(to.peer_id(), &[circuit]);
    }

    /// The stranger says `bytes` to the victim; what comes back.
    fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let opened = self
            .stranger
            .client()
            .open_stream(self.victim.peer_id(), &[DCUTR]);
        said(opened.expect("a stream").1, bytes)
    }

    /// Tcp connections that the victim's host has opened.
    fn opened(&self) -> u64 {
        let output = self.hosts[0].command("cat").arg("/proc/net/snmp").output();
        let text = String::from_utf8(output.expect("cat").stdout).expect("text");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let names = lines.next().expect("names").split(' ');
        let values = lines.next().expect("values").split(' ');
        let opens = names.zip(values).find(|(name, _)| *name == "ActiveOpens");
        opens.expect("ActiveOpens").1.parse().expect("a number")
    }

    /// How many punches have come to this, by the victim's log.
    fn logged(&self, line: &str) -> usize {
        self.victim.stderr().matches(line).count()
    }
}

/// All that nobody may have dialed, some of it in forms that hide it.
const FORBIDDEN: [&str; 15] = [
    "/ip4/127.0.0.1/tcp/4001",
    "/ip4/192.168.9.2/tcp/4001",
    "/ip4/10.0.0.1/tcp/4001",
    "/ip4/169.254.169.254/tcp/8080",
    "/ip4/100.64.0.1/tcp/4001",
    "/ip4/224.0.0.1/tcp/4001",
    "/ip4/0.0.0.0/tcp/4001",
    "/ip6/::1/tcp/4001",
    "/ip6/::ffff:127.0.0.1/tcp/4001",
    "/dns4/localhost/tcp/4001",
    "/dns/example.org/tcp/4001",
    // Its own.
    "/ip4/60.0.2.1/tcp/4001",
    // A service of the system, and one that reads text.
    "/ip4/60.0.3.1/tcp/22",
    "/ip4/60.0.3.1/tcp/4001/ws",
    "/ip4/60.0.3.1/tcp/4001/http",
];

#[test]
fn nobody_but_whom_the_daemon_has_called_by_a_circuit_is_answered() {
    let Some(scene) = Scene::new() else { return };
    let request = [connect(&["/ip4/60.0.3.1/tcp/4009"]), sync()].concat();
    // The stranger has called, and is dialed back once where it says that it is.
    let before = scene.opened() + 1;
    scene.call(&scene.stranger, &scene.victim);
    assert!(eventually(PATIENCE, || scene.opened() >= before));
    assert_eq!(scene.say(&request), b"");
    scene.stranger.client().disconnect(scene.victim.peer_id());
    // There is no relay in between.
    let at = "/ip4/60.0.2.1/tcp/4001".parse().expect("an address");
    scene
        .stranger
        .client()
        .connect_peer(scene.victim.peer_id(), &[at]);
    assert_eq!(scene.say(&request), b"");
    assert_eq!(scene.opened(), before, "somebody was dialed");
    assert!(scene.logged("no punch asked for") >= 2);
}

#[test]
fn messages_that_are_none_come_to_nothing() {
    let Some(scene) = Scene::new() else { return };
    scene.call(&scene.victim, &scene.stranger);
    let (before, quiet) = (scene.opened(), Quiet::of(&scene.victim));
    let whole = connect(&["/ip4/60.0.3.1/tcp/4009"]);
    // Not one of them comes to a dial, so all of them count as rounds.
    for bytes in [
        &whole[..whole.len() - 3],
        &raw::frame(&vec![0; 5000]),
        &raw::frame(&[0xff; 100]),
        &sync(),
        &[0xff; 64],
        &[],
    ] {
        assert_eq!(scene.say(bytes), b"", "{bytes:?}");
    }
    assert_eq!(scene.opened(), before, "somebody was dialed");
    // A million times the same.
    let many = scene.say(&connect(&FORBIDDEN).repeat(1_000_000 / 400));
    assert_eq!(many, b"", "enough is enough");
    for _ in 0..300 {
        assert_eq!(scene.say(&whole), b"");
    }
    assert!(scene.victim.bites(ROUNDS) >= 300);
    assert_eq!(scene.opened(), before, "somebody was dialed");
    quiet.assert_again(&scene.victim, "bad messages");
}

#[test]
fn forbidden_addresses_are_not_dialed_by_whoever_has_called() {
    let Some(scene) = Scene::new() else { return };
    scene.call(&scene.victim, &scene.stranger);
    let before = scene.opened();
    let request = [connect(&FORBIDDEN), sync()].concat();
    let answer = scene.say(&request);
    let own: Multiaddr = "/ip4/60.0.2.1/tcp/4001".parse().expect("an address");
    assert_eq!(answer, connect(&[&own.to_string()]), "it tells where it is");
    let none = "no address that may be dialed";
    assert!(eventually(PATIENCE, || scene.logged(none) == 1));
    // CONNECT where SYNC is due, and ten thousand addresses.
    let twice = connect(&["/ip4/60.0.3.1/tcp/4009"]).repeat(2);
    assert_eq!(scene.say(&twice), answer);
    let many = connect(&vec!["/ip4/60.0.3.1/tcp/4009"; 10_000]);
    assert_eq!(scene.say(&many), b"");
    assert_eq!(scene.opened(), before, "somebody was dialed");
    // Of as many as fit into a message eight are dialed, each in two ways at most.
    let many: Vec<String> = (0..300)
        .map(|number| format!("/ip4/60.0.3.1/tcp/{}", 5000 + number))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let request = [connect(&many), sync()].concat();
    assert!(request.len() < 4096);
    assert_eq!(scene.say(&request), answer);
    assert!(eventually(PATIENCE, || scene.opened() > before));
    assert!(eventually(PATIENCE, || scene
        .logged("dialed at the same time")
        == 1));
    let dialed = scene.opened() - before;
    assert!((8..=16).contains(&dialed), "{dialed} dials");
}

/// The victim is called, and begins: what it is answered is no better.
#[test]
fn forbidden_addresses_are_not_dialed_by_whoever_is_called() {
    let Some(scene) = Scene::new() else { return };
    let dcutr = Handler::unix();
    dcutr
        .register(&mut scene.stranger.client(), &[DCUTR], None)
        .expect("no hole punching of its own");
    // Where it says that it is, nobody listens for the victim.
    scene.hosts[2].run(
        "nft -f - <<'RULES'
         table ip t { chain inp { type filter hook input priority 0
           ip saddr 60.0.2.1 drop
         }
         }\nRULES",
    );
    let quiet = Quiet::of(&scene.victim);
    let many = connect(&vec!["/ip4/60.0.3.1/tcp/4009"; 10_000]);
    let cases: [(&[u8], &str); 6] = [
        (&connect(&FORBIDDEN), "no address that may be dialed"),
        (&connect(&[]), "no address that may be dialed"),
        (&sync(), "a message out of order"),
        (&many, "the answer cannot be read"),
        (&[0x05, 0xff], "the answer cannot be read"),
        (&[], "the answer cannot be read"),
    ];
    for (number, (answer, outcome)) in cases.into_iter().enumerate() {
        let told = scene.logged(outcome);
        scene.call(&scene.stranger, &scene.victim);
        let (_, mut stream) = dcutr.accept(PATIENCE).expect("it begins");
        let begun = stream.read_frame().expect("CONNECT");
        assert_eq!(begun[..2], [0x08, 100], "{begun:?}");
        // The caller was dialed back where it says that it is, before.
        let before = scene.opened();
        let _ = stream.write_all(answer);
        let _ = stream.socket.shutdown_write();
        let ended = eventually(PATIENCE, || scene.logged(outcome) > told);
        assert!(ended, "case {number}: {}", scene.victim.stderr());
        assert_eq!(scene.opened(), before, "case {number}: somebody was dialed");
        // It does not begin again, and there is nobody else whom it would ask.
        let again = dcutr.accept(Duration::from_millis(300));
        assert!(again.is_err(), "case {number}");
        scene.stranger.client().disconnect(scene.victim.peer_id());
        let gone = || scene.victim.client().list_peers().len() == 1;
        assert!(eventually(PATIENCE, gone));
    }
    // One that never answers is waited for ten seconds, and one punch at a time is made.
    scene.call(&scene.stranger, &scene.victim);
    let (_, silent) = dcutr.accept(PATIENCE).expect("it begins");
    let begun = Instant::now();
    assert_quick(&scene.victim, "while a caller is silent");
    assert!(eventually(PATIENCE, || scene.logged("too late") == 1));
    assert!(begun.elapsed() > Duration::from_secs(8));
    drop(silent);
    quiet.assert_again(&scene.victim, "bad answers");
}
