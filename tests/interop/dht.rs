//! One DHT of rp2pd and another kind of node: what either has, the other finds.
//!
//! Two groups of nodes, each around a node of the other kind, and a link between the two in
//! the middle: nothing is found but through both kinds.

use libp2p::{Multiaddr, PeerId};
use libtest_mimic::Trial;
use serde_json::Value;

use super::install;
use super::py_libp2p;
use super::suite::trial;
use crate::support::dht::{cid, public_key_record, rsa_key};
use crate::support::kad::{Kind, Message, ask, open};
use crate::support::{Daemon, Launch, PATIENCE, eventually};

const LISTEN: &str = "/ip4/127.0.0.1/tcp/0";

/// A node, whatever takes its requests.
#[derive(Debug)]
pub enum Node {
    Daemon(Box<Daemon>),
    /// Without a control socket.
    Python(Box<py_libp2p::Node>),
}

impl Node {
    pub fn server(launch: Launch) -> Result<Self, String> {
        let listen = format!("-hostAddrs={LISTEN}");
        let daemon = launch.args([&listen, "-dhtServer"]).try_spawn()?;
        Ok(Self::Daemon(Box::new(daemon)))
    }

    pub fn own() -> Result<Self, String> {
        Self::server(Launch::new())
    }

    pub fn go() -> Result<Self, String> {
        Self::server(Launch::new().binary(install::GO.as_ref()?.join("p2pd")))
    }

    pub fn hivemind() -> Result<Self, String> {
        Self::server(Launch::new().binary(install::HIVEMIND_P2PD.as_ref()?.join("p2pd")))
    }

    fn js() -> Result<Self, String> {
        let script = install::JS.as_ref()?.join("server.mjs");
        Self::server(Launch::new().binary("node").script(script))
    }

    fn python() -> Result<Self, String> {
        Ok(Self::Python(Box::new(py_libp2p::Node::kad(LISTEN)?)))
    }

    fn is_python(&self) -> bool {
        matches!(self, Self::Python(_))
    }

    pub fn id(&self) -> PeerId {
        match self {
            Self::Daemon(daemon) => daemon.peer_id(),
            Self::Python(node) => node.peer,
        }
    }

    pub fn addrs(&self) -> &[Multiaddr] {
        match self {
            Self::Daemon(daemon) => daemon.addrs(),
            Self::Python(node) => std::slice::from_ref(&node.addr),
        }
    }

    pub fn connect(&mut self, other: &Self) -> Result<(), String> {
        match self {
            Self::Daemon(daemon) => daemon.client().connect_to(other.id(), other.addrs()),
            Self::Python(node) => {
                let addr = other.addrs().first().ok_or("it listens nowhere")?;
                let addr = format!("{addr}/p2p/{}", other.id());
                node.ask(&["connect", &addr]).map(drop)
            }
        }
    }

    /// `cid` is the binary form; the DHT's key is the multihash at its end.
    pub fn provide(&mut self, cid: &[u8]) -> Result<(), String> {
        match self {
            Self::Daemon(daemon) => daemon.client().provide(cid),
            Self::Python(node) => match node.ask(&["provide", &hex(&cid[2..])])? {
                Value::Bool(true) => Ok(()),
                other => Err(other.to_string()),
            },
        }
    }

    pub fn providers(&mut self, cid: &[u8]) -> Result<Vec<PeerId>, String> {
        match self {
            Self::Daemon(daemon) => {
                let found = daemon.client().find_providers(cid, Some(20))?;
                Ok(found.into_iter().map(|(peer, _)| peer).collect())
            }
            Self::Python(node) => peers(&node.ask(&["providers", &hex(&cid[2..])])?),
        }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match self {
            Self::Daemon(daemon) => daemon.client().put_value(key, value),
            Self::Python(node) => match node.ask(&["put", &hex(key), &hex(value)])?.as_u64() {
                Some(1..) => Ok(()),
                stored => Err(format!("stored at {stored:?}")),
            },
        }
    }

    fn get(&mut self, key: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Self::Daemon(daemon) => daemon.client().get_value(key),
            Self::Python(node) => {
                let value = node.ask(&["get", &hex(key)])?;
                unhex(value.as_str().ok_or("not found")?)
            }
        }
    }

    fn find(&mut self, peer: PeerId) -> Result<Vec<Multiaddr>, String> {
        match self {
            Self::Daemon(daemon) => daemon.client().find_peer(peer).map(|(_, addrs)| addrs),
            Self::Python(node) => {
                let found = node.ask(&["find", &peer.to_base58()])?;
                let found = found.as_array().ok_or("no list")?;
                let addr = |text: &Value| {
                    let addr: Multiaddr = text.as_str()?.parse().ok()?;
                    // Some of them name the peer as well.
                    let named = libp2p::multiaddr::Protocol::P2p(peer);
                    Some(addr.iter().filter(|part| *part != named).collect())
                };
                Ok(found.iter().filter_map(addr).collect())
            }
        }
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

fn peers(list: &Value) -> Result<Vec<PeerId>, String> {
    let list = list.as_array().ok_or("no list")?;
    let peer = |text: &Value| text.as_str()?.parse().ok();
    Ok(list.iter().filter_map(peer).collect())
}

/// Starts one node.
pub type Start = fn() -> Result<Node, String>;
type Case = fn(Other) -> Result<(), String>;

/// The other kind of a network.
#[derive(Debug, Clone, Copy)]
struct Other {
    suite: &'static str,
    start: Start,
    /// Nodes of either kind.
    each: usize,
}

pub fn go() -> Vec<Trial> {
    trials(Other {
        suite: "dht_go_v0_9_2",
        start: Node::go,
        each: 3,
    })
}

pub fn hivemind() -> Vec<Trial> {
    trials(Other {
        suite: "dht_hivemind",
        start: Node::hivemind,
        each: 3,
    })
}

pub fn js() -> Vec<Trial> {
    trials(Other {
        suite: "dht_js",
        start: Node::js,
        // These take seconds to start.
        each: 2,
    })
}

pub fn py() -> Vec<Trial> {
    trials(Other {
        suite: "dht_py_libp2p",
        start: Node::python,
        each: 2,
    })
}

fn trials(other: Other) -> Vec<Trial> {
    let cases: [(&str, Case); 4] = [
        ("every_provide_is_found", provides),
        ("a_value_put_on_one_kind_is_read_on_each_other", values),
        ("peers_are_found_across_kinds", find_peers),
        ("each_is_in_the_others_tables", tables),
    ];
    cases
        .into_iter()
        .map(|(name, run)| trial(other.suite, name, move || run(other)))
        .collect()
}

/// rp2pd's nodes first. Each kind's further nodes hang on the other kind's first, and these
/// two on each other.
fn network(other: Other) -> Result<Vec<Node>, String> {
    let each = other.each;
    let mut nodes = Vec::new();
    for start in [Node::own, other.start] {
        for _ in 0..each {
            nodes.push(start()?);
        }
    }
    let (own, others) = nodes.split_at_mut(each);
    for at in 0..each {
        link(&mut own[at], &mut others[0])?;
        if at > 0 {
            link(&mut own[0], &mut others[at])?;
        }
    }
    // Both kinds admit a node to their tables in the background.
    let witness = witness()?;
    for (at, members) in [(0, each..2 * each), (each, 0..each)] {
        let wanted: Vec<_> = nodes[members].iter().map(Node::id).collect();
        let mut table = Vec::new();
        let met = eventually(PATIENCE, || {
            table = table_of(&witness, &nodes[at]).unwrap_or_default();
            wanted.iter().all(|peer| table.contains(peer))
        });
        if !met {
            return Err(format!("node {at} has {table:?}, not {wanted:?}"));
        }
    }
    Ok(nodes)
}

fn link(own: &mut Node, other: &mut Node) -> Result<(), String> {
    // py-libp2p's table takes whom it asks or is asked by, not whoever connects.
    if other.is_python() || own.id() < other.id() {
        other.connect(own)
    } else {
        own.connect(other)
    }
}

/// A daemon that only looks on.
fn witness() -> Result<Daemon, String> {
    Launch::new()
        .binary(env!("CARGO_BIN_EXE_rp2pd"))
        .try_spawn()
}

/// The peers that `node` tells when it is asked for somebody whom nobody knows: all it has,
/// in a network as small as this.
fn table_of(witness: &Daemon, node: &Node) -> Result<Vec<PeerId>, String> {
    witness.client().connect_to(node.id(), node.addrs())?;
    let mut pipe = open(witness, node.id())?;
    let question = Message::new(Kind::FindNode, &PeerId::random().to_bytes());
    let answer = ask(&mut pipe, &question).map_err(|error| error.to_string())?;
    let peer = |peer: &crate::support::kad::Peer| PeerId::from_bytes(&peer.id).ok();
    Ok(answer.closer.iter().filter_map(peer).collect())
}

fn provides(other: Other) -> Result<(), String> {
    let mut nodes = network(other)?;
    for provider in 0..nodes.len() {
        let cid = cid(format!("{} {provider}", other.suite).as_bytes());
        nodes[provider]
            .provide(&cid)
            .map_err(|error| format!("PROVIDE by {provider}: {error}"))?;
        let id = nodes[provider].id();
        for (seeker, node) in nodes.iter_mut().enumerate() {
            let mut found = Err(String::new());
            let it = |found: &Result<Vec<PeerId>, _>| {
                found.as_ref().is_ok_and(|found| found.contains(&id))
            };
            // js-libp2p announces without waiting for what it has sent to arrive.
            let soon = eventually(PATIENCE, || {
                found = node.providers(&cid);
                it(&found)
            });
            if !soon {
                return Err(format!("{seeker} finds {found:?}, not {provider}"));
            }
        }
    }
    Ok(())
}

fn values(other: Other) -> Result<(), String> {
    let mut nodes = network(other)?;
    for holder in 0..nodes.len() {
        let (key, value) = public_key_record(&rsa_key());
        nodes[holder]
            .put(&key, &value)
            .map_err(|error| format!("PUT_VALUE by {holder}: {error}"))?;
        for (reader, node) in nodes.iter_mut().enumerate() {
            let got = node.get(&key);
            if got.as_ref() != Ok(&value) {
                return Err(format!("{reader} reads {got:?} that {holder} has put"));
            }
        }
    }
    Ok(())
}

fn find_peers(other: Other) -> Result<(), String> {
    let mut nodes = network(other)?;
    for seeker in 0..nodes.len() {
        for wanted in 0..nodes.len() {
            if seeker == wanted {
                continue;
            }
            let (id, addrs) = (nodes[wanted].id(), nodes[wanted].addrs().to_vec());
            let found = nodes[seeker]
                .find(id)
                .map_err(|error| format!("{seeker} finds no {wanted}: {error}"))?;
            let known = found.iter().any(|addr| addrs.contains(addr));
            if !known {
                return Err(format!(
                    "{seeker} finds {wanted} at {found:?}, not {addrs:?}"
                ));
            }
        }
    }
    Ok(())
}

/// Lookups make every node meet every other.
fn tables(other: Other) -> Result<(), String> {
    let mut nodes = network(other)?;
    for seeker in 0..nodes.len() {
        for key in 0..nodes.len() {
            let id = nodes[key].id();
            let _ = nodes[seeker].find(id);
        }
    }
    let witness = witness()?;
    let kinds = [0..other.each, other.each..2 * other.each];
    for (at, node) in nodes.iter().enumerate() {
        for kind in &kinds {
            let wanted: Vec<_> = kind
                .clone()
                .filter(|member| *member != at)
                .map(|member| nodes[member].id())
                .collect();
            let mut table = Vec::new();
            let known = eventually(PATIENCE, || {
                table = table_of(&witness, node).unwrap_or_default();
                wanted.iter().any(|peer| table.contains(peer))
            });
            if !known {
                return Err(format!("{at} has {table:?} and none of {wanted:?}"));
            }
        }
    }
    Ok(())
}
