//! The nine DHT requests through a real control socket: exact frames, exact texts
//! (COMPATIBILITY.md 4.15).

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod malformed;
mod restart;
mod two;

use std::slice::from_ref;

use libp2p::PeerId;
use libp2p::identity::Keypair;
use rp2pd::wire::pb::{DhtResponse, PeerInfo, Response, dht_response, response};

use support::{ControlClient, Daemon, raw};

/// Types of requests.
mod verb {
    pub const FIND_PEER: i64 = 0;
    pub const FIND_PEERS_CONNECTED_TO_PEER: i64 = 1;
    pub const FIND_PROVIDERS: i64 = 2;
    pub const GET_CLOSEST_PEERS: i64 = 3;
    pub const GET_PUBLIC_KEY: i64 = 4;
    pub const GET_VALUE: i64 = 5;
    pub const SEARCH_VALUE: i64 = 6;
    pub const PUT_VALUE: i64 = 7;
    pub const PROVIDE: i64 = 8;
}

/// Numbers of fields.
mod field {
    pub const PEER: u64 = 2;
    pub const CID: u64 = 3;
    pub const KEY: u64 = 4;
    pub const VALUE: u64 = 5;
    pub const COUNT: u64 = 6;
    pub const TIMEOUT: u64 = 7;
}

/// A DHT server.
fn node() -> Daemon {
    Daemon::spawn(&["-dhtServer", "-hostAddrs=/ip4/127.0.0.1/tcp/0"])
}

/// A DHT request with `fields`.
fn dht(verb: i64, fields: &[Vec<u8>]) -> Vec<u8> {
    let body = [raw::int(1, verb), fields.concat()].concat();
    [raw::int(1, 4), raw::bytes(5, &body)].concat()
}

fn send(client: &mut ControlClient, verb: i64, fields: &[Vec<u8>]) {
    let request = raw::frame(&dht(verb, fields));
    client.send_raw(&request).expect("send");
}

/// Sends a request and returns its answer, or the text of the ERROR.
fn ask(client: &mut ControlClient, verb: i64, fields: &[Vec<u8>]) -> Result<Response, String> {
    send(client, verb, fields);
    answer(client)
}

fn answer(client: &mut ControlClient) -> Result<Response, String> {
    let answer: Response = client.receive().expect("an answer");
    match answer.r#type() {
        response::Type::Ok => Ok(answer),
        response::Type::Error => Err(answer.error.expect("an error part").msg),
    }
}

/// Sends a request that must fail and returns the text of the ERROR.
fn refusal(client: &mut ControlClient, verb: i64, fields: &[Vec<u8>]) -> String {
    ask(client, verb, fields).expect_err("an ERROR")
}

/// Sends a request and returns the frames between BEGIN and END.
fn stream(
    client: &mut ControlClient,
    verb: i64,
    fields: &[Vec<u8>],
) -> Result<Vec<DhtResponse>, String> {
    send(client, verb, fields);
    let begin = answer(client)?;
    assert_eq!(
        begin,
        Response {
            dht: Some(typed(dht_response::Type::Begin)),
            ..Response::default()
        }
    );
    let mut values = Vec::new();
    loop {
        let frame: DhtResponse = client.receive().expect("a frame");
        if frame == typed(dht_response::Type::End) {
            return Ok(values);
        }
        assert_eq!(frame.r#type(), dht_response::Type::Value, "{frame:?}");
        values.push(frame);
    }
}

fn typed(kind: dht_response::Type) -> DhtResponse {
    DhtResponse {
        r#type: kind.into(),
        ..DhtResponse::default()
    }
}

/// The value of an answer, which must contain nothing else.
fn value(answer: Response) -> Vec<u8> {
    let dht = answer.dht.expect("a dht part");
    assert_eq!(dht.r#type(), dht_response::Type::Value);
    assert_eq!(dht.peer, None);
    dht.value.expect("a value").to_vec()
}

fn peer_of(info: &PeerInfo) -> PeerId {
    PeerId::from_bytes(&info.id).expect("a peer id")
}

/// A CID of version 1, codec raw, with the identity hash of `content`.
fn cid(content: &str) -> Vec<u8> {
    let mut cid = vec![
        1,
        0x55,
        0,
        u8::try_from(content.len()).expect("a short text"),
    ];
    cid.extend(content.bytes());
    cid
}

/// The `/pk/` record of a peer whose id is a hash of its key.
fn record() -> (Vec<u8>, Vec<u8>) {
    let public = Keypair::generate_ecdsa().public();
    let key = [b"/pk/", &public.to_peer_id().to_bytes()[..]].concat();
    (key, public.encode_protobuf())
}

/// Asserts that the connection still accepts requests.
fn assert_open(client: &mut ControlClient) {
    let _ = client.identify();
}
