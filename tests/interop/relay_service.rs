//! Go's daemons as the two ends of circuits through rp2pd's relay.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libtest_mimic::Trial;

use super::install;
use super::suite::trial;
use crate::support::relay::HOP;
use crate::support::{Daemon, Handler, Launch, PATIENCE, Pipe, eventually, payload};

const SUITE: &str = "relay_service";
const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
const NAME: &str = "/interop/relayed/1.0.0";

/// A kind of daemon at an end.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    launch: fn() -> Result<Launch, String>,
    balanced: Option<bool>,
}

const GO: Kind = Kind {
    name: "go_v0_9_2",
    launch: || Ok(Launch::new().binary(install::GO.as_ref()?.join("p2pd"))),
    balanced: None,
};

const FORK: Kind = Kind {
    name: "hivemind",
    launch: || Ok(Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd"))),
    balanced: Some(false),
};

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for source in [GO, FORK] {
        for destination in [GO, FORK] {
            let name = format!("{}_calls_{}", source.name, destination.name);
            trials.push(trial(SUITE, &name, move || calls(source, destination)));
        }
        let name = format!("{}_is_cut_at_the_limits", source.name);
        trials.push(trial(SUITE, &name, move || is_cut(source)));
    }
    trials.push(trial(
        SUITE,
        "the_fork_reserves_by_itself",
        reserves_by_itself,
    ));
    trials
}

/// A relay and two daemons that know nothing of each other. The second has reserved a place.
struct Scene {
    relay: Daemon,
    source: Daemon,
    destination: Daemon,
    handler: Handler,
    /// The destination through the relay.
    circuit: Multiaddr,
}

fn start(kind: Kind) -> Result<Daemon, String> {
    (kind.launch)()?.args([LISTEN]).try_spawn()
}

fn scene(source: Kind, destination: Kind, flags: &[&str]) -> Result<Scene, String> {
    let relay = Launch::new().args([LISTEN]).args(flags).try_spawn()?;
    let (from, to) = (start(source)?, start(destination)?);
    to.client().connect_to(relay.peer_id(), relay.addrs())?;
    // Where a daemon does not reserve by itself, its client can.
    let (_, mut pipe) = to.client().open_stream(relay.peer_id(), &[HOP])?;
    pipe.write_all(&[2, 8, 0]).expect("RESERVE");
    let answer = pipe.read_frame().expect("an answer");
    assert!(answer.starts_with(&[8, 2]), "{answer:?}");
    let reserved = [40, 100];
    assert!(answer.windows(2).any(|part| part == reserved), "{answer:?}");
    let handler = Handler::tcp();
    handler.register(&mut to.client(), &[NAME], destination.balanced)?;
    let circuit = through(&relay);
    Ok(Scene {
        relay,
        source: from,
        destination: to,
        handler,
        circuit,
    })
}

/// Whoever is reached through `relay`.
fn through(relay: &Daemon) -> Multiaddr {
    let address = relay.addrs()[0].clone();
    let relay = Protocol::P2p(relay.peer_id());
    address.with(relay).with(Protocol::P2pCircuit)
}

impl Scene {
    fn connect(&self) -> Result<(), String> {
        let peer = self.destination.peer_id();
        let addresses = [self.circuit.clone()];
        self.source.client().connect_to(peer, &addresses)
    }

    /// A stream through the circuit, as both ends have it.
    fn stream(&self) -> Result<(Pipe, Pipe), String> {
        let peer = self.destination.peer_id();
        let (info, near) = self.source.client().open_stream(peer, &[NAME])?;
        let address = Multiaddr::try_from(info.addr.to_vec()).map_err(|e| e.to_string())?;
        assert_eq!(address, self.circuit, "the address told to the opener");
        let (_, far) = self.handler.accept(PATIENCE).map_err(|e| e.to_string())?;
        Ok((near, far))
    }
}

fn calls(source: Kind, destination: Kind) -> Result<(), String> {
    let scene = scene(source, destination, &[])?;
    // Somebody who has not reserved.
    let stranger = start(destination)?;
    let addresses = [scene.circuit.clone()];
    let refused = scene
        .source
        .client()
        .connect_to(stranger.peer_id(), &addresses);
    let refused = refused.expect_err("a circuit to nobody");
    let expected = "error opening relay circuit: NO_RESERVATION (204)";
    assert!(refused.contains(expected), "{refused}");
    scene.connect()?;
    let peers = scene.source.client().list_peers();
    let listed = peers
        .iter()
        .find(|(peer, _)| *peer == scene.destination.peer_id());
    let (_, listed) = listed.ok_or("the destination is not listed")?;
    assert_eq!(listed.as_slice(), std::slice::from_ref(&scene.circuit));
    let (mut near, mut far) = scene.stream()?;
    let sent = payload(4 << 20, 1);
    std::thread::scope(|scope| {
        scope.spawn(|| near.write_all(&sent).expect("payload"));
        let mut got = vec![0; sent.len()];
        far.read_exact(&mut got).expect("payload");
        assert!(got == sent, "other bytes arrive");
    });
    far.write_all(b"back").expect("payload");
    let mut back = [0; 4];
    near.read_exact(&mut back).expect("payload");
    assert_eq!(&back, b"back");
    Ok(())
}

/// What clients of Go's daemons see of the limits: a reset or an end, as through Go's relay.
fn is_cut(kind: Kind) -> Result<(), String> {
    let by_data = scene(kind, kind, &["-relayDataLimit=200000"])?;
    by_data.connect()?;
    let (mut near, mut far) = by_data.stream()?;
    let sent = payload(100_000, 1);
    near.write_all(&sent).expect("payload");
    let mut got = vec![0; sent.len()];
    far.read_exact(&mut got).expect("half of what there is");
    // More than fits, sent without a look at what becomes of it.
    let _ = near.write_all(&payload(400_000, 2));
    ends(near, "the opener, beyond the bytes");
    ends(far, "the handler, beyond the bytes");
    assert_gone(&by_data);

    let by_time = scene(kind, kind, &["-relayTimeLimit=3s"])?;
    let begun = Instant::now();
    by_time.connect()?;
    let (near, far) = by_time.stream()?;
    ends(near, "the opener, beyond the time");
    ends(far, "the handler, beyond the time");
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3), "{took:?}");
    assert_gone(&by_time);
    Ok(())
}

/// Reads until the stream is over, by an end or a reset.
fn ends(mut pipe: Pipe, whose: &str) {
    let mut rest = Vec::new();
    if let Err(error) = pipe.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{whose}: {error}");
        println!("{whose}: reset");
    } else {
        println!("{whose}: end");
    }
}

fn assert_gone(scene: &Scene) {
    let relay = scene.relay.peer_id();
    let only_relay = || {
        let peers = scene.source.client().list_peers();
        peers.len() == 1 && peers[0].0 == relay
    };
    assert!(eventually(PATIENCE, only_relay), "the circuit stays listed");
}

/// As Hivemind starts it behind a NAT, with relays that it trusts.
fn reserves_by_itself() -> Result<(), String> {
    let relay = Launch::new().args([LISTEN]).try_spawn()?;
    let address = relay.addrs()[0].clone();
    let trusted = address.with(Protocol::P2p(relay.peer_id()));
    let private = (FORK.launch)()?
        .args([LISTEN, "-autoRelay=1", "-relayDiscovery=0", "-dhtClient=1"])
        .args(["-forceReachabilityPrivate=1"])
        .args([&format!("-trustedRelays={trusted}")])
        .try_spawn()?;
    let reserved = eventually(PATIENCE, || {
        relay.report().contains("Relay reservations: 1,")
    });
    assert!(reserved, "{}", relay.report());
    let caller = start(GO)?;
    let circuit = [through(&relay)];
    caller.client().connect_to(private.peer_id(), &circuit)
}
