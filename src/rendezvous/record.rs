//! Who registers, in the three forms that are in use.

use bytes::Bytes;
use libp2p::{
    Multiaddr, PeerId,
    core::{PeerRecord, SignedEnvelope},
    identity::Keypair,
};
use prost::Message as _;

use crate::fixed_limits::fixed_limit;

/// Addresses of one registration that are kept.
pub(super) const MAX_ADDRESSES: usize = 64;
fixed_limit!("rendezvous: addresses of one registration", MAX_ADDRESSES);

/// How a peer writes registrations, and which ones it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A signed peer record, as Go and JavaScript write it.
    Signed,
    /// The same in the older envelope of rust-libp2p.
    Legacy,
    /// A peer id and addresses that nobody has signed, as py-libp2p 0.8 writes it.
    Plain,
}

/// The order in which a point is asked to take them.
pub(super) const FORMS: [Form; 3] = [Form::Signed, Form::Legacy, Form::Plain];

/// An id and addresses without a signature.
#[derive(Clone, PartialEq, prost::Message)]
struct PeerInfo {
    #[prost(bytes = "bytes", optional, tag = "1")]
    id: Option<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    addrs: Vec<Bytes>,
}

/// The fields of an envelope that are looked at to tell it from the other form.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(bytes = "bytes", optional, tag = "3")]
    payload: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    signature: Option<Bytes>,
}

/// A peer and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) form: Form,
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
    /// As the peer wrote it.
    pub(super) bytes: Bytes,
}

impl Record {
    /// Reads what a peer or a point has written. `None` if it is no record, or its signature is
    /// not the peer's. An address that is none costs itself alone where nothing is signed.
    pub(super) fn read(bytes: &Bytes) -> Option<Self> {
        let envelope = Envelope::decode(&bytes[..]).ok()?;
        let mut record = match (envelope.payload, envelope.signature) {
            (Some(_), Some(_)) => Self::signed(bytes)?,
            _ => Self::plain(bytes)?,
        };
        record.addresses.truncate(MAX_ADDRESSES);
        record.addresses.shrink_to_fit();
        Some(record)
    }

    fn signed(bytes: &Bytes) -> Option<Self> {
        let envelope = SignedEnvelope::from_protobuf_encoding(bytes).ok()?;
        let (form, record) = match PeerRecord::from_signed_envelope_interop(envelope.clone()) {
            Ok(record) => (Form::Signed, record),
            Err(_) => (
                Form::Legacy,
                PeerRecord::from_signed_envelope(envelope).ok()?,
            ),
        };
        Some(Self {
            form,
            peer: record.peer_id(),
            addresses: record.addresses().to_vec(),
            bytes: Bytes::copy_from_slice(bytes),
        })
    }

    fn plain(bytes: &Bytes) -> Option<Self> {
        let info = PeerInfo::decode(bytes.clone()).ok()?;
        let peer = PeerId::from_bytes(&info.id?).ok()?;
        let addresses = info.addrs.iter();
        let addresses = addresses.filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok());
        Some(Self::unsigned(
            peer,
            addresses.take(MAX_ADDRESSES).collect(),
        ))
    }

    fn unsigned(peer: PeerId, addresses: Vec<Multiaddr>) -> Self {
        let info = PeerInfo {
            id: Some(peer.to_bytes().into()),
            addrs: addresses.iter().map(|one| one.to_vec().into()).collect(),
        };
        Self {
            form: Form::Plain,
            peer,
            addresses,
            bytes: info.encode_to_vec().into(),
        }
    }

    /// What `identity` registers in `form`. `None` if it cannot sign.
    pub(super) fn of(identity: &Keypair, addresses: &[Multiaddr], form: Form) -> Option<Bytes> {
        let mut addresses = addresses.to_vec();
        addresses.truncate(MAX_ADDRESSES);
        let record = match form {
            Form::Signed => PeerRecord::new_interop(identity, addresses),
            Form::Legacy => PeerRecord::new(identity, addresses),
            Form::Plain => {
                let peer = identity.public().to_peer_id();
                return Some(Self::unsigned(peer, addresses).bytes);
            }
        };
        let envelope = record.ok()?.into_signed_envelope();
        Some(envelope.into_protobuf_encoding().into())
    }

    /// As a peer reads it that reads `form`. `None` if only the peer itself could write it so.
    pub(super) fn in_form(&self, form: Form) -> Option<Bytes> {
        if self.form == form {
            return Some(self.bytes.clone());
        }
        (form == Form::Plain).then(|| Self::unsigned(self.peer, self.addresses.clone()).bytes)
    }

    /// Bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        let addresses = self.addresses.iter().map(|one| one.len() + 64);
        size_of::<Self>() + self.bytes.len() + addresses.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<Multiaddr> {
        vec![
            "/ip4/1.2.3.4/tcp/5".parse().unwrap(),
            "/ip4/1.2.3.4/udp/5/quic-v1".parse().unwrap(),
        ]
    }

    #[test]
    fn each_form_is_read_as_it_was_written() {
        let identity = Keypair::generate_ed25519();
        for form in FORMS {
            let written = Record::of(&identity, &addresses(), form).unwrap();
            let record = Record::read(&written).unwrap();
            assert_eq!(record.form, form);
            assert_eq!(record.peer, identity.public().to_peer_id());
            assert_eq!(record.addresses, addresses());
            assert_eq!(record.bytes, written);
            assert_eq!(record.in_form(form), Some(written));
            let plain = Record::read(&record.in_form(Form::Plain).unwrap()).unwrap();
            assert_eq!((plain.peer, plain.addresses), (record.peer, addresses()));
            for other in [Form::Signed, Form::Legacy] {
                assert_eq!(record.in_form(other).is_some(), other == form);
            }
        }
    }

    #[test]
    fn what_is_forged_or_none_is_not_read() {
        let identity = Keypair::generate_ed25519();
        for form in [Form::Signed, Form::Legacy] {
            let written = Record::of(&identity, &addresses(), form).unwrap();
            for at in 0..written.len() {
                let mut forged = written.to_vec();
                forged[at] ^= 1;
                let read = Record::read(&forged.into());
                assert!(read.is_none_or(|read| read.form == Form::Plain), "{at}");
            }
        }
        for none in [&b""[..], b"\x0a\x00", b"\xff", b"\x0a\x03abc"] {
            assert_eq!(Record::read(&Bytes::from_static(none)), None);
        }
    }

    #[test]
    fn an_address_that_is_none_costs_itself_alone() {
        let peer = PeerId::random();
        let info = PeerInfo {
            id: Some(peer.to_bytes().into()),
            addrs: [b"\xff".to_vec().into(), addresses()[0].to_vec().into()].into(),
        };
        let record = Record::read(&info.encode_to_vec().into()).unwrap();
        assert_eq!(
            (record.peer, record.addresses),
            (peer, addresses()[..1].to_vec())
        );
        let many = PeerInfo {
            id: Some(peer.to_bytes().into()),
            addrs: vec![addresses()[0].to_vec().into(); 1000],
        };
        let record = Record::read(&many.encode_to_vec().into()).unwrap();
        assert_eq!(record.addresses.len(), MAX_ADDRESSES);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_record_or_none(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let _ = Record::read(&bytes.into());
        }
    }
}
