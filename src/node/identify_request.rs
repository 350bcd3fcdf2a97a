//! Identify messages that the library cannot read.
//!
//! The library refuses a message whole if one of its texts is not UTF-8 or if it is larger than
//! 4 KiB. go-libp2p takes both. So the message is requested once more and read here, item by item:
//! an item that cannot be used costs itself only.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, poll_fn},
    stream::FuturesUnordered,
};
use libp2p::{Multiaddr, PeerId, identity::PublicKey, swarm::ConnectionId};
use prost::Message as _;
use tokio::time::timeout;

use crate::{
    fixed_limits::fixed_limit,
    memory::OverBudget,
    streams::{MAX_NAME, OpenError, Peer, StreamUser, Streams},
    wire::{
        frame::{FrameReader, ReadError},
        parts,
    },
};

const PROTOCOL: &str = "/ipfs/id/1.0.0";

/// Largest part of a message in bytes, and parts in a message, as in go-libp2p.
const MAX_PART: usize = 8 << 10;
fixed_limit!("identify: part of a message that the library refuses", bytes MAX_PART);
const MAX_PARTS: usize = 10;
fixed_limit!("identify: parts of such a message", MAX_PARTS);

/// Addresses of one message that are looked at (SECURITY.md 3).
const MAX_ADDRESSES: usize = 1024;
fixed_limit!("identify: addresses looked at", MAX_ADDRESSES);

/// Protocols of one message that are kept (SECURITY.md 3).
const MAX_LISTED: usize = 256;
fixed_limit!("identify: protocols kept", MAX_LISTED);

/// Time for the whole message (go-libp2p's).
const TIMEOUT: Duration = Duration::from_secs(5);
fixed_limit!("identify: time for such a message", time TIMEOUT);

/// What a peer says of itself, as far as it is needed. Texts are bytes here.
#[derive(Clone, PartialEq, prost::Message)]
struct Identify {
    #[prost(bytes = "bytes", optional, tag = "1")]
    public_key: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    listen_addrs: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    protocols: Vec<Bytes>,
}

/// What a peer has told of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// None if it tells none, or that of another peer.
    pub(super) public_key: Option<PublicKey>,
    /// Where it listens.
    pub(super) addresses: Vec<Multiaddr>,
    /// What it speaks.
    pub(super) protocols: Vec<String>,
}

impl Identity {
    /// Leaves out what is no address, no key of `peer`, or no UTF-8.
    fn new(message: Identify, peer: PeerId) -> Self {
        let key = message.public_key.and_then(|key| {
            let key = PublicKey::try_decode_protobuf(&key).ok()?;
            (key.to_peer_id() == peer).then_some(key)
        });
        let addresses = message.listen_addrs.into_iter();
        let names = message.protocols.iter();
        Self {
            public_key: key,
            addresses: addresses
                .take(MAX_ADDRESSES)
                .filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok())
                .collect(),
            protocols: names
                .filter(|name| name.len() <= MAX_NAME)
                .filter_map(|name| Some(std::str::from_utf8(name).ok()?.to_owned()))
                .take(MAX_LISTED)
                .collect(),
        }
    }
}

/// Why a peer's message was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentifyError {
    /// The peer has left.
    #[error("connection closed")]
    Gone,
    /// Too much is held already because of the peer.
    #[error(transparent)]
    OverBudget(#[from] OverBudget),
    /// There is no stream for it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The message has not arrived.
    #[error("failed to read the message")]
    Read(#[from] ReadError),
    /// It is not of the protocol.
    #[error("malformed message")]
    Malformed(#[from] prost::DecodeError),
    /// It has not arrived in time.
    #[error("timeout")]
    TimedOut,
}

/// A message that was requested, and from whom.
pub(super) type Requested = (PeerId, ConnectionId, Result<Identity, IdentifyError>);

/// Messages that are under way, one for each connection at most.
#[derive(Default)]
pub(super) struct Requests {
    running: FuturesUnordered<BoxFuture<'static, Requested>>,
    connections: HashSet<ConnectionId>,
}

impl Requests {
    /// Requests the message of `peer`, unless that of `connection` is under way.
    pub(super) fn begin(&mut self, streams: Arc<Streams>, peer: PeerId, connection: ConnectionId) {
        if self.connections.insert(connection) {
            let request = async move {
                let identity = timeout(TIMEOUT, request(&streams, peer)).await;
                let identity = identity.unwrap_or(Err(IdentifyError::TimedOut));
                (peer, connection, identity)
            };
            self.running.push(request.boxed());
        }
    }

    /// The next message. Pending while none is under way.
    pub(super) async fn next(&mut self) -> Requested {
        let requested = poll_fn(|cx| match self.running.poll_next_unpin(cx) {
            std::task::Poll::Ready(Some(requested)) => std::task::Poll::Ready(requested),
            // An empty set is woken by nobody: `begin` is called by whoever polls this.
            _ => std::task::Poll::Pending,
        })
        .await;
        self.connections.remove(&requested.1);
        requested
    }
}

async fn request(streams: &Streams, id: PeerId) -> Result<Identity, IdentifyError> {
    let peer = streams.peers.get(&id).ok_or(IdentifyError::Gone)?;
    read(streams, &peer)
        .await
        .map(|message| Identity::new(message, id))
}

async fn read(streams: &Streams, peer: &Peer) -> Result<Identify, IdentifyError> {
    let connection = peer.best_connection().ok_or(IdentifyError::Gone)?;
    // Each part, and what is kept of all of them.
    let mut held = peer.account.charge(MAX_PART * (MAX_PARTS + 1))?;
    let (mut stream, _) = streams
        .open(&connection, &[], &[PROTOCOL.into()], StreamUser::Daemon)
        .await?;
    let mut reader = FrameReader::new(MAX_PART, BytesMut::new());
    let mut message = Identify::default();
    for part in 0..MAX_PARTS {
        match reader.next(&mut stream).await {
            Ok(Some(bytes)) => {
                // An entry of two bytes takes sixteen times as much.
                held.merge(peer.account.charge(parts::cost(&bytes))?);
                message.merge(bytes)?;
            }
            Ok(None) if part == 0 => return Err(ReadError::Closed.into()),
            // However the stream ends, what came before is whole.
            Ok(None) => break,
            Err(_) if part > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn what_cannot_be_used_costs_itself_only() {
        let (key, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        let peer = key.public().to_peer_id();
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().expect("a multiaddr");
        let message = |key: &Keypair| Identify {
            public_key: Some(key.public().encode_protobuf().into()),
            listen_addrs: vec![Bytes::from_static(b"\xff\xff"), address.to_vec().into()],
            protocols: vec![
                Bytes::from_static(b"/a"),
                Bytes::from_static(b"/\xff\xfe"),
                Bytes::from(vec![b'x'; MAX_NAME + 1]),
                Bytes::from_static(b"no slash"),
            ],
        };
        let identity = Identity::new(message(&key), peer);
        assert_eq!(identity.public_key, Some(key.public()));
        assert_eq!(identity.addresses, std::slice::from_ref(&address));
        assert_eq!(identity.protocols, ["/a", "no slash"]);
        assert_eq!(Identity::new(message(&other), peer).public_key, None);
    }
}
