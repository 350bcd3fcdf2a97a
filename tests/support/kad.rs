//! The Kademlia protocol from the other side: messages written by hand, and a peer whose
//! every answer a test decides.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libp2p::{Multiaddr, PeerId};
use prost::Message as _;
use rp2pd::wire::frame;
use rp2pd::wire::pb::dht_request;

use super::dht::{EMPTY_TABLE, query};
use super::{Daemon, Handler, Launch, PATIENCE, Pipe, eventually};

/// The protocol's name.
pub const PROTOCOL: &str = "/ipfs/kad/1.0.0";

/// Requests a puppet remembers, the latest.
const REMEMBERED: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Kind {
    PutValue = 0,
    GetValue = 1,
    AddProvider = 2,
    GetProviders = 3,
    FindNode = 4,
    Ping = 5,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Record {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
    /// A string on paper, of which nobody checks that it is one.
    #[prost(bytes = "vec", tag = "5")]
    pub received: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Peer {
    #[prost(bytes = "vec", tag = "1")]
    pub id: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub addrs: Vec<Vec<u8>>,
    #[prost(int32, tag = "3")]
    pub connection: i32,
}

impl Peer {
    #[must_use]
    pub fn new(id: PeerId, addrs: &[Multiaddr]) -> Self {
        Self {
            id: id.to_bytes(),
            addrs: addrs.iter().map(Multiaddr::to_vec).collect(),
            connection: 0,
        }
    }

    #[must_use]
    pub fn of(daemon: &Daemon) -> Self {
        Self::new(daemon.peer_id(), daemon.addrs())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Message {
    #[prost(enumeration = "Kind", tag = "1")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "2")]
    pub key: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub record: Option<Record>,
    #[prost(message, repeated, tag = "8")]
    pub closer: Vec<Peer>,
    #[prost(message, repeated, tag = "9")]
    pub providers: Vec<Peer>,
}

impl Message {
    #[must_use]
    pub fn new(kind: Kind, key: &[u8]) -> Self {
        Self {
            kind: kind.into(),
            key: key.to_vec(),
            ..Self::default()
        }
    }

    /// PUT_VALUE of this record.
    #[must_use]
    pub fn put(key: &[u8], value: &[u8]) -> Self {
        Self::new(Kind::PutValue, key).with_record(key, value)
    }

    /// ADD_PROVIDER of `key`, the multihash, by `provider`.
    #[must_use]
    pub fn provide(key: &[u8], provider: Peer) -> Self {
        let mut message = Self::new(Kind::AddProvider, key);
        message.providers.push(provider);
        message
    }

    #[must_use]
    pub fn with_record(mut self, key: &[u8], value: &[u8]) -> Self {
        self.record = Some(Record {
            key: key.to_vec(),
            value: value.to_vec(),
            received: Vec::new(),
        });
        self
    }

    /// An answer to this request that knows nothing.
    #[must_use]
    pub fn reply(&self) -> Self {
        Self::new(self.kind(), &self.key)
    }
}

/// What a puppet does with a request.
#[derive(Debug)]
pub enum Reply {
    Message(Message),
    /// These bytes and no frame around them.
    Raw(Vec<u8>),
    Silence,
    HangUp,
}

/// What every server must answer to be taken for one, as Go asks it: who it is itself.
/// PUT_VALUE is acknowledged; of everything else it knows nothing.
#[must_use]
pub fn polite(own: &Peer, asked: &Message) -> Reply {
    let mut reply = asked.reply();
    match asked.kind() {
        Kind::FindNode => reply.closer.push(own.clone()),
        Kind::PutValue => reply.record.clone_from(&asked.record),
        Kind::AddProvider => return Reply::Silence,
        _ => {}
    }
    Reply::Message(reply)
}

/// Polite when it is asked for itself, which admits it to a table; `answer` decides the rest.
pub fn admitted(answer: impl Fn(&Peer, &Message) -> Reply) -> impl Fn(&Peer, &Message) -> Reply {
    move |own, asked| {
        if asked.kind() == Kind::FindNode && asked.key == own.id {
            polite(own, asked)
        } else {
            answer(own, asked)
        }
    }
}

/// A peer of the network, identified as a Kademlia server, that answers as the test says.
#[derive(Debug)]
pub struct Puppet {
    /// Without a DHT of its own.
    pub daemon: Daemon,
    asked: Arc<Mutex<VecDeque<Message>>>,
    over: Arc<AtomicBool>,
}

impl Puppet {
    /// `answer` is called with who the puppet is and what it is asked.
    #[must_use]
    pub fn new(answer: impl Fn(&Peer, &Message) -> Reply + Send + Sync + 'static) -> Self {
        // rp2pd whatever daemon is under test: others refuse less or more.
        let daemon = Launch::new()
            .binary(env!("CARGO_BIN_EXE_rp2pd"))
            .args(["-hostAddrs=/ip4/127.0.0.1/tcp/0"])
            .spawn();
        let puppet = Self {
            daemon,
            asked: Arc::default(),
            over: Arc::default(),
        };
        let handler = Handler::unix();
        handler
            .register(&mut puppet.daemon.client(), &[PROTOCOL], None)
            .expect("serve kad by hand");
        let own = Peer::of(&puppet.daemon);
        let answer = Arc::new(move |asked: &Message| answer(&own, asked));
        let (asked, over) = (Arc::clone(&puppet.asked), Arc::clone(&puppet.over));
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if let Ok((_, pipe)) = handler.accept(Duration::from_millis(100)) {
                    let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                    // Ends with the stream, at the latest with the puppet's daemon.
                    std::thread::spawn(move || serve(pipe, &*answer, &asked));
                }
            }
        });
        puppet
    }

    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.daemon.peer_id()
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Message> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().cloned().collect()
    }

    /// Whether it was asked anything of this kind.
    #[must_use]
    pub fn was_asked(&self, kind: Kind) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().any(|message| message.kind() == kind)
    }

    /// Connects `daemon` to the puppet and waits until its table holds it.
    pub fn join(&self, daemon: &Daemon) {
        daemon.connect_to(&self.daemon);
        let mut query = query(dht_request::Type::GetClosestPeers);
        query.key = Some("whatever".into());
        // It may never answer a lookup, so this is not about what comes back.
        query.timeout = Some(1);
        let joined = eventually(PATIENCE, || {
            let asked = daemon.client().dht_stream(query.clone());
            asked != Err(EMPTY_TABLE.to_owned()) && self.was_asked(Kind::FindNode)
        });
        assert!(joined, "the puppet is not taken for a server");
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn serve(mut pipe: Pipe, answer: &dyn Fn(&Message) -> Reply, asked: &Mutex<VecDeque<Message>>) {
    // Streams may idle for as long as the test runs.
    let _ = pipe.socket.set_timeout(Duration::from_secs(600));
    while let Ok(request) = receive(&mut pipe) {
        {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.len() == REMEMBERED {
                asked.pop_front();
            }
            asked.push_back(request.clone());
        }
        let sent = match answer(&request) {
            Reply::Message(message) => pipe.write_all(&frame::encode(&message)),
            Reply::Raw(bytes) => pipe.write_all(&bytes),
            Reply::Silence => Ok(()),
            Reply::HangUp => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next message on a stream of the protocol.
///
/// # Errors
/// I/O, or `InvalidData` for what is none.
pub fn receive(pipe: &mut Pipe) -> io::Result<Message> {
    let payload = pipe.read_frame()?;
    Message::decode(payload).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Opens a stream of the protocol from `from` (a daemon without a DHT) to `to`.
///
/// # Errors
/// The ERROR text.
pub fn open(from: &Daemon, to: PeerId) -> Result<Pipe, String> {
    let (_, pipe) = from.client().open_stream(to, &[PROTOCOL])?;
    Ok(pipe)
}

/// One request and its answer.
///
/// # Errors
/// I/O; `UnexpectedEof` if the other side ends the stream instead.
pub fn ask(pipe: &mut Pipe, request: &Message) -> io::Result<Message> {
    pipe.write_all(&frame::encode(request))?;
    receive(pipe)
}
