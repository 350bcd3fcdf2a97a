//! `rp2pd ping` and `probe`: whether a peer answers, and where.

use std::time::{Duration, Instant};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{
    super::{document::Document, table::Table},
    ANSWER, CommandError, agent, document, of_connection, round_trip,
};
use crate::{
    client::{Client, ClientError},
    telemetry::escaped,
    wire::{maddr::ControlAddr, pb},
};

/// Time to connect to a peer; a little more than the daemon is told.
const DIAL: Duration = Duration::from_secs(30);

/// Bytes of a ping.
const PING_SIZE: usize = 32;

/// What each peer serves for liveness checks.
const PING: &str = "/ipfs/ping/1.0.0";

/// What a peer is named by.
pub(super) struct Named {
    pub(super) peer: PeerId,
    pub(super) address: Option<Multiaddr>,
}

impl Named {
    pub(super) fn read(text: &str) -> Result<Self, CommandError> {
        if let Ok(peer) = text.parse() {
            return Ok(Self {
                peer,
                address: None,
            });
        }
        let wrong = || CommandError::Target(escaped(text));
        let address: Multiaddr = text.parse().map_err(|_| wrong())?;
        match address.iter().last() {
            Some(Protocol::P2p(peer)) => Ok(Self {
                peer,
                address: Some(address),
            }),
            _ => Err(wrong()),
        }
    }
}

/// Has the daemon connect to `peer`.
fn connect(addr: &ControlAddr, peer: PeerId, addresses: &[Multiaddr]) -> Result<(), ClientError> {
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::Connect).into()),
        connect: Some(pb::ConnectRequest {
            peer: Some(peer.to_bytes().into()),
            addrs: bytes(addresses),
            timeout: i64::try_from(DIAL.as_secs()).ok(),
        }),
        ..pb::Request::default()
    };
    let mut client = Client::connect(addr, ANSWER)?;
    client.ask(&request, DIAL + ANSWER).map(drop)
}

fn bytes(addresses: &[Multiaddr]) -> Vec<bytes::Bytes> {
    let addresses = addresses.iter();
    addresses.map(|address| address.to_vec().into()).collect()
}

/// Pings the peer that `target` names `count` times through the daemon at `addr`, and tells each
/// answer to `tell`. Works with any p2pd.
///
/// # Errors
/// [`CommandError`].
pub fn ping(
    addr: &ControlAddr,
    target: &str,
    count: u32,
    mut tell: impl FnMut(String),
) -> Result<(), CommandError> {
    let named = Named::read(target)?;
    connect(addr, named.peer, named.address.as_slice())?;
    let open = pb::Request {
        r#type: Some(i32::from(pb::request::Type::StreamOpen).into()),
        stream_open: Some(pb::StreamOpenRequest {
            peer: Some(named.peer.to_bytes().into()),
            proto: vec![PING.into()],
            timeout: i64::try_from(DIAL.as_secs()).ok(),
        }),
        ..pb::Request::default()
    };
    let mut client = Client::connect(addr, ANSWER)?;
    client.ask(&open, DIAL + ANSWER)?;
    let peer = named.peer;
    let mut answered = 0;
    for number in 1..=count {
        if number > 1 {
            std::thread::sleep(Duration::from_secs(1));
        }
        let sent: [u8; PING_SIZE] = rand::random();
        let begun = Instant::now();
        match client.echo(&sent, ANSWER) {
            Ok(came) if came == sent[..] => {
                answered += 1;
                let millis = begun.elapsed().as_secs_f64() * 1000.0;
                tell(format!("{peer}: ping {number}: {millis:.2} ms"));
            }
            Ok(_) => tell(format!("{peer}: ping {number}: other bytes came back")),
            Err(error) => {
                tell(format!("{peer}: ping {number}: {error}"));
                break;
            }
        }
    }
    match answered {
        0 => Err(CommandError::Silent(count)),
        _ => Ok(()),
    }
}

/// Has the daemon at `addr` dial each address that `targets` name, and those that it knows of the
/// peer, and tells what each answers; then connects, and tells what came of it and what identify
/// tells. The targets are peer ids and addresses of one peer; an address may leave the peer out.
///
/// # Errors
/// [`CommandError`]. That the peer cannot be reached is one, after what has been told.
pub fn probe(
    addr: &ControlAddr,
    targets: &[String],
    mut tell: impl FnMut(String),
) -> Result<(), CommandError> {
    let (named, addresses) = read_all(targets)?;
    let known = |peer: &PeerId, now: &Document| {
        let id = peer.to_string();
        now.peers.iter().find(|known| known.id == id).cloned()
    };
    let before = state(addr)?;
    let probed = probed(addr, named, &addresses)?;
    let answering = || probed.iter().filter_map(|one| one.peer.as_ref().ok());
    let peer = named.or_else(|| answering().next().copied());
    let mut table = Table::new(&["ADDRESS", "TIME", "ANSWER"]);
    for one in &probed {
        table.row(one.row(named));
    }
    table.text().lines().for_each(|line| tell(line.to_owned()));
    let peer = peer.ok_or(CommandError::Nobody)?;
    let fits = |one: &&Probed| one.peer.as_ref().ok() == Some(&peer);
    let addresses = match named {
        Some(_) => addresses,
        None => probed
            .iter()
            .filter(fits)
            .map(|one| one.address.clone())
            .collect(),
    };
    if known(&peer, &before).is_some() {
        tell(format!("{peer} is connected already"));
    } else {
        let begun = Instant::now();
        connect(addr, peer, &addresses)?;
        let millis = begun.elapsed().as_millis();
        tell(format!("{peer} is connected after {millis} ms"));
    }
    // What is told of a peer is up to a quarter of a second old.
    std::thread::sleep(Duration::from_millis(300));
    if let Some(known) = known(&peer, &state(addr)?) {
        for connection in &known.connections {
            tell(format!("connection  {}", of_connection(connection)));
        }
        tell(format!("agent       {}", agent(&known)));
        tell(format!("round trip  {}", round_trip(&known)));
    }
    for protocol in protocols(addr, peer)? {
        tell(format!("protocol    {}", escaped(&protocol)));
    }
    Ok(())
}

fn state(addr: &ControlAddr) -> Result<Document, CommandError> {
    serde_json::from_slice(&document(addr)?).map_err(CommandError::Document)
}

/// The one peer that `targets` name, if they do, and the addresses among them.
fn read_all(targets: &[String]) -> Result<(Option<PeerId>, Vec<Multiaddr>), CommandError> {
    let (mut named, mut addresses): (Option<PeerId>, _) = (None, Vec::new());
    for text in targets {
        let (peer, address) = match text.parse::<PeerId>() {
            Ok(peer) => (Some(peer), None),
            Err(_) => {
                let address: Result<Multiaddr, _> = text.parse();
                let address = address.map_err(|_| CommandError::Target(escaped(text)))?;
                let peer = match address.iter().last() {
                    Some(Protocol::P2p(peer)) => Some(peer),
                    _ => None,
                };
                (peer, Some(address))
            }
        };
        match (named, peer) {
            (Some(one), Some(other)) if one != other => {
                return Err(CommandError::TwoPeers(one.to_string(), other.to_string()));
            }
            _ => named = named.or(peer),
        }
        addresses.extend(address);
    }
    Ok((named, addresses))
}

/// What one address has answered.
struct Probed {
    address: Multiaddr,
    name: Option<Multiaddr>,
    time: Duration,
    peer: Result<PeerId, String>,
}

impl Probed {
    fn row(&self, named: Option<PeerId>) -> [String; 3] {
        let address = match &self.name {
            Some(name) => format!("{} ({})", self.address, escaped(&name.to_string())),
            None => escaped(&self.address.to_string()),
        };
        let answer = match &self.peer {
            Ok(peer) if named.is_some() => format!("answers as {peer}"),
            Ok(peer) => format!("answers, and is {peer}"),
            Err(reason) => escaped(reason),
        };
        let millis = self.time.as_secs_f64() * 1000.0;
        [address, format!("{millis:.1}ms"), answer]
    }
}

fn probed(
    addr: &ControlAddr,
    peer: Option<PeerId>,
    addresses: &[Multiaddr],
) -> Result<Vec<Probed>, CommandError> {
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::Probe).into()),
        probe: Some(pb::ProbeRequest {
            peer: peer.map(|peer| peer.to_bytes().into()),
            addrs: bytes(addresses),
            timeout: u64::try_from(DIAL.as_millis()).ok(),
        }),
        ..pb::Request::default()
    };
    let mut client = Client::connect(addr, ANSWER)?;
    let answer = match client.ask_own(&request, DIAL + ANSWER) {
        // CONNECT may find some in the DHT.
        Err(ClientError::Refused(reason)) if reason == "no addresses" => return Ok(Vec::new()),
        answer => answer?,
    };
    let broken = || ClientError::Unknown(addr.clone());
    let all = answer.probe.ok_or_else(broken)?.addrs;
    let read = |one: pb::ProbedAddress| {
        let address = |bytes: &[u8]| Multiaddr::try_from(bytes.to_vec()).ok();
        Some(Probed {
            address: address(&one.addr)?,
            name: one.name.and_then(|name| address(&name)),
            time: Duration::from_micros(one.micros),
            peer: match one.peer {
                Some(peer) => Ok(PeerId::from_bytes(&peer).ok()?),
                None => Err(one.error.unwrap_or_default()),
            },
        })
    };
    Ok(all.into_iter().filter_map(read).collect())
}

/// What identify says that `peer` speaks.
fn protocols(addr: &ControlAddr, peer: PeerId) -> Result<Vec<String>, ClientError> {
    let peerstore = pb::PeerstoreRequest {
        r#type: Some(i32::from(pb::peerstore_request::Type::GetProtocols).into()),
        id: Some(peer.to_bytes().into()),
        ..pb::PeerstoreRequest::default()
    };
    let request = pb::Request {
        r#type: Some(i32::from(pb::request::Type::PersistentConnUpgrade).into()),
        extension: vec![prost::Message::encode_to_vec(&peerstore).into()],
        ..pb::Request::default()
    };
    let answer = Client::connect(addr, ANSWER)?.ask(&request, ANSWER)?;
    let names = answer.peer_store.unwrap_or_default().protos;
    let text = |name: &bytes::Bytes| String::from_utf8_lossy(name).into_owned();
    Ok(names.iter().map(text).collect())
}
