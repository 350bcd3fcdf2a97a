//! Messages between Kademlia nodes, and the streams that carry them.

mod channel;
mod decode;

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::PeerInfo;

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

pub(super) use channel::{Channel, ChannelError};
pub(super) use decode::decode;
pub(super) use pb::{Message, Record, message::Type};

use crate::fixed_limits::fixed_limit;

/// Peers taken from one message: the 20 closest and the one that was asked for.
const MAX_CLOSER: usize = 21;
fixed_limit!("DHT: closer peers taken from one message", MAX_CLOSER);

/// Providers taken from one answer.
pub(super) const MAX_PROVIDERS: usize = 1000;
fixed_limit!("DHT: providers taken from one answer", MAX_PROVIDERS);

/// Addresses taken or told of one peer in one message.
pub(super) const MAX_ADDRESSES: usize = 32;
fixed_limit!("DHT: addresses of one peer in one message", MAX_ADDRESSES);

/// Longest address taken, in bytes.
const MAX_ADDRESS: usize = 512;

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
        time_received: Bytes::new(),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

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
