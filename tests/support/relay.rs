//! Circuit relay v2 from the other side: messages written by hand, and peers that reserve, call
//! and are called without help of their daemons.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use libp2p::PeerId;
use prost::Message;
use rp2pd::wire::frame;

use super::{Daemon, Handler, Launch, PATIENCE, Pipe};

/// Sent to a relay.
pub const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";
/// Sent by a relay.
pub const STOP: &str = "/libp2p/circuit/relay/0.2.0/stop";

/// Kinds of a HOP message.
pub const RESERVE: i32 = 0;
pub const CONNECT: i32 = 1;
pub const STATUS: i32 = 2;

/// Kinds of a STOP message.
pub const STOP_CONNECT: i32 = 0;
pub const STOP_STATUS: i32 = 1;

pub const OK: i32 = 100;
pub const RESERVATION_REFUSED: i32 = 200;
pub const RESOURCE_LIMIT_EXCEEDED: i32 = 201;
pub const PERMISSION_DENIED: i32 = 202;
pub const CONNECTION_FAILED: i32 = 203;
pub const NO_RESERVATION: i32 = 204;
pub const MALFORMED_MESSAGE: i32 = 400;

#[derive(Clone, PartialEq, Message)]
pub struct Named {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Reservation {
    #[prost(uint64, optional, tag = "1")]
    pub expire: Option<u64>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    pub voucher: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Limit {
    #[prost(uint32, optional, tag = "1")]
    pub duration: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub data: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Hop {
    #[prost(int32, optional, tag = "1")]
    pub kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Named>,
    #[prost(message, optional, tag = "3")]
    pub reservation: Option<Reservation>,
    #[prost(message, optional, tag = "4")]
    pub limit: Option<Limit>,
    #[prost(int32, optional, tag = "5")]
    pub status: Option<i32>,
}

impl Hop {
    /// CONNECT to `peer`.
    #[must_use]
    pub fn connect(peer: PeerId) -> Self {
        Self {
            kind: Some(CONNECT),
            peer: Some(named(peer)),
            ..Self::default()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Stop {
    #[prost(int32, optional, tag = "1")]
    pub kind: Option<i32>,
    #[prost(message, optional, tag = "2")]
    pub peer: Option<Named>,
    #[prost(message, optional, tag = "3")]
    pub limit: Option<Limit>,
    #[prost(int32, optional, tag = "4")]
    pub status: Option<i32>,
}

impl Stop {
    #[must_use]
    pub fn answer(status: i32) -> Self {
        Self {
            kind: Some(STOP_STATUS),
            status: Some(status),
            ..Self::default()
        }
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct Voucher {
    #[prost(bytes = "vec", tag = "1")]
    pub relay: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub peer: Vec<u8>,
    #[prost(uint64, tag = "3")]
    pub expiration: u64,
}

#[must_use]
pub fn named(peer: PeerId) -> Named {
    Named {
        id: peer.to_bytes(),
        addrs: Vec::new(),
    }
}

/// The next message on a stream.
///
/// # Errors
/// I/O, or `InvalidData` for what is none.
pub fn receive<M: Message + Default>(pipe: &mut Pipe) -> io::Result<M> {
    let payload = pipe.read_frame()?;
    M::decode(payload).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// One message and its answer.
///
/// # Errors
/// I/O.
pub fn ask<M: Message + Default>(pipe: &mut Pipe, message: &impl Message) -> io::Result<M> {
    pipe.write_all(&frame::encode(message))?;
    receive(pipe)
}

/// A peer whose daemon knows nothing of relays: the test speaks for it.
#[derive(Debug)]
pub struct End {
    pub daemon: Daemon,
    calls: Handler,
}

impl End {
    /// A peer that is connected to `relay` and can be called.
    #[must_use]
    pub fn new(relay: &Daemon) -> Self {
        let end = Self::deaf(relay);
        end.calls
            .register(&mut end.daemon.client(), &[STOP], None)
            .expect("serve stop by hand");
        end
    }

    /// A peer that is connected to `relay` and does not know how to be called.
    #[must_use]
    pub fn deaf(relay: &Daemon) -> Self {
        // rp2pd whatever daemon is under test.
        let daemon = Launch::new()
            .binary(env!("CARGO_BIN_EXE_rp2pd"))
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0", "-relay=0"])
            .spawn();
        daemon.connect_to(relay);
        // Unless a client handles them, the daemon takes circuits itself.
        Handler::unix()
            .register(&mut daemon.client(), &[STOP], None)
            .expect("a handler that is gone");
        Self {
            daemon,
            calls: Handler::unix(),
        }
    }

    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.daemon.peer_id()
    }

    /// Ends it in order, so that its peers are told also over quic.
    pub fn leave(mut self) {
        self.daemon.terminate(PATIENCE);
    }

    /// A stream on which `relay` may be asked.
    #[must_use]
    pub fn hop(&self, relay: &Daemon) -> Pipe {
        let opened = self.daemon.client().open_stream(relay.peer_id(), &[HOP]);
        opened.expect("a stream to the relay").1
    }

    /// What `relay` says to RESERVE.
    #[must_use]
    pub fn reserve(&self, relay: &Daemon) -> Hop {
        let request = Hop {
            kind: Some(RESERVE),
            ..Hop::default()
        };
        ask(&mut self.hop(relay), &request).expect("an answer to RESERVE")
    }

    /// [`End::reserve`] where nothing speaks against it.
    pub fn reserved(&self, relay: &Daemon) {
        assert_eq!(self.reserve(relay).status, Some(OK));
    }

    /// Calls `peer` through `relay`: the stream, and what the relay says.
    #[must_use]
    pub fn call(&self, relay: &Daemon, peer: PeerId) -> (Pipe, Hop) {
        let mut pipe = self.hop(relay);
        let answer = ask(&mut pipe, &Hop::connect(peer)).expect("an answer to CONNECT");
        (pipe, answer)
    }

    /// The status with which `relay` answers a call of `peer`.
    #[must_use]
    pub fn called(&self, relay: &Daemon, peer: PeerId) -> Option<i32> {
        self.call(relay, peer).1.status
    }

    /// The next call, not answered yet.
    #[must_use]
    pub fn rings(&self) -> (Pipe, Stop) {
        let (_, mut pipe) = self.calls.accept(PATIENCE).expect("a call");
        let request = receive(&mut pipe).expect("STOP CONNECT");
        (pipe, request)
    }

    /// Whether somebody calls within `time`.
    #[must_use]
    pub fn is_called(&self, time: Duration) -> bool {
        self.calls.accept(time).is_ok()
    }

    /// Takes the next call.
    #[must_use]
    pub fn answer(&self) -> (Pipe, Stop) {
        let (mut pipe, request) = self.rings();
        pipe.write_all(&frame::encode(&Stop::answer(OK)))
            .expect("agree");
        (pipe, request)
    }

    /// A circuit from here to `other`, as each end has it.
    #[must_use]
    pub fn circuit(&self, relay: &Daemon, other: &Self) -> (Pipe, Pipe) {
        std::thread::scope(|scope| {
            let answered = scope.spawn(|| other.answer().0);
            let (near, answer) = self.call(relay, other.peer_id());
            assert_eq!(answer.status, Some(OK), "CONNECT");
            (near, answered.join().expect("a call"))
        })
    }
}
