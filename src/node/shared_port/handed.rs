//! Websockets on connections that another listener has accepted.

use std::{
    fmt, io,
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::future::{Ready, ready};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportEvent},
    },
    multiaddr::Protocol,
    tcp::tokio::TcpStream,
};
use parking_lot::Mutex;

use crate::node::{peer_socket::PeerSocket, readahead::ReadAhead};

/// The address that is listened on for the library's sake. Connections have addresses of their own.
fn anywhere() -> Multiaddr {
    Multiaddr::from(Ipv4Addr::UNSPECIFIED)
        .with(Protocol::Tcp(0))
        .with(Protocol::Ws("/".into()))
}

type Io = ReadAhead<PeerSocket>;
type Upgrade = <Boxed<(PeerId, StreamMuxerBox)> as Transport>::ListenerUpgrade;

struct Accepted {
    stream: TcpStream,
    local: Multiaddr,
    remote: Multiaddr,
}

/// A transport whose incoming connections are handed to it. It dials nothing.
#[derive(Clone, Default)]
pub(in crate::node) struct Handed {
    listener: Option<ListenerId>,
    next: Arc<Mutex<Option<Accepted>>>,
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handed").finish_non_exhaustive()
    }
}

impl Transport for Handed {
    type Output = Io;
    type Error = io::Error;
    type ListenerUpgrade = Ready<io::Result<Io>>;
    type Dial = Ready<io::Result<Io>>;

    fn listen_on(&mut self, id: ListenerId, _: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listener = Some(id);
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    /// Wakes nobody: it is polled when something has been handed to it.
    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let (Some(listener_id), Some(next)) = (self.listener, self.next.lock().take()) else {
            return Poll::Pending;
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id,
            upgrade: ready(Ok(ReadAhead::new(PeerSocket::new(next.stream)))),
            local_addr: next.local,
            send_back_addr: next.remote,
        })
    }
}

/// Secures websockets on connections that are there.
#[derive(Clone)]
pub(in crate::node) struct Websockets {
    handed: Handed,
    transport: Arc<Mutex<Boxed<(PeerId, StreamMuxerBox)>>>,
}

impl fmt::Debug for Websockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Websockets").finish_non_exhaustive()
    }
}

impl Websockets {
    /// `stack` is the websocket transport with its upgrades, over the transport that it is given.
    ///
    /// # Errors
    /// If `stack` does not listen.
    pub(in crate::node) fn new(
        stack: impl FnOnce(Handed) -> Boxed<(PeerId, StreamMuxerBox)>,
    ) -> Result<Self, TransportError<io::Error>> {
        let handed = Handed::default();
        let mut transport = stack(handed.clone());
        transport.listen_on(ListenerId::next(), anywhere())?;
        Ok(Self {
            handed,
            transport: Arc::new(Mutex::new(transport)),
        })
    }

    /// What makes of `stream`, between the two addresses, a connection of a peer.
    pub(super) fn secure(
        &self,
        stream: TcpStream,
        (local, remote): (Multiaddr, Multiaddr),
    ) -> io::Result<Upgrade> {
        let mut transport = self.transport.lock();
        *self.handed.next.lock() = Some(Accepted {
            stream,
            local,
            remote,
        });
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut *transport).poll(&mut cx) {
            Poll::Ready(TransportEvent::Incoming { upgrade, .. }) => Ok(upgrade),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}
