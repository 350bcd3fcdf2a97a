//! The DHT verbs of the control socket, and the keys and records that tests put into it.

use std::io;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ciborium::Value;
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use prost::Message;
use rp2pd::wire::pb::{
    DhtRequest, DhtResponse, Request, dht_request, dht_response, request, response,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::control::{parse, typed};
use super::{ControlClient, PATIENCE, eventually};

/// What every lookup says while there is nobody to ask.
pub const EMPTY_TABLE: &str = "failed to find any peer in table";
pub const NOT_FOUND: &str = "routing: not found";
pub const DEADLINE: &str = "context deadline exceeded";

/// A peer in an answer, with its addresses.
pub type Found = (PeerId, Vec<Multiaddr>);

/// A DHT request of this kind without its parameters.
#[must_use]
pub fn query(kind: dht_request::Type) -> DhtRequest {
    DhtRequest {
        r#type: Some(i64::from(kind as i32)),
        ..DhtRequest::default()
    }
}

/// The whole request around `query`.
#[must_use]
pub fn around(query: DhtRequest) -> Request {
    let mut request = typed(request::Type::Dht);
    request.dht = Some(query);
    request
}

/// The binary CID (version 1, raw) of `content`.
#[must_use]
pub fn cid(content: &[u8]) -> Vec<u8> {
    // Version, codec raw, sha2-256 and its length.
    let mut cid = vec![0x01, 0x55, 0x12, 0x20];
    cid.extend_from_slice(&Sha256::digest(content));
    cid
}

/// The record that publishes the public key of `keypair`: `/pk/<id>` and the key.
#[must_use]
pub fn public_key_record(keypair: &Keypair) -> (Vec<u8>, Vec<u8>) {
    let public = keypair.public();
    let key = [b"/pk/".as_slice(), &public.to_peer_id().to_bytes()].concat();
    (key, public.encode_protobuf())
}

/// The record of a fresh key. ECDSA ids do not hold their key, as those of RSA; making one
/// costs nothing.
#[must_use]
pub fn fresh_public_key_record() -> (Vec<u8>, Vec<u8>) {
    public_key_record(&Keypair::generate_ecdsa())
}

/// An RSA key as daemons have them. Its id does not hold it.
#[must_use]
pub fn rsa_key() -> Keypair {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("identity");
    let made = Command::new(env!("CARGO_BIN_EXE_rp2pd"))
        .args(["keygen", "-t", "rsa", "-b", "2048", "-f"])
        .arg(&path)
        .output()
        .expect("keygen");
    assert!(made.status.success(), "{made:?}");
    let bytes = std::fs::read(path).expect("the key");
    Keypair::from_protobuf_encoding(&bytes).expect("a key")
}

#[derive(Clone, PartialEq, prost::Message)]
struct IpnsEntry {
    #[prost(bytes = "vec", tag = "1")]
    value: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    signature_v1: Vec<u8>,
    #[prost(int32, optional, tag = "3")]
    validity_type: Option<i32>,
    #[prost(bytes = "vec", tag = "4")]
    validity: Vec<u8>,
    #[prost(uint64, optional, tag = "5")]
    sequence: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    ttl: Option<u64>,
    #[prost(bytes = "vec", tag = "8")]
    signature_v2: Vec<u8>,
    #[prost(bytes = "vec", tag = "9")]
    data: Vec<u8>,
}

/// An IPNS record of `keypair` (Ed25519) with this sequence number, good for a day: its key
/// and its bytes.
#[must_use]
pub fn ipns_record(keypair: &Keypair, value: &[u8], sequence: u64) -> (Vec<u8>, Vec<u8>) {
    const TTL: u64 = 60_000_000_000;
    let end = OffsetDateTime::from(SystemTime::now() + Duration::from_secs(86_400));
    let validity = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z",
        end.year(),
        u8::from(end.month()),
        end.day(),
        end.hour(),
        end.minute(),
        end.second(),
        end.nanosecond()
    )
    .into_bytes();
    // Shorter names first: the order in which canonical CBOR keeps a map.
    let map = Value::Map(vec![
        ("TTL".into(), TTL.into()),
        ("Value".into(), Value::Bytes(value.to_vec())),
        ("Sequence".into(), sequence.into()),
        ("Validity".into(), Value::Bytes(validity.clone())),
        ("ValidityType".into(), 0.into()),
    ]);
    let mut data = Vec::new();
    ciborium::into_writer(&map, &mut data).expect("write to memory");
    let sign = |parts: &[&[u8]]| keypair.sign(&parts.concat()).expect("sign");
    let entry = IpnsEntry {
        value: value.to_vec(),
        signature_v1: sign(&[value, &validity, b"0"]),
        validity_type: Some(0),
        signature_v2: sign(&[b"ipns-signature:", &data]),
        validity,
        sequence: Some(sequence),
        ttl: Some(TTL),
        data,
    };
    let id = keypair.public().to_peer_id().to_bytes();
    ([b"/ipns/".as_slice(), &id].concat(), entry.encode_to_vec())
}

impl ControlClient {
    /// A DHT verb that answers with one frame.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn dht(&mut self, query: DhtRequest) -> Result<Option<DhtResponse>, String> {
        self.ask(&around(query)).map(|response| response.dht)
    }

    /// A DHT verb that answers with a stream: everything between BEGIN and END.
    ///
    /// # Errors
    /// The ERROR text. Panics if the frames are not in that order.
    pub fn dht_stream(&mut self, query: DhtRequest) -> Result<Vec<DhtResponse>, String> {
        self.begin(query)?;
        let mut values = Vec::new();
        while let Some(value) = self.next_value().expect("a frame") {
            values.push(value);
        }
        Ok(values)
    }

    /// Asks for a stream and reads its BEGIN.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn begin(&mut self, query: DhtRequest) -> Result<(), String> {
        let begin = self.dht(query)?.expect("a dht part");
        assert_eq!(begin.r#type(), dht_response::Type::Begin);
        Ok(())
    }

    /// The next value of a stream that has begun, `None` at its END.
    ///
    /// # Errors
    /// I/O.
    pub fn next_value(&mut self) -> io::Result<Option<DhtResponse>> {
        let frame: DhtResponse = self.receive()?;
        match frame.r#type() {
            dht_response::Type::Value => Ok(Some(frame)),
            dht_response::Type::End => Ok(None),
            dht_response::Type::Begin => panic!("a second BEGIN"),
        }
    }

    /// # Errors
    /// The ERROR text.
    pub fn find_peer(&mut self, peer: PeerId) -> Result<Found, String> {
        let mut query = query(dht_request::Type::FindPeer);
        query.peer = Some(peer.to_bytes().into());
        let answer = self.dht(query)?.expect("a dht part");
        Ok(found(&answer))
    }

    /// # Errors
    /// The ERROR text.
    pub fn provide(&mut self, cid: &[u8]) -> Result<(), String> {
        let mut query = query(dht_request::Type::Provide);
        query.cid = Some(cid.to_vec().into());
        self.dht(query).map(drop)
    }

    /// # Errors
    /// The ERROR text.
    pub fn find_providers(&mut self, cid: &[u8], count: Option<i32>) -> Result<Vec<Found>, String> {
        let mut query = query(dht_request::Type::FindProviders);
        query.cid = Some(cid.to_vec().into());
        query.count = count;
        Ok(self.dht_stream(query)?.iter().map(found).collect())
    }

    /// # Errors
    /// The ERROR text.
    pub fn closest_peers(&mut self, key: &[u8]) -> Result<Vec<PeerId>, String> {
        let mut query = query(dht_request::Type::GetClosestPeers);
        query.key = Some(key.to_vec().into());
        let values = self.dht_stream(query)?;
        let peer = |value: &DhtResponse| PeerId::from_bytes(value.value()).expect("a peer id");
        Ok(values.iter().map(peer).collect())
    }

    /// The protobuf form of the key.
    ///
    /// # Errors
    /// The ERROR text.
    pub fn public_key(&mut self, peer: PeerId) -> Result<Vec<u8>, String> {
        let mut query = query(dht_request::Type::GetPublicKey);
        query.peer = Some(peer.to_bytes().into());
        Ok(self.dht(query)?.expect("a dht part").value().to_vec())
    }

    /// # Errors
    /// The ERROR text.
    pub fn get_value(&mut self, key: &[u8]) -> Result<Vec<u8>, String> {
        let mut query = query(dht_request::Type::GetValue);
        query.key = Some(key.to_vec().into());
        Ok(self.dht(query)?.expect("a dht part").value().to_vec())
    }

    /// # Errors
    /// The ERROR text.
    pub fn search_value(&mut self, key: &[u8]) -> Result<Vec<Vec<u8>>, String> {
        let mut query = query(dht_request::Type::SearchValue);
        query.key = Some(key.to_vec().into());
        let values = self.dht_stream(query)?;
        Ok(values.iter().map(|value| value.value().to_vec()).collect())
    }

    /// # Errors
    /// The ERROR text.
    pub fn put_value(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let mut query = query(dht_request::Type::PutValue);
        query.key = Some(key.to_vec().into());
        query.value = Some(value.to_vec().into());
        self.dht(query).map(drop)
    }

    /// Waits until a lookup from this daemon meets every one of `peers`.
    pub fn await_table(&mut self, peers: &[PeerId]) {
        for peer in peers {
            let mut seen = Ok(Vec::new());
            let met = eventually(PATIENCE, || {
                // Nobody is closer to this key than the peer itself.
                seen = self.closest_peers(&peer.to_bytes());
                assert_ne!(seen, Err("DHT not enabled".into()));
                seen.as_ref().is_ok_and(|seen| seen.contains(peer))
            });
            assert!(met, "in the table: {seen:?}, wanted: {peer}");
        }
    }
}

fn found(answer: &DhtResponse) -> Found {
    assert_eq!(answer.r#type(), dht_response::Type::Value);
    parse(answer.peer.as_ref().expect("a peer part"))
}
