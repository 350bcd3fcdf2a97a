//! Circuits to and from a daemon. The relay is a daemon without a relay of its own, whose client
//! plays one: it can say whatever a relay could.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod limited;
mod nested;

use std::io::Write as _;

use libp2p::{Multiaddr, PeerId};
use rp2pd::wire::frame;

use support::relay::{HOP, Hop, Limit, OK, STATUS, STOP, STOP_CONNECT, Stop, named, receive};
use support::{Daemon, Handler, PATIENCE, Pipe};

const LISTEN: &str = "-hostAddrs=/ip4/127.0.0.1/tcp/0";

/// A relay in the hands of the test.
struct ByHand {
    daemon: Daemon,
    hops: Handler,
}

impl ByHand {
    fn new() -> Self {
        let daemon = Daemon::spawn(&[LISTEN, "-relay=0"]);
        let hops = Handler::unix();
        hops.register(&mut daemon.client(), &[HOP], None)
            .expect("no relay of its own");
        Self { daemon, hops }
    }

    /// The address of whoever is reached through it.
    fn circuit(&self) -> Multiaddr {
        let (at, id) = (&self.daemon.addrs()[0], self.daemon.peer_id());
        format!("{at}/p2p/{id}/p2p-circuit")
            .parse()
            .expect("a multiaddr")
    }

    /// The next request for a circuit.
    fn asked(&self) -> Pipe {
        let (_, mut pipe) = self.hops.accept(PATIENCE).expect("a stream");
        let request: Hop = receive(&mut pipe).expect("a request");
        assert!(request.peer.is_some(), "{request:?}");
        pipe
    }

    /// Rings at `destination` in the name of `caller`; the answer's status.
    fn ring(&self, destination: &Daemon, caller: PeerId) -> (Option<i32>, Pipe) {
        let (_, mut pipe) = self
            .daemon
            .client()
            .open_stream(destination.peer_id(), &[STOP])
            .expect("a stream");
        let call = Stop {
            kind: Some(STOP_CONNECT),
            peer: Some(named(caller)),
            ..Stop::default()
        };
        pipe.write_all(&frame::encode(&call)).expect("CONNECT");
        let answer: Option<Stop> = receive(&mut pipe).ok();
        (answer.and_then(|answer| answer.status), pipe)
    }

    /// Passes on one circuit from the next who asks to `destination`, on threads of its own. The
    /// caller is told that `limit` is its limit.
    fn pass_on(&self, caller: &Daemon, destination: &Daemon, limit: Option<Limit>) {
        let mut source = self.asked();
        let (status, far) = self.ring(destination, caller.peer_id());
        assert_eq!(status, Some(OK));
        let agreed = Hop {
            kind: Some(STATUS),
            status: Some(OK),
            limit,
            ..Hop::default()
        };
        source.write_all(&frame::encode(&agreed)).expect("agree");
        for (mut from, mut to) in [(clone(&source), clone(&far)), (far, source)] {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.socket.shutdown_write();
            });
        }
    }
}

/// The same socket once more. Nothing may have been read ahead of it.
fn clone(pipe: &Pipe) -> Pipe {
    Pipe::new(pipe.socket.try_clone().expect("a socket"))
}
