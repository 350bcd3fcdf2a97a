//! The messages, in the forms that other implementations read.
//!
//! js-libp2p and rust-libp2p look for `dnsaddr=` in the strings of TXT records. py-libp2p takes a
//! service as DNS-SD has it: an instance below the service with SRV, A and TXT, of whose strings it
//! keeps one for each key, so that further addresses are told as `dnsaddr2=` and so on besides.

use std::net::Ipv4Addr;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, PTR, SRV, TXT},
    },
};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use sha2::{Digest as _, Sha256};

use crate::{
    fixed_limits::fixed_limit,
    node::{Node, address_filter::Scope},
};

const SERVICE: &str = "_p2p._udp.local.";

/// How long others may remember an answer, in seconds.
const TTL: u32 = 120;

/// Addresses told: so many, each twice, fit into one packet.
const MAX_TOLD: usize = 5;

/// Longest string of a TXT record.
const MAX_STRING: usize = 255;

/// Addresses taken from one packet.
const MAX_HEARD: usize = 32;
fixed_limit!("mDNS: addresses taken from one packet", MAX_HEARD);

/// What this node tells of itself.
pub(super) struct Own {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
}

impl Own {
    /// As `node` is now. Loopback and circuits are of no use on a segment.
    pub(super) fn of(node: &Node) -> Self {
        let addresses = node.addresses();
        let useful = addresses.iter().filter(|address| {
            let host = Scope::of_address(address);
            let relayed = address.iter().any(|part| part == Protocol::P2pCircuit);
            !relayed && !matches!(host, Scope::Loopback | Scope::Nowhere)
        });
        Self {
            peer: node.peer_id(),
            addresses: useful.take(MAX_TOLD).cloned().collect(),
        }
    }

    /// The instance's label: the same for as long as the peer id, and short enough for a label.
    fn label(&self) -> String {
        let digest = Sha256::digest(self.peer.to_bytes());
        let hex = digest.iter().take(16).map(|byte| format!("{byte:02x}"));
        hex.collect()
    }

    fn strings(&self) -> Vec<String> {
        let texts = self.addresses.iter().map(|address| {
            let address = address.clone().with(Protocol::P2p(self.peer));
            address.to_string()
        });
        let texts: Vec<_> = texts.collect();
        let first = texts.iter().map(|text| format!("dnsaddr={text}"));
        let further = texts.iter().zip(1..).skip(1);
        let further = further.map(|(text, number)| format!("dnsaddr{number}={text}"));
        first
            .chain(further)
            .filter(|string| string.len() <= MAX_STRING)
            .collect()
    }
}

/// What a packet says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody looks for peers, or for this one.
    Question,
    /// Where peers are.
    Peers(Vec<(PeerId, Multiaddr)>),
    Nothing,
}

fn encode(message: &Message) -> Option<Vec<u8>> {
    message.to_vec().ok()
}

/// Who is there?
pub(super) fn question() -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    if let Ok(service) = Name::from_ascii(SERVICE) {
        message.add_query(Query::query(service, RecordType::PTR));
    }
    encode(&message).unwrap_or_default()
}

/// What this node tells; nothing if it has no address.
pub(super) fn answer(own: &Own) -> Option<Vec<u8>> {
    let label = own.label();
    let service = Name::from_ascii(SERVICE).ok()?;
    let instance = Name::from_ascii(format!("{label}.{SERVICE}")).ok()?;
    let host = Name::from_ascii(format!("{label}.local.")).ok()?;
    let strings = own.strings();
    if strings.is_empty() {
        return None;
    }
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.authoritative = true;
    let pointer = RData::PTR(PTR(instance.clone()));
    message.add_answer(Record::from_rdata(service, TTL, pointer));
    let text = RData::TXT(TXT::new(strings));
    message.add_additional(Record::from_rdata(instance.clone(), TTL, text));
    let sockets: Vec<_> = own.addresses.iter().filter_map(socket).collect();
    let port = sockets.first().map_or(0, |(_, port)| *port);
    let service = RData::SRV(SRV::new(0, 0, port, host.clone()));
    message.add_additional(Record::from_rdata(instance, TTL, service));
    let mut hosts: Vec<_> = sockets.into_iter().map(|(ip, _)| ip).collect();
    hosts.dedup();
    for ip in hosts {
        message.add_additional(Record::from_rdata(host.clone(), TTL, RData::A(A(ip))));
    }
    encode(&message)
}

fn socket(address: &Multiaddr) -> Option<(Ipv4Addr, u16)> {
    let mut parts = address.iter();
    match (parts.next()?, parts.next()?) {
        (Protocol::Ip4(ip), Protocol::Tcp(port) | Protocol::Udp(port)) => Some((ip, port)),
        _ => None,
    }
}

/// Reads a packet.
pub(super) fn hear(packet: &[u8], own: &Own) -> Heard {
    let Ok(message) = Message::from_vec(packet) else {
        return Heard::Nothing;
    };
    if message.metadata.message_type == MessageType::Query {
        let label = own.label();
        let concerns = |query: &Query| {
            let name = query.name().to_ascii().to_ascii_lowercase();
            let name = name.trim_end_matches('.');
            name == SERVICE.trim_end_matches('.') || name.split('.').next() == Some(&label)
        };
        return match message.queries.iter().any(concerns) {
            true => Heard::Question,
            false => Heard::Nothing,
        };
    }
    let records = message.answers.iter().chain(&message.additionals);
    let strings = records.filter_map(|record| match &record.data {
        RData::TXT(text) => Some(text.txt_data.iter()),
        _ => None,
    });
    let mut peers: Vec<(PeerId, Multiaddr)> = Vec::new();
    for found in strings.flatten().filter_map(|string| address(string)) {
        if peers.len() < MAX_HEARD && !peers.contains(&found) {
            peers.push(found);
        }
    }
    match peers.is_empty() {
        true => Heard::Nothing,
        false => Heard::Peers(peers),
    }
}

/// `dnsaddr=` or `dnsaddr2=` and so on, then an address that ends with a peer.
fn address(string: &[u8]) -> Option<(PeerId, Multiaddr)> {
    let text = std::str::from_utf8(string).ok()?;
    let (key, address) = text.split_once('=')?;
    let number = key.strip_prefix("dnsaddr")?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut address: Multiaddr = address.parse().ok()?;
    match address.pop()? {
        Protocol::P2p(peer) if !address.is_empty() => Some((peer, address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(addresses: &[&str]) -> Own {
        Own {
            peer: PeerId::random(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn what_one_tells_another_hears() {
        let addresses = ["/ip4/10.0.0.2/tcp/4001", "/ip4/10.0.0.2/udp/4001/quic-v1"];
        let (teller, listener) = (own(&addresses), own(&[]));
        let told = answer(&teller).unwrap();
        let expected = teller.addresses.iter().map(|a| (teller.peer, a.clone()));
        assert_eq!(hear(&told, &listener), Heard::Peers(expected.collect()));
        assert!(told.len() < 1400);
        assert_eq!(answer(&listener), None);
    }

    #[test]
    fn questions_are_those_for_the_service_and_for_this_peer() {
        let own = own(&[]);
        assert_eq!(hear(&question(), &own), Heard::Question);
        let ask = |name: &str, kind| {
            let mut message = Message::new(0, MessageType::Query, OpCode::Query);
            message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
            hear(&message.to_vec().unwrap(), &own)
        };
        let instance = format!("{}.{SERVICE}", own.label());
        assert_eq!(ask(&instance, RecordType::SRV), Heard::Question);
        assert_eq!(ask("_http._tcp.local.", RecordType::PTR), Heard::Nothing);
    }

    #[test]
    fn strings_that_are_no_addresses_of_peers_are_left_out() {
        let peer = PeerId::random();
        let good = format!("dnsaddr3=/ip4/10.0.0.3/tcp/1/p2p/{peer}");
        let expected = "/ip4/10.0.0.3/tcp/1".parse().unwrap();
        assert_eq!(address(good.as_bytes()), Some((peer, expected)));
        for bad in [
            "dnsaddr=/ip4/10.0.0.3/tcp/1".to_owned(),
            format!("dnsaddr=/p2p/{peer}"),
            format!("dnsaddrx=/ip4/10.0.0.3/tcp/1/p2p/{peer}"),
            "dnsaddr=".to_owned(),
            "dnsaddr".to_owned(),
        ] {
            assert_eq!(address(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_heard_or_not(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let _ = hear(&bytes, &own(&[]));
        }
    }
}
