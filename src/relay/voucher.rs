//! Reservation vouchers: a relay's signed word that a peer may be reached through it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use libp2p::{PeerId, core::SignedEnvelope, identity::Keypair};
use prost::Message as _;

use super::message::Voucher;

/// Keeps the signature from being used for anything else.
const DOMAIN: &str = "libp2p-relay-rsvp";

/// The multicodec of a voucher, as a varint.
const PAYLOAD_TYPE: [u8; 2] = [0x03, 0x02];

/// The moment `time` from now, in seconds after 1970-01-01 UTC.
pub(super) fn seconds_after_1970(time: Duration) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().saturating_add(time).as_secs()
}

/// The voucher of the relay with `identity` for `peer`; `None` if the key cannot sign.
pub(super) fn sign(identity: &Keypair, peer: &PeerId, expiration: u64) -> Option<Vec<u8>> {
    let voucher = Voucher {
        relay: identity.public().to_peer_id().to_bytes().into(),
        peer: peer.to_bytes().into(),
        expiration,
    };
    let envelope = SignedEnvelope::new(
        identity,
        DOMAIN.to_owned(),
        PAYLOAD_TYPE.to_vec(),
        voucher.encode_to_vec(),
    );
    Some(envelope.ok()?.into_protobuf_encoding())
}

/// Whether `bytes` are the word, for `peer`, of the relay that they name. As go-libp2p's client
/// looks at it.
pub(super) fn is_valid(bytes: &[u8], peer: &PeerId) -> bool {
    let Ok(envelope) = SignedEnvelope::from_protobuf_encoding(bytes) else {
        return false;
    };
    let Ok((payload, key)) = envelope.payload_and_signing_key(DOMAIN.to_owned(), &PAYLOAD_TYPE)
    else {
        return false;
    };
    let Ok(voucher) = Voucher::decode(payload) else {
        return false;
    };
    voucher.relay == key.to_peer_id().to_bytes() && voucher.peer == peer.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voucher_is_the_relays_word_for_one_peer() {
        let identity = Keypair::generate_ed25519();
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let expiration = seconds_after_1970(Duration::from_secs(3600));
        let voucher = sign(&identity, &peer, expiration).expect("ed25519 signs");
        // As long as the voucher of Go's relay for a peer with such a key.
        assert_eq!(voucher.len(), 196);
        let mut envelope =
            SignedEnvelope::from_protobuf_encoding(&voucher).expect("a signed envelope");
        let (payload, key) = envelope
            .payload_and_signing_key(DOMAIN.to_owned(), &PAYLOAD_TYPE)
            .expect("a valid signature");
        assert_eq!(*key, identity.public());
        let said = Voucher::decode(payload).expect("a voucher");
        assert_eq!(said.relay, identity.public().to_peer_id().to_bytes());
        assert_eq!(said.peer, peer.to_bytes());
        assert_eq!(said.expiration, expiration);
        assert!(is_valid(&voucher, &peer));
        assert!(!is_valid(&voucher, &PeerId::random()), "for another");
        assert!(!is_valid(&voucher[1..], &peer) && !is_valid(&[], &peer));
        // One changed byte of it, and nobody has said that.
        let mut forged = voucher;
        let last = forged.len() - 70;
        forged[last] ^= 1;
        envelope = SignedEnvelope::from_protobuf_encoding(&forged).expect("still an envelope");
        let read = envelope.payload_and_signing_key(DOMAIN.to_owned(), &PAYLOAD_TYPE);
        assert!(read.is_err());
        assert!(!is_valid(&forged, &peer));
    }

    #[test]
    fn nobody_speaks_for_another_relay() {
        let (relay, peer) = (PeerId::random(), PeerId::random());
        let other = Keypair::generate_ed25519();
        let voucher = Voucher {
            relay: relay.to_bytes().into(),
            peer: peer.to_bytes().into(),
            expiration: 1,
        };
        let signed = SignedEnvelope::new(
            &other,
            DOMAIN.to_owned(),
            PAYLOAD_TYPE.to_vec(),
            voucher.encode_to_vec(),
        );
        let signed = signed.expect("ed25519 signs").into_protobuf_encoding();
        assert!(!is_valid(&signed, &peer));
    }
}
