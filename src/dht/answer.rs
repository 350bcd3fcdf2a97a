//! Peers in answers, as many as an answer may be large.

use prost::Message as _;

use super::{
    PeerInfo,
    message::{MAX_ADDRESSES, pb},
};

use crate::fixed_limits::fixed_limit;

/// Largest answer that names peers, in bytes (SECURITY.md 3): rust-libp2p reads 16 KiB unless
/// configured otherwise, every other implementation more.
pub(super) const MAX_ANSWER: usize = 15 << 10;
fixed_limit!("DHT: answer that names peers", bytes MAX_ANSWER);

/// Bytes kept for providers where both they and closer peers are told.
pub(super) const MAX_CLOSER_BYTES: usize = 6 << 10;

/// Bytes that a field takes besides its content: its tag and a length of up to 16 KiB.
const FIELD: usize = 4;

/// `infos` as they are sent, and whether there is a connection to each, within `budget` bytes,
/// which is reduced by what they take. Addresses are left out before peers are, so that a peer
/// with many or long addresses displaces nobody. Each has its first address before any has its
/// second.
pub(super) fn peers(infos: &[(PeerInfo, bool)], budget: &mut usize) -> Vec<pb::Peer> {
    use pb::peer::Connection;
    let mut take = |bytes: usize| {
        let left = budget.checked_sub(bytes + FIELD);
        *budget = left.unwrap_or(*budget);
        left.is_some()
    };
    let mut peers: Vec<pb::Peer> = infos
        .iter()
        .map(|(info, connected)| pb::Peer {
            id: info.id.to_bytes().into(),
            addrs: Vec::new(),
            connection: match connected {
                true => Connection::Connected.into(),
                false => Connection::NotConnected.into(),
            },
        })
        .take_while(|peer| take(peer.encoded_len()))
        .collect();
    for round in 0..MAX_ADDRESSES {
        for ((info, _), peer) in infos.iter().zip(&mut peers) {
            if let Some(address) = info.addresses.get(round)
                && take(address.len())
            {
                peer.addrs.push(address.to_vec().into());
            }
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use libp2p::{Multiaddr, PeerId};
    use proptest::prelude::*;

    use super::{
        super::message::{self, Message, Type},
        *,
    };

    /// A DNS name makes an address of any length.
    fn address(length: usize) -> Multiaddr {
        format!("/dns4/{}/tcp/1", "a".repeat(length))
            .parse()
            .expect("an address")
    }

    fn info(addresses: Vec<Multiaddr>) -> (PeerInfo, bool) {
        let id = PeerId::random();
        (PeerInfo { id, addresses }, true)
    }

    #[test]
    fn nobody_with_many_long_addresses_displaces_others() {
        let mut infos: Vec<_> = (0..16).map(|_| info(vec![address(490); 32])).collect();
        infos.extend((0..16).map(|_| info(vec![address(10)])));
        let mut budget = MAX_ANSWER;
        let peers = peers(&infos, &mut budget);
        assert_eq!(peers.len(), 32);
        assert!(peers[16..].iter().all(|peer| peer.addrs.len() == 1));
        assert!(peers[..16].iter().all(|peer| !peer.addrs.is_empty()));
    }

    #[test]
    fn ids_are_told_where_addresses_have_no_room() {
        let infos: Vec<_> = (0..300).map(|_| info(vec![address(400)])).collect();
        let peers = peers(&infos, &mut MAX_ANSWER.clone());
        assert!(peers.len() > 200, "{}", peers.len());
    }

    proptest! {
        #[test]
        fn an_answer_is_no_larger_than_its_budget(
            infos in prop::collection::vec(prop::collection::vec(1..600_usize, 0..40), 0..400),
            budget in 0..MAX_ANSWER,
        ) {
            let infos: Vec<_> = infos
                .into_iter()
                .map(|lengths| info(lengths.into_iter().map(address).collect()))
                .collect();
            let mut left = budget;
            let mut answer = message::request(Type::GetProviders, b"");
            let empty = answer.encoded_len();
            answer.provider_peers = peers(&infos, &mut left);
            let size = Message::encoded_len(&answer) - empty;
            prop_assert!(size + left <= budget, "{} bytes of {}", size, budget);
        }
    }
}
