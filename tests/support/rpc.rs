//! A peer that speaks gossipsub by hand: a daemon without pubsub, whose client handles the
//! protocol and opens streams of it.

use std::io::Write;
use std::time::Duration;

use super::{ControlClient, Daemon, Handler, PATIENCE, Pipe, raw};

/// How long the victim may read nothing.
const STALL: Duration = Duration::from_secs(1);

pub const PROTOCOL: &str = "/meshsub/1.1.0";

/// The peer, connected to the daemon it talks to.
pub struct Peer {
    pub daemon: Daemon,
    /// What it says.
    pub out: Pipe,
    /// What it is told; never read.
    _told: Pipe,
    _handler: Handler,
}

impl Peer {
    pub fn of(victim: &Daemon) -> Self {
        Self::from(Daemon::spawn(&["-hostAddrs=/ip4/127.0.0.1/tcp/0"]), victim)
    }

    pub fn from(daemon: Daemon, victim: &Daemon) -> Self {
        let handler = Handler::unix();
        handler
            .register(&mut daemon.client(), &[PROTOCOL], None)
            .expect("register");
        daemon.connect_to(victim);
        let out = stream(daemon.client(), victim);
        let (_, told) = handler.accept(PATIENCE).expect("its stream");
        Self {
            daemon,
            out,
            _told: told,
            _handler: handler,
        }
    }

    /// Says `rpc`, or as much as the other side takes.
    pub fn say(&mut self, rpc: &[u8]) {
        let _ = self.out.write_all(&raw::frame(rpc));
    }

    /// A new stream, after the last was reset.
    pub fn again(&mut self, victim: &Daemon) {
        self.out = stream(self.daemon.client(), victim);
    }
}

fn stream(client: ControlClient, victim: &Daemon) -> Pipe {
    let (_, out) = client
        .open_stream(victim.peer_id(), &[PROTOCOL])
        .expect("a stream");
    // A stream that the victim has left takes no more, and says so late.
    out.socket.set_timeout(STALL).expect("set a timeout");
    out
}

/// A subscription as part of an RPC.
pub fn subscription(subscribe: bool, topic: &[u8]) -> Vec<u8> {
    let parts = [raw::int(1, subscribe.into()), raw::bytes(2, topic)];
    raw::bytes(1, &parts.concat())
}

/// A message as part of an RPC.
pub fn message(fields: &[(u64, &[u8])]) -> Vec<u8> {
    let fields: Vec<_> = fields
        .iter()
        .map(|(number, value)| raw::bytes(*number, value))
        .collect();
    raw::bytes(2, &fields.concat())
}

/// Control as part of an RPC: 1 IHAVE, 2 IWANT, 3 GRAFT, 4 PRUNE.
pub fn control(kind: u64, body: &[u8]) -> Vec<u8> {
    raw::bytes(3, &raw::bytes(kind, body))
}
