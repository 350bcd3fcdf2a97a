//! Link-local addresses of IPv6, which mean something on one network interface alone:
//! `/ip6zone/<interface>/ip6/fe80::1/tcp/4001`.
//!
//! The library's tcp transport drops the zone, and the system then refuses the address. These
//! addresses are listened on and dialed here, for its websockets as well; all others are passed on.
//! Its quic transport makes its own sockets.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Ready, ready},
};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
    multiaddr::Protocol,
    tcp::tokio::TcpStream,
};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use socket2::{Domain, Socket, Type};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Sleep, sleep},
};

use crate::descriptors::is_shortage;

/// Connections that wait to be accepted (the library's own value).
const BACKLOG: i32 = 1024;

/// Time until the next try after an accept has failed (the library's own value).
const PAUSE: Duration = Duration::from_millis(100);

type Upgrade = Ready<io::Result<TcpStream>>;
type Event = TransportEvent<Upgrade, io::Error>;

/// An address with a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Zone {
    name: String,
    ip: Ipv6Addr,
    port: u16,
}

impl Zone {
    /// None if `address` is of another kind.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let zone = match (parts.next()?, parts.next()?, parts.next()?) {
            (Protocol::Ip6zone(name), Protocol::Ip6(ip), Protocol::Tcp(port)) => Self {
                name: name.into_owned(),
                ip,
                port,
            },
            _ => return None,
        };
        let ends = matches!(parts.next(), None | Some(Protocol::P2p(_)));
        (ends && parts.next().is_none()).then_some(zone)
    }

    fn address(&self, ip: Ipv6Addr, port: u16) -> Multiaddr {
        Multiaddr::from(Protocol::Ip6zone(self.name.as_str().into()))
            .with(Protocol::Ip6(ip))
            .with(Protocol::Tcp(port))
    }

    /// As the system takes it. The zone is the name of an interface, or its number.
    fn socket_addr(&self) -> io::Result<SocketAddrV6> {
        let number = match self.name.parse() {
            Ok(number) => number,
            Err(_) => {
                // Any socket does.
                let any = socket(AddressFamily::INET6, SocketType::DGRAM, None)?;
                name_to_index(any, &self.name)?
            }
        };
        Ok(SocketAddrV6::new(self.ip, self.port, 0, number))
    }
}

struct Listener {
    id: ListenerId,
    zone: Zone,
    socket: TcpListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    fn open(id: ListenerId, zone: Zone) -> io::Result<Self> {
        let address = SocketAddr::V6(zone.socket_addr()?);
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.set_only_v6(true)?;
        // Connections of a daemon that has just ended are no listener.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            id,
            zone,
            socket: TcpListener::from_std(socket.into())?,
            pause: None,
        })
    }

    fn local(&self) -> Multiaddr {
        let port = self.socket.local_addr().map_or(0, |local| local.port());
        self.zone.address(self.zone.ip, port)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let accepted = std::task::ready!(self.socket.poll_accept(cx));
        let (stream, remote) = match accepted.and_then(|(stream, remote)| {
            stream.set_nodelay(true)?;
            Ok((stream, remote))
        }) {
            Ok(accepted) => accepted,
            Err(error) => {
                // An error that concerns one connection delays no other.
                self.pause = is_shortage(&error).then(|| Box::pin(sleep(PAUSE)));
                return Poll::Ready(TransportEvent::ListenerError {
                    listener_id: self.id,
                    error,
                });
            }
        };
        let ip = match remote {
            SocketAddr::V6(remote) => *remote.ip(),
            SocketAddr::V4(remote) => remote.ip().to_ipv6_mapped(),
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: ready(Ok(TcpStream(stream))),
            local_addr: self.local(),
            send_back_addr: self.zone.address(ip, remote.port()),
        })
    }
}

/// Tcp over `inner`, with zones.
pub(super) struct Zoned<T> {
    inner: T,
    listeners: Vec<Listener>,
    events: VecDeque<Event>,
}

impl<T> fmt::Debug for Zoned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zoned")
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

impl<T> Zoned<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            listeners: Vec::new(),
            events: VecDeque::new(),
        }
    }
}

impl<T> Transport for Zoned<T>
where
    T: Transport<Output = TcpStream, Error = io::Error, ListenerUpgrade = Upgrade> + Unpin,
    T::Dial: Send + 'static,
{
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = BoxFuture<'static, io::Result<TcpStream>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(zone) = Zone::of(&address) else {
            return self.inner.listen_on(id, address);
        };
        let listener = Listener::open(id, zone).map_err(TransportError::Other)?;
        self.events.push_back(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr: listener.local(),
        });
        self.listeners.push(listener);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let Some(at) = self.listeners.iter().position(|own| own.id == id) else {
            return self.inner.remove_listener(id);
        };
        let gone = self.listeners.swap_remove(at);
        self.events.push_back(TransportEvent::AddressExpired {
            listener_id: id,
            listen_addr: gone.local(),
        });
        self.events.push_back(TransportEvent::ListenerClosed {
            listener_id: id,
            reason: Ok(()),
        });
        true
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(zone) = Zone::of(&address) else {
            return Ok(self.inner.dial(address, options)?.boxed());
        };
        if zone.port == 0 || zone.ip.is_unspecified() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        Ok(async move {
            let remote = zone.socket_addr()?;
            let stream = TcpSocket::new_v6()?.connect(remote.into()).await?;
            stream.set_nodelay(true)?;
            Ok(TcpStream(stream))
        }
        .boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        for listener in &mut self.listeners {
            if let Poll::Ready(event) = listener.poll(cx) {
                return Poll::Ready(event);
            }
        }
        Pin::new(&mut self.inner).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_told_from_other_addresses() {
        let zone = |text: &str| Zone::of(&text.parse().unwrap());
        let found = zone("/ip6zone/eth0/ip6/fe80::1/tcp/1").unwrap();
        assert_eq!(
            (found.name.as_str(), found.port, found.ip.segments()[0]),
            ("eth0", 1, 0xfe80)
        );
        let named = format!(
            "/ip6zone/eth0/ip6/fe80::1/tcp/1/p2p/{}",
            libp2p::PeerId::random()
        );
        assert_eq!(zone(&named), Some(found));
        for other in [
            "/ip6/fe80::1/tcp/1",
            "/ip6zone/eth0/ip6/fe80::1/udp/1/quic-v1",
            "/ip6zone/eth0/ip6/fe80::1/tcp/1/ws",
            "/ip4/1.2.3.4/tcp/1/ip6zone/eth0/ip6/fe80::1/tcp/1",
        ] {
            assert_eq!(zone(other), None, "{other}");
        }
    }

    #[test]
    fn a_zone_is_an_interface_or_a_number() {
        let zone = |name: &str| Zone {
            name: name.to_owned(),
            ip: Ipv6Addr::LOCALHOST,
            port: 1,
        };
        assert_eq!(zone("7").socket_addr().unwrap().scope_id(), 7);
        assert_ne!(zone("lo").socket_addr().unwrap().scope_id(), 0);
        assert!(zone("none such").socket_addr().is_err());
    }
}
