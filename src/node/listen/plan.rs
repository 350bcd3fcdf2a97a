//! Which sockets the configured addresses need.
//!
//! Every address is looked at before the first is listened on: what this daemon listens on itself
//! must not look like another process.

use std::net::{IpAddr, SocketAddr};

use libp2p::{Multiaddr, multiaddr::Protocol};
use socket2::{Domain, Type};

use super::{super::thin_waist::ThinWaist, ListenError};

/// A socket to be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket {
    /// Where, with an IP address in the place of a name.
    pub(super) address: Multiaddr,
    /// Unless the address is of a kind that no transport here takes.
    bound: Option<ThinWaist>,
}

/// Whether what comes for `other` comes to `wildcard` as well.
fn takes(wildcard: &ThinWaist, other: &ThinWaist) -> bool {
    let same = ThinWaist {
        ip: wildcard.ip,
        ..other.clone()
    };
    wildcard.port != 0
        && wildcard.ip.is_unspecified()
        && wildcard.ip.is_ipv4() == other.ip.is_ipv4()
        && *wildcard == same
}

/// Whether what comes for `address` comes to the socket of `wildcard`, an address that was asked for.
pub(super) fn covers(wildcard: &Multiaddr, address: &Multiaddr) -> bool {
    match (ThinWaist::of(wildcard), ThinWaist::of(address)) {
        (Some(wildcard), Some(address)) => takes(&wildcard, &address),
        _ => false,
    }
}

/// Whether one socket does for both: see [`super::super::shared_port`].
fn share(one: &ThinWaist, other: &ThinWaist) -> bool {
    let websocket = Multiaddr::from(Protocol::Ws("/".into()));
    let knows = |waist: &ThinWaist| waist.over.is_empty() || waist.over == websocket;
    !one.udp && one.over != other.over && knows(one) && knows(other)
}

impl Socket {
    fn new(address: Multiaddr) -> Self {
        Self {
            bound: ThinWaist::of(&address),
            address,
        }
    }

    /// The wildcard address, if it is one.
    pub(super) fn wildcard(&self) -> Option<IpAddr> {
        let bound = self.bound.as_ref()?;
        bound.ip.is_unspecified().then_some(bound.ip)
    }

    /// Whether `address` is of such a socket, on whatever IP address.
    pub(super) fn is_like(&self, address: &Multiaddr) -> bool {
        let (Some(own), Some(other)) = (&self.bound, ThinWaist::of(address)) else {
            return false;
        };
        let port = own.port == 0 || own.port == other.port;
        port && own.udp == other.udp && own.over == other.over
    }

    /// The same on `ip` instead of the wildcard address.
    pub(super) fn on(&self, ip: IpAddr) -> Multiaddr {
        std::iter::once(Protocol::from(ip))
            .chain(self.address.iter().skip(1))
            .collect()
    }
}

/// What is to be done for the configured addresses.
#[derive(Debug, Default)]
pub(in super::super) struct Plan {
    /// Sockets, each with the address as configured.
    pub(super) sockets: Vec<(Socket, Multiaddr)>,
    /// Addresses that need no socket of their own, since a wildcard's takes what comes for them.
    pub(super) aliases: Vec<Multiaddr>,
    pub(super) failures: Vec<ListenError>,
}

/// Resolves names and sorts out what needs a socket. The order of `wanted` does not matter.
pub(super) async fn make(wanted: &[Multiaddr]) -> Plan {
    let mut plan = Plan::default();
    let mut sockets: Vec<(Socket, &Multiaddr)> = Vec::new();
    for address in wanted {
        let socket = resolve(address).await.map(Socket::new);
        let socket = socket.and_then(|socket| probe(&socket).map(|()| socket));
        match socket {
            Ok(socket) => sockets.push((socket, address)),
            Err(reason) => plan.fail(address, reason),
        }
    }
    let covers = |wildcard: &Socket, socket: &Socket| match (&wildcard.bound, &socket.bound) {
        (Some(wildcard), Some(socket)) => wildcard != socket && takes(wildcard, socket),
        _ => false,
    };
    for (index, (socket, address)) in sockets.iter().enumerate() {
        let fixed = socket.bound.as_ref().is_some_and(|bound| bound.port != 0);
        if sockets.iter().any(|(other, _)| covers(other, socket)) {
            plan.aliases.push(socket.address.clone());
            continue;
        }
        let taken = sockets[..index].iter().find(|(other, _)| {
            let (Some(other), Some(socket)) = (&other.bound, &socket.bound) else {
                return false;
            };
            let same = (other.ip, other.port, other.udp) == (socket.ip, socket.port, socket.udp);
            fixed && same && !share(other, socket)
        });
        match taken {
            None => plan.sockets.push((socket.clone(), (*address).clone())),
            // Named twice.
            Some((other, _)) if other == socket => {}
            Some((_, other)) => {
                plan.fail(
                    address,
                    format!("the port is taken by {other}: choose another"),
                );
            }
        }
    }
    plan
}

impl Plan {
    /// How many addresses there are.
    pub(in super::super) fn len(&self) -> usize {
        self.sockets.len() + self.aliases.len()
    }

    fn fail(&mut self, address: &Multiaddr, reason: String) {
        self.failures.push(ListenError {
            address: address.clone(),
            reason,
        });
    }
}

/// The library listens on IP addresses only; Go resolves a name first.
async fn resolve(address: &Multiaddr) -> Result<Multiaddr, String> {
    let (name, wanted): (String, fn(&SocketAddr) -> bool) = match address.iter().next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), SocketAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), SocketAddr::is_ipv6),
        _ => return Ok(address.clone()),
    };
    let found = tokio::net::lookup_host((name.as_str(), 0))
        .await
        .map_err(|error| format!("lookup {name}: {error}"))?
        .find(wanted)
        .ok_or_else(|| format!("lookup {name}: no such host"))?;
    Ok(std::iter::once(Protocol::from(found.ip()))
        .chain(address.iter().skip(1))
        .collect())
}

/// The tcp transport shares ports with other processes that do so too; two daemons on one
/// port would each get half of the connections.
fn probe(socket: &Socket) -> Result<(), String> {
    let Some(ThinWaist { ip, port, udp, .. }) = socket.bound else {
        return Ok(());
    };
    let network = match (udp, ip) {
        (false, IpAddr::V4(_)) => "tcp4",
        (false, IpAddr::V6(_)) => "tcp6",
        (true, IpAddr::V4(_)) => "udp4",
        (true, IpAddr::V6(_)) => "udp6",
    };
    let address = SocketAddr::new(ip, port);
    bind(address, udp).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        format!("listen {network} {address}: bind: {reason}")
    })
}

/// Binds for a moment. An IPv6 socket is for IPv6 alone, as the transports' are.
fn bind(address: SocketAddr, udp: bool) -> std::io::Result<()> {
    let kind = if udp { Type::DGRAM } else { Type::STREAM };
    let socket = socket2::Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if !udp {
        // Connections of a daemon that has just ended are no listener.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if !udp {
        // With the option above only this finds another listener.
        socket.listen(1)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(wanted: &[&str]) -> (Vec<String>, Vec<String>, usize) {
        let wanted: Vec<Multiaddr> = wanted.iter().map(|text| text.parse().unwrap()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let plan = runtime.block_on(make(&wanted));
        let mut sockets: Vec<_> = plan
            .sockets
            .iter()
            .map(|(socket, _)| socket.address.to_string())
            .collect();
        sockets.sort();
        let aliases = plan.aliases.iter().map(ToString::to_string).collect();
        (sockets, aliases, plan.failures.len())
    }

    /// A port that was free a moment ago.
    fn port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    }

    #[test]
    fn a_wildcard_covers_the_addresses_of_its_port_in_any_order() {
        let port = port();
        for over in ["tcp", "tcp/ws", "udp/quic-v1"] {
            let (network, over) = over.split_once('/').unwrap_or((over, ""));
            let suffix = if over.is_empty() {
                format!("/{network}/{port}")
            } else {
                format!("/{network}/{port}/{over}")
            };
            let (any, one) = (
                format!("/ip4/0.0.0.0{suffix}"),
                format!("/ip4/127.0.0.1{suffix}"),
            );
            for wanted in [[&*any, &*one], [&*one, &*any]] {
                let expected = (vec![any.clone()], vec![one.clone()], 0);
                assert_eq!(planned(&wanted), expected);
            }
        }
    }

    #[test]
    fn what_differs_has_a_socket_of_its_own() {
        let port = port();
        let of = |text: &str| text.replace('P', &port.to_string());
        let (four, six) = (of("/ip4/0.0.0.0/tcp/P"), of("/ip6/::/tcp/P"));
        let local = of("/ip4/127.0.0.1/tcp/P/ws");
        let (sockets, aliases, failures) = planned(&[&four, &local]);
        assert_eq!((sockets.len(), aliases.len(), failures), (2, 0, 0));
        if bind(SocketAddr::new("::".parse().unwrap(), port), false).is_ok() {
            let (sockets, aliases, failures) = planned(&[&four, &six]);
            assert_eq!((sockets.len(), aliases.len(), failures), (2, 0, 0));
        }
        let any = "/ip4/0.0.0.0/tcp/0";
        let (sockets, aliases, failures) = planned(&[any, any, "/ip4/127.0.0.1/tcp/0"]);
        assert_eq!((sockets.len(), aliases.len(), failures), (3, 0, 0));
    }

    #[test]
    fn one_socket_is_not_listened_on_twice() {
        let port = port();
        let over = |over: &str| format!("/ip4/127.0.0.1/tcp/{port}{over}");
        let (tcp, ws, wss) = (over(""), over("/ws"), over("/wss"));
        assert_eq!(planned(&[&tcp, &tcp]), (vec![tcp.clone()], vec![], 0));
        // These two share it.
        assert_eq!(planned(&[&ws, &tcp]), (vec![tcp.clone(), ws], vec![], 0));
        assert_eq!(planned(&[&tcp, &wss]), (vec![tcp.clone()], vec![], 1));
        let other = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert_eq!(planned(&[&tcp]), (vec![], vec![], 1));
        drop(other);
    }
}
