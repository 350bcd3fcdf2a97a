//! Which shared sockets there are, and what is listened for on them.

use std::net::IpAddr;

use libp2p::{Multiaddr, core::transport::ListenerId, multiaddr::Protocol};
use parking_lot::RwLock;

/// A socket's address and what is listened for there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The part before the address, of link-local ones.
    zone: Option<String>,
    ip: IpAddr,
    port: u16,
    websocket: bool,
}

/// What may be spoken to a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    Plain,
    Websocket,
    Both,
}

impl Place {
    /// `None` if `address` is neither of tcp nor of a websocket.
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (zone, ip) = match parts.next()? {
            Protocol::Ip4(ip) => (None, ip.into()),
            Protocol::Ip6(ip) => (None, ip.into()),
            Protocol::Ip6zone(zone) => match parts.next()? {
                Protocol::Ip6(ip) => (Some(zone.into_owned()), ip.into()),
                _ => return None,
            },
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else {
            return None;
        };
        let websocket = match parts.next() {
            None => false,
            Some(Protocol::Ws(path)) if path == "/" => true,
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self {
            zone,
            ip,
            port,
            websocket,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The address of the socket, whatever is spoken to it.
    pub(super) fn socket(&self) -> Multiaddr {
        let zone = self.zone.iter();
        zone.map(|zone| Protocol::Ip6zone(zone.as_str().into()))
            .chain([self.ip.into(), Protocol::Tcp(self.port)])
            .collect()
    }

    /// The address as it was configured.
    fn address(&self) -> Multiaddr {
        self.spoken_at(&self.socket())
    }

    /// `socket` with what is listened for here.
    fn spoken_at(&self, socket: &Multiaddr) -> Multiaddr {
        match self.websocket {
            true => socket.clone().with(Protocol::Ws("/".into())),
            false => socket.clone(),
        }
    }

    /// Whether what comes to the socket of `other` may be meant for this.
    fn covers(&self, other: &Self) -> bool {
        let same = self.ip == other.ip && self.zone == other.zone;
        let wildcard = self.ip.is_unspecified() && self.ip.is_ipv4() == other.ip.is_ipv4();
        self.port == other.port && (same || wildcard)
    }
}

#[derive(Debug)]
struct Listener {
    id: ListenerId,
    place: Place,
    /// Whose socket it is.
    owner: ListenerId,
}

#[derive(Debug, Default)]
struct State {
    listeners: Vec<Listener>,
    /// The addresses that sockets have, with their owners.
    known: Vec<(ListenerId, Multiaddr)>,
}

impl State {
    fn socket(&self, place: &Place) -> Option<&Listener> {
        let owners = self.listeners.iter().filter(|one| one.id == one.owner);
        let mut owners = owners.filter(|one| one.place.covers(place));
        owners
            .clone()
            .find(|one| one.place.ip == place.ip)
            .or_else(|| owners.next())
    }

    /// The listeners on the socket of `owner` whose addresses come and go with it, and what
    /// `socket`, one of its addresses, is for each.
    fn told(&self, owner: ListenerId, socket: &Multiaddr) -> Vec<(ListenerId, Multiaddr)> {
        let here = self.listeners.iter().filter(|one| one.owner == owner);
        // A single address on a wildcard's socket was told at the beginning, and stays.
        let follow = here.filter(|one| one.id == owner || one.place.ip.is_unspecified());
        follow
            .map(|one| (one.id, one.place.spoken_at(socket)))
            .collect()
    }
}

/// The listeners on shared ports: at most one for each configured address.
#[derive(Debug, Default)]
pub(in crate::node) struct Listened(RwLock<State>);

impl Listened {
    /// Adds a listener on a socket that is there already. Its addresses so far; `None` if there is
    /// no such socket.
    pub(super) fn join(&self, id: ListenerId, place: &Place) -> Option<Vec<Multiaddr>> {
        let mut state = self.0.write();
        let owner = state.socket(place)?.id;
        let addresses = match place.ip.is_unspecified() {
            true => {
                let known = state.known.iter().filter(|(id, _)| *id == owner);
                known.map(|(_, socket)| place.spoken_at(socket)).collect()
            }
            false => vec![place.address()],
        };
        state.listeners.push(Listener {
            id,
            place: place.clone(),
            owner,
        });
        Some(addresses)
    }

    /// Adds a listener that has a socket of its own.
    pub(super) fn open(&self, id: ListenerId, place: Place) {
        self.0.write().listeners.push(Listener {
            id,
            place,
            owner: id,
        });
    }

    pub(super) fn owns(&self, id: ListenerId) -> bool {
        let state = self.0.read();
        state.listeners.iter().any(|one| one.owner == id)
    }

    /// The socket of `owner` has got an address. What its listeners have got by that.
    pub(super) fn appeared(
        &self,
        owner: ListenerId,
        socket: &Multiaddr,
    ) -> Vec<(ListenerId, Multiaddr)> {
        let mut state = self.0.write();
        let entry = (owner, socket.clone());
        if !state.known.contains(&entry) {
            state.known.push(entry);
        }
        state.told(owner, socket)
    }

    /// The socket of `owner` has lost an address. What its listeners have lost by that.
    pub(super) fn expired(
        &self,
        owner: ListenerId,
        socket: &Multiaddr,
    ) -> Vec<(ListenerId, Multiaddr)> {
        let mut state = self.0.write();
        state
            .known
            .retain(|known| *known != (owner, socket.clone()));
        state.told(owner, socket)
    }

    /// The socket of `owner` is closed. The others that were on it.
    pub(super) fn closed(&self, owner: ListenerId) -> Vec<ListenerId> {
        let mut state = self.0.write();
        state.known.retain(|(id, _)| *id != owner);
        let gone = state.listeners.extract_if(.., |one| one.owner == owner);
        gone.map(|one| one.id).filter(|id| *id != owner).collect()
    }

    /// Removes a listener without a socket of its own; whether there was one.
    pub(super) fn leave(&self, id: ListenerId) -> bool {
        let mut listeners = self.0.write();
        let listeners = &mut listeners.listeners;
        let before = listeners.len();
        listeners.retain(|one| one.id != id || one.owner == id);
        listeners.len() < before
    }

    /// What may be spoken to the socket at `local`; `None` if it is none of these.
    pub(super) fn spoken(&self, local: &Multiaddr) -> Option<Spoken> {
        let local = Place::of(local)?;
        let state = self.0.read();
        let here = state
            .listeners
            .iter()
            .filter(|one| one.place.covers(&local));
        let (mut plain, mut websocket) = (false, false);
        for one in here {
            plain |= !one.place.websocket;
            websocket |= one.place.websocket;
        }
        match (plain, websocket) {
            (true, true) => Some(Spoken::Both),
            (true, false) => Some(Spoken::Plain),
            (false, true) => Some(Spoken::Websocket),
            (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::of(&text.parse().unwrap()).unwrap()
    }

    fn addresses(told: Vec<(ListenerId, Multiaddr)>) -> Vec<(ListenerId, String)> {
        told.into_iter()
            .map(|(id, a)| (id, a.to_string()))
            .collect()
    }

    #[test]
    fn a_place_is_an_address_of_tcp_or_of_a_websocket() {
        for text in [
            "/ip4/1.2.3.4/tcp/5",
            "/ip4/1.2.3.4/tcp/5/ws",
            "/ip6zone/eth0/ip6/fe80::1/tcp/5/ws",
        ] {
            assert_eq!(place(text).address().to_string(), text);
        }
        for text in [
            "/ip4/1.2.3.4/udp/5/quic-v1",
            "/ip4/1.2.3.4/tcp/5/wss",
            "/ip4/1.2.3.4/tcp/5/ws/p2p-circuit",
            "/dns4/a/tcp/5",
        ] {
            assert_eq!(Place::of(&text.parse().unwrap()), None, "{text}");
        }
    }

    #[test]
    fn a_wildcards_socket_serves_single_addresses() {
        let listened = Listened::default();
        let [any, one] = [ListenerId::next(), ListenerId::next()];
        assert_eq!(listened.join(any, &place("/ip4/0.0.0.0/tcp/5")), None);
        listened.open(any, place("/ip4/0.0.0.0/tcp/5"));
        let local = "/ip4/127.0.0.1/tcp/5/ws";
        let joined = listened.join(one, &place(local)).unwrap();
        assert_eq!(joined, [local.parse().unwrap()]);
        let spoken = |text: &str| listened.spoken(&text.parse().unwrap());
        assert_eq!(spoken("/ip4/127.0.0.1/tcp/5"), Some(Spoken::Both));
        assert_eq!(spoken("/ip4/10.0.0.1/tcp/5"), Some(Spoken::Plain));
        assert_eq!(spoken("/ip4/127.0.0.1/tcp/6"), None);
        assert_eq!(spoken("/ip6/::1/tcp/5"), None);
        let loopback: Multiaddr = "/ip4/127.0.0.1/tcp/5".parse().unwrap();
        let told = addresses(listened.appeared(any, &loopback));
        assert_eq!(told, [(any, loopback.to_string())]);
        assert!(listened.owns(any) && !listened.owns(one));
        assert_eq!(listened.closed(any), [one]);
        assert_eq!(spoken("/ip4/127.0.0.1/tcp/5"), None);
    }

    #[test]
    fn two_wildcards_have_the_same_addresses() {
        let listened = Listened::default();
        let [ws, tcp] = [ListenerId::next(), ListenerId::next()];
        listened.open(ws, place("/ip4/0.0.0.0/tcp/5/ws"));
        let socket: Multiaddr = "/ip4/10.0.0.1/tcp/5".parse().unwrap();
        let told = addresses(listened.appeared(ws, &socket));
        assert_eq!(told, [(ws, format!("{socket}/ws"))]);
        let joined = listened.join(tcp, &place("/ip4/0.0.0.0/tcp/5"));
        assert_eq!(joined, Some(vec![socket.clone()]));
        let gone = addresses(listened.expired(ws, &socket));
        assert_eq!(
            gone,
            [(ws, format!("{socket}/ws")), (tcp, socket.to_string())]
        );
        assert!(listened.leave(tcp) && !listened.leave(tcp) && !listened.leave(ws));
        assert_eq!(listened.spoken(&socket), Some(Spoken::Websocket));
    }
}
