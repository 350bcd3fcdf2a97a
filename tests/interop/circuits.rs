//! Circuits with Go's daemons as relay, as destination and as the one that dials.

use std::io::{Read, Write};
use std::time::Duration;

use libp2p::Multiaddr;
use libtest_mimic::Trial;

use super::install;
use super::suite::trial;
use crate::support::relay::End;
use crate::support::{ControlClient, Daemon, Handler, Launch, PATIENCE, Pipe, eventually, payload};

const SUITE: &str = "circuits";
const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";
const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";
const ECHO: &str = "/interop/circuit/1.0.0";

/// One of the daemons that meet.
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

    fn launch(self) -> Result<Launch, String> {
        Ok(match self {
            Self::Own => Launch::new(),
            Self::Fork => Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd")),
            Self::Go => Launch::new().binary(install::GO.as_ref()?.join("p2pd")),
        })
    }

    fn spawn(self, flags: &[&str]) -> Result<Daemon, String> {
        self.launch()?.args([LISTEN]).args(flags).try_spawn()
    }

    /// The fork insists on this field of a registration.
    fn balanced(self) -> Option<bool> {
        (self == Self::Fork).then_some(false)
    }
}

pub fn trials() -> Vec<Trial> {
    use Kind::{Fork, Go, Own};
    let mut trials = Vec::new();
    for (relay, dialer, destination) in [
        (Fork, Own, Own),
        (Fork, Own, Fork),
        (Fork, Fork, Own),
        (Go, Own, Own),
        (Go, Own, Go),
        (Go, Go, Own),
    ] {
        let names = [dialer, relay, destination].map(Kind::name);
        let name = format!("{}_by_{}_to_{}", names[0], names[1], names[2]);
        trials.push(trial(SUITE, &name, move || {
            both_ways(relay, dialer, destination)
        }));
    }
    for (dialer, destination) in [(Own, Own), (Own, Fork), (Fork, Own)] {
        let names = [dialer, destination].map(Kind::name);
        let name = format!("{}_calls_{}", names[0], names[1]);
        trials.push(trial(SUITE, &name, move || unary(dialer, destination)));
    }
    trials.push(trial(SUITE, "a_relay_on_quic", a_relay_on_quic));
    trials.push(trial(SUITE, "refusals_of_the_fork", || refusals(Own)));
    trials.push(trial(SUITE, "refusals_among_forks", || refusals(Fork)));
    trials.push(trial(SUITE, "texts_as_of_the_fork", || texts(Own)));
    trials.push(trial(SUITE, "texts_of_the_fork", || texts(Fork)));
    trials.push(trial(SUITE, "a_relay_that_dies", a_relay_that_dies));
    trials
}

/// Reserves a place for `daemon` as a client does: by hand, on a stream of its own.
pub fn reserve(daemon: &Daemon, relay: &Daemon) -> Result<Pipe, String> {
    daemon.client().connect_to(relay.peer_id(), relay.addrs())?;
    let (_, mut pipe) = daemon.client().open_stream(relay.peer_id(), &[HOP])?;
    pipe.write_all(&[2, 8, 0]).map_err(|e| e.to_string())?;
    let answer = pipe.read_frame().map_err(|e| e.to_string())?;
    // A STATUS (2) whose status (field 5) is OK (100).
    assert_eq!(answer[..2], [8, 2], "{answer:?}");
    assert!(
        answer.windows(2).any(|two| two == [0x28, 100]),
        "{answer:?}"
    );
    Ok(pipe)
}

fn circuit(relay: &Daemon) -> Multiaddr {
    let text = format!("{}/p2p/{}/p2p-circuit", relay.addrs()[0], relay.peer_id());
    text.parse().expect("a multiaddr")
}

fn listed(client: &mut ControlClient, of: &Daemon) -> Vec<Multiaddr> {
    let peers = client.list_peers().into_iter();
    let addresses = peers.filter(|(peer, _)| *peer == of.peer_id());
    addresses.flat_map(|(_, addresses)| addresses).collect()
}

fn echoed(opener: &Daemon, handler: &Daemon, at: &Multiaddr, kind: Kind) -> Result<(), String> {
    let echo = Handler::tcp();
    echo.register(&mut handler.client(), &[ECHO], kind.balanced())?;
    let echo = echo.echo(1);
    let (info, pipe) = opener.client().open_stream(handler.peer_id(), &[ECHO])?;
    assert_eq!(info.addr.to_vec(), at.to_vec(), "told to the opener");
    // go-libp2p's relay lets 128 KiB pass each way.
    let sent = payload(50_000, 7);
    assert!(pipe.echo(&sent) == sent, "what came back is not the same");
    let told = echo.join().map_err(|_| "the echo handler panicked")?;
    assert_eq!(told[0].addr.to_vec(), at.to_vec(), "told to the handler");
    Ok(())
}

/// CONNECT by the relay's name alone, one connection for both, streams in both directions.
fn both_ways(relay: Kind, dialer: Kind, destination: Kind) -> Result<(), String> {
    let r = relay.spawn(&[])?;
    let a = destination.spawn(&[])?;
    let d = dialer.spawn(&["-relay=0"])?;
    let _reservation = reserve(&a, &r)?;
    let at = circuit(&r);
    d.client()
        .connect_to(a.peer_id(), std::slice::from_ref(&at))?;
    assert_eq!(listed(&mut d.client(), &a), std::slice::from_ref(&at));
    assert_eq!(
        listed(&mut d.client(), &r),
        r.addrs(),
        "the relay is listed too"
    );
    let seen = eventually(PATIENCE, || listed(&mut a.client(), &d) == [at.clone()]);
    assert!(seen, "{:?}", a.client().list_peers());
    echoed(&d, &a, &at, destination)?;
    echoed(&a, &d, &at, dialer)?;
    let refused = d
        .client()
        .open_stream(a.peer_id(), &["/nobody/speaks/this"]);
    let refused = refused.err().unwrap_or_default();
    assert!(
        refused.contains("protocols not supported: [/nobody/speaks/this]"),
        "{refused}"
    );
    d.client().disconnect(a.peer_id());
    let gone = eventually(PATIENCE, || listed(&mut a.client(), &d).is_empty());
    assert!(gone, "the destination still lists the dialer");
    if dialer != Kind::Own {
        // Go dials what the destination told of itself, through the circuit, as well.
        return Ok(());
    }
    // The relay is known now.
    let short: Multiaddr = format!("/p2p/{}/p2p-circuit", r.peer_id()).parse().unwrap();
    d.client().connect_to(a.peer_id(), &[short])?;
    assert_eq!(listed(&mut d.client(), &a), [at]);
    Ok(())
}

/// Calls over a circuit, in both directions.
fn unary(dialer: Kind, destination: Kind) -> Result<(), String> {
    let r = Kind::Fork.spawn(&[])?;
    let (a, d) = (destination.spawn(&[])?, dialer.spawn(&[])?);
    let _reservation = reserve(&a, &r)?;
    d.client().connect_to(a.peer_id(), &[circuit(&r)])?;
    // A daemon ends with its last persistent connection.
    let mut held = Vec::new();
    for (caller, callee) in [(&d, &a), (&a, &d)] {
        let mut handler = callee.persistent();
        handler.add("rpc_ping", false)?;
        let mut client = caller.persistent();
        let sent = payload(20_000, 3);
        let id = client.begin(callee.peer_id(), "rpc_ping", &sent);
        let incoming = handler.incoming().map_err(|error| error.to_string())?;
        assert!(incoming.data == sent, "the question");
        let answer = payload(20_000, 4);
        let answered = handler.answer(&incoming.id, Ok(answer.clone()));
        answered.map_err(|error| error.to_string())?;
        assert!(client.outcome(&id).response() == answer, "the answer");
        let none = client.call(callee.peer_id(), "rpc_none", b"").failure();
        assert!(none.contains("protocols not supported"), "{none}");
        held.extend([handler, client]);
    }
    let at = circuit(&r);
    assert_eq!(listed(&mut d.client(), &a), std::slice::from_ref(&at));
    Ok(())
}

/// The circuit's address is that of the relay on quic, at both ends.
fn a_relay_on_quic() -> Result<(), String> {
    let launch = |kind: Kind| {
        let launch = kind.launch()?;
        launch
            .args(["-hostAddrs=/ip4/127.0.0.1/udp/0/quic-v1"])
            .try_spawn()
    };
    let (r, a, d) = (launch(Kind::Fork)?, launch(Kind::Own)?, launch(Kind::Own)?);
    let _reservation = reserve(&a, &r)?;
    let at = circuit(&r);
    assert!(at.to_string().contains("/quic-v1/p2p/"), "{at}");
    d.client()
        .connect_to(a.peer_id(), std::slice::from_ref(&at))?;
    assert_eq!(listed(&mut d.client(), &a), std::slice::from_ref(&at));
    let seen = eventually(PATIENCE, || listed(&mut a.client(), &d) == [at.clone()]);
    assert!(seen, "{:?}", a.client().list_peers());
    echoed(&d, &a, &at, Kind::Own)
}

/// Go's relay is full, or does not reach the destination.
fn refusals(dialer: Kind) -> Result<(), String> {
    let r = Kind::Fork.spawn(&["-relayMaxCircuits=1"])?;
    let a = Kind::Own.spawn(&[])?;
    let deaf = End::deaf(&r);
    deaf.reserved(&r);
    let _reservation = reserve(&a, &r)?;
    let refused = |peer, status: &str| -> Result<(), String> {
        let d = dialer.spawn(&[])?;
        let told = d.client().connect_to(peer, &[circuit(&r)]);
        let expected = format!(
            "failed to dial: failed to dial {peer}: all dials failed\n  * [{}] error opening relay \
             circuit: {status}",
            circuit(&r)
        );
        assert_eq!(told, Err(expected));
        Ok(())
    };
    refused(deaf.peer_id(), "CONNECTION_FAILED (203)")?;
    // go-libp2p's relay has its own defaults until it knows that it is public, 16 circuits of a
    // peer among them.
    let mut held = Vec::new();
    for _ in 0..16 {
        let d = Kind::Own.spawn(&[])?;
        d.client().connect_to(a.peer_id(), &[circuit(&r)])?;
        held.push(d);
    }
    refused(a.peer_id(), "RESOURCE_LIMIT_EXCEEDED (201)")
}

/// What CONNECT says of circuits that cannot be.
fn texts(kind: Kind) -> Result<(), String> {
    let r = Kind::Fork.spawn(&[])?;
    let a = Kind::Fork.spawn(&[])?;
    let stranger = Kind::Own.spawn(&[])?;
    let (relay, peer, other) = (r.peer_id(), a.peer_id(), stranger.peer_id());
    let at = &r.addrs()[0];
    // A fresh dialer each time: Go does not dial again what has just failed.
    let ask = |address: &str| -> Result<String, String> {
        let d = kind.spawn(&[])?;
        let asked = d
            .client()
            .connect_to(peer, &[address.parse().expect("a multiaddr")]);
        Ok(asked.err().unwrap_or_default())
    };
    let failed = |address: &str, cause: &str| {
        format!("failed to dial: failed to dial {peer}: all dials failed\n  * [{address}] {cause}")
    };
    let hop = "error opening hop stream to relay: failed to dial:";
    let none = "can't dial a p2p-circuit without specifying a relay: /p2p-circuit";
    let dead = "/ip4/127.0.0.1/tcp/1";
    for (address, told, cause) in [
        (
            format!("/p2p/{relay}/p2p-circuit"),
            None,
            format!("{hop} failed to dial {relay}: no addresses"),
        ),
        (
            format!("{at}/p2p-circuit"),
            None,
            format!("error parsing relay multiaddr '{at}': invalid p2p multiaddr"),
        ),
        ("/p2p-circuit".to_owned(), None, none.to_owned()),
        (
            format!("/p2p-circuit/p2p/{peer}"),
            Some("/p2p-circuit".to_owned()),
            none.to_owned(),
        ),
        (
            format!("{at}/p2p/{other}/p2p-circuit"),
            None,
            format!(
                "{hop} failed to dial {other}: all dials failed\n  * [{at}] failed to negotiate \
                 security protocol: peer id mismatch: expected {other}, but remote key matches {relay}"
            ),
        ),
        (
            format!("{dead}/p2p/{relay}/p2p-circuit"),
            None,
            format!(
                "{hop} failed to dial {relay}: all dials failed\n  * [{dead}] dial tcp4 \
                 127.0.0.1:1: connect: connection refused"
            ),
        ),
        (
            format!("{at}/p2p/{relay}/p2p-circuit"),
            None,
            "error opening relay circuit: NO_RESERVATION (204)".to_owned(),
        ),
    ] {
        let expected = failed(told.as_deref().unwrap_or(&address), &cause);
        assert_eq!(ask(&address)?, expected, "{address}");
    }
    let elsewhere = ask(&format!("{at}/p2p/{relay}/p2p-circuit/p2p/{other}"))?;
    let expected = format!("failed to dial: failed to dial {peer}: no addresses");
    assert_eq!(elsewhere, expected);
    if kind == Kind::Own {
        // Go waits five seconds for itself.
        let itself = ask(&format!("{}/p2p/{peer}/p2p-circuit", a.addrs()[0]))?;
        assert!(
            itself.contains("a circuit through a circuit, or to its relay"),
            "{itself}"
        );
    }
    Ok(())
}

/// Its circuits end with it, at once, on both sides.
fn a_relay_that_dies() -> Result<(), String> {
    let r = Kind::Fork.spawn(&[])?;
    let a = Kind::Own.spawn(&[])?;
    let d = Kind::Own.spawn(&[])?;
    let _reservation = reserve(&a, &r)?;
    d.client().connect_to(a.peer_id(), &[circuit(&r)])?;
    let echo = Handler::tcp();
    echo.register(&mut a.client(), &[ECHO], None)?;
    let (_, mut pipe) = d.client().open_stream(a.peer_id(), &[ECHO])?;
    let (_, mut other) = echo.accept(PATIENCE).map_err(|e| e.to_string())?;
    pipe.write_all(b"x").map_err(|e| e.to_string())?;
    let mut byte = [0];
    other.read_exact(&mut byte).map_err(|e| e.to_string())?;
    drop(r);
    let gone = eventually(Duration::from_secs(2), || {
        a.client().list_peers().is_empty() && d.client().list_peers().is_empty()
    });
    assert!(gone, "the circuit outlives its relay");
    for mut end in [pipe, other] {
        let end = end.read(&mut byte);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    Ok(())
}
