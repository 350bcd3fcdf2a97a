//! Messages between Kademlia nodes, and the streams that carry them.

use std::io;

use bytes::Bytes;
use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use prost::Message as _;
use tokio::sync::Semaphore;

use super::PeerInfo;
use crate::streams::{Frames, UserStream};

/// The messages of `proto/kad.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
pub(super) mod pb {
    include!(concat!(env!("OUT_DIR"), "/kad.pb.rs"));
}

pub(super) use pb::{Message, Record, message::Type};

/// Largest message, in bytes (go-libp2p's limit).
const MAX_MESSAGE: usize = 4 << 20;

/// Messages above 64 KiB read at once, of all peers together (SECURITY.md 3).
const MAX_LARGE: usize = 16;

/// Peers taken from one message: the 20 closest and the one that was asked for.
const MAX_CLOSER: usize = 21;

/// Providers taken from one message.
const MAX_PROVIDERS: usize = 1000;

/// Addresses taken of one peer in one message.
const MAX_ADDRESSES: usize = 32;

/// Longest address taken, in bytes.
const MAX_ADDRESS: usize = 512;

static LARGE_PLACES: Semaphore = Semaphore::const_new(MAX_LARGE);

/// A request with nothing but a key.
pub(super) fn request(kind: Type, key: &[u8]) -> Message {
    Message {
        r#type: kind.into(),
        key: Bytes::copy_from_slice(key),
        cluster_level_raw: 1,
        ..Message::default()
    }
}

/// A record as it is sent: when it was received is the receiver's business.
pub(super) fn record(key: &[u8], value: &[u8]) -> Record {
    Record {
        key: Bytes::copy_from_slice(key),
        value: Bytes::copy_from_slice(value),
        time_received: String::new(),
    }
}

/// `info` as it is sent.
pub(super) fn peer(info: &PeerInfo, connected: bool) -> pb::Peer {
    use pb::peer::Connection;
    let connection = if connected {
        Connection::Connected
    } else {
        Connection::NotConnected
    };
    pb::Peer {
        id: info.id.to_bytes().into(),
        addrs: info
            .addresses
            .iter()
            .take(MAX_ADDRESSES)
            .map(|address| address.to_vec().into())
            .collect(),
        connection: connection.into(),
    }
}

/// The peers closer to the key, as far as they make sense.
pub(super) fn closer(message: &Message) -> impl Iterator<Item = PeerInfo> {
    message
        .closer_peers
        .iter()
        .take(MAX_CLOSER)
        .filter_map(info)
}

/// The providers of the key, as far as they make sense.
pub(super) fn providers(message: &Message) -> impl Iterator<Item = PeerInfo> {
    message
        .provider_peers
        .iter()
        .take(MAX_PROVIDERS)
        .filter_map(info)
}

/// A peer without those of its addresses that nobody could dial; `None` if its id is none.
fn info(peer: &pb::Peer) -> Option<PeerInfo> {
    let id = PeerId::from_bytes(&peer.id).ok()?;
    let mut addresses: Vec<Multiaddr> = Vec::new();
    for bytes in peer.addrs.iter().take(MAX_ADDRESSES) {
        if bytes.len() > MAX_ADDRESS {
            continue;
        }
        let Ok(mut address) = Multiaddr::try_from(bytes.to_vec()) else {
            continue;
        };
        if address.iter().last() == Some(Protocol::P2p(id)) {
            address.pop();
        }
        if !address.is_empty() && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Some(PeerInfo { id, addresses })
}

/// A stream that carries messages.
#[derive(Debug)]
pub(super) struct Channel {
    stream: UserStream,
    frames: Frames,
}

impl Channel {
    pub(super) fn new(stream: UserStream) -> Self {
        Self {
            stream,
            frames: Frames::new(MAX_MESSAGE, &LARGE_PLACES),
        }
    }

    /// Sends an encoded message.
    pub(super) async fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame).await?;
        self.stream.flush().await
    }

    /// The next message; `None` once the remote has finished.
    pub(super) async fn receive(&mut self) -> io::Result<Option<Message>> {
        let Some(frame) = self.frames.next(&mut self.stream).await? else {
            return Ok(None);
        };
        Ok(Some(
            Message::decode(frame.payload).map_err(io::Error::other)?,
        ))
    }

    /// Finishes the sending side.
    pub(super) async fn close(mut self) {
        // The remote may have gone before.
        let _ = self.stream.close().await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(id: &[u8], addrs: Vec<Vec<u8>>) -> pb::Peer {
        pb::Peer {
            id: Bytes::copy_from_slice(id),
            addrs: addrs.into_iter().map(Into::into).collect(),
            connection: 0,
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let peer = PeerId::random();
        let stranger = PeerId::random();
        let plain: Multiaddr = "/ip4/127.0.0.1/tcp/1".parse().expect("an address");
        let own = plain.clone().with(Protocol::P2p(peer));
        let foreign = plain.clone().with(Protocol::P2p(stranger));
        let long: Multiaddr = format!("/dns4/{}/tcp/1", "a".repeat(MAX_ADDRESS))
            .parse()
            .expect("an address");
        let only_peer = Multiaddr::from(Protocol::P2p(peer));
        let message = Message {
            closer_peers: vec![
                sent(b"no peer", vec![plain.to_vec()]),
                sent(
                    &peer.to_bytes(),
                    [&own, &plain, &foreign, &long, &only_peer]
                        .map(Multiaddr::to_vec)
                        .into_iter()
                        .chain([b"\xff\xff".to_vec(), Vec::new()])
                        .collect(),
                ),
            ],
            ..Message::default()
        };
        let expected = PeerInfo {
            id: peer,
            addresses: vec![plain, foreign],
        };
        assert_eq!(closer(&message).collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn ten_thousand_of_anything_are_cut() {
        let addresses: Vec<Vec<u8>> = (0..10_000u32)
            .map(|n| Multiaddr::from(std::net::Ipv4Addr::from(n)).to_vec())
            .collect();
        let id = PeerId::random().to_bytes();
        let message = Message {
            closer_peers: vec![sent(&id, addresses)],
            ..Message::default()
        };
        let told: Vec<_> = closer(&message).collect();
        assert_eq!(told[0].addresses.len(), MAX_ADDRESSES);
        let peers = vec![sent(&id, Vec::new()); 10_000];
        let message = Message {
            closer_peers: peers.clone(),
            provider_peers: peers,
            ..Message::default()
        };
        assert_eq!(closer(&message).count(), MAX_CLOSER);
        assert_eq!(providers(&message).count(), MAX_PROVIDERS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = Message::decode(&bytes[..]) {
                let _ = closer(&message).chain(providers(&message)).count();
            }
        }

        #[test]
        fn any_peer_is_read_or_left_out(
            id in prop::collection::vec(any::<u8>(), 0..40),
            addrs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
        ) {
            let message = Message {
                closer_peers: vec![sent(&id, addrs)],
                ..Message::default()
            };
            let _ = closer(&message).count();
        }
    }
}
