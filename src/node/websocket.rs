//! Websockets over another transport, plain ones and such that a certificate secures.
//!
//! What runs over them secures itself as over tcp: the certificate is for those that cannot do
//! without, pages in browsers. Messages are put together and taken apart by a library; the
//! handshake, its bounds and the addresses are here.

mod address;
mod handshake;
mod stream;
mod tokio_io;

use std::{
    collections::HashMap,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either},
    io::{AsyncRead, AsyncWrite},
};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, ListenerId, TransportEvent},
};

use crate::wss::{Server, Wss};
use address::Form;
use handshake::{accept, connect};
pub(in crate::node) use stream::MAX_MESSAGE;
use stream::Websocket;

/// A connection as it is, or secured.
type Secured<T> = Either<T, Box<TlsStream<T>>>;

/// A transport of websockets over `T`.
pub(super) struct Websockets<T> {
    inner: T,
    wss: Wss,
    /// What is appended to the addresses of each listener.
    forms: HashMap<ListenerId, Form>,
}

impl<T> fmt::Debug for Websockets<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Websockets")
            .field("forms", &self.forms)
            .finish_non_exhaustive()
    }
}

impl<T> Websockets<T> {
    pub(super) fn new(inner: T, wss: Wss) -> Self {
        Self {
            inner,
            wss,
            forms: HashMap::new(),
        }
    }

    /// `socket`, an address of the transport below, as one of the listener's.
    fn told(&self, id: ListenerId, socket: Multiaddr) -> Multiaddr {
        match self.forms.get(&id) {
            Some(form) => form.of(socket),
            None => socket,
        }
    }

    /// What secures connections of a listener, if anything does.
    fn server(&self, id: ListenerId) -> Option<Server> {
        let secure = self.forms.get(&id).is_some_and(Form::is_secure);
        self.wss.server.clone().filter(|_| secure)
    }
}

impl<T> Transport for Websockets<T>
where
    T: Transport<Error = io::Error> + Unpin,
    T::Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = Websocket<Secured<T::Output>>;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Self::Output>>;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let listened = address::listened(&address);
        let served = |form: &Form| !form.is_secure() || self.wss.server.is_some();
        let Some((socket, form)) = listened.filter(|(_, form)| served(form)) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        self.inner.listen_on(id, socket)?;
        self.forms.insert(id, form);
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(dialed) = address::dialed(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let dial = self.inner.dial(dialed.socket, options)?;
        let client = self.wss.client.clone();
        let websocket = async move {
            let io = dial.await?;
            let io = match dialed.name {
                None => Either::Left(io),
                Some(name) => {
                    let secured = TlsConnector::from(client).connect(name, io).await?;
                    Either::Right(Box::new(secured.into()))
                }
            };
            connect(io, &dialed.host, &dialed.path).await
        };
        Ok(websocket.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll(cx)) {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => TransportEvent::NewAddress {
                listener_id,
                listen_addr: self.told(listener_id, listen_addr),
            },
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => TransportEvent::AddressExpired {
                listener_id,
                listen_addr: self.told(listener_id, listen_addr),
            },
            TransportEvent::ListenerError { listener_id, error } => {
                TransportEvent::ListenerError { listener_id, error }
            }
            TransportEvent::ListenerClosed {
                listener_id,
                reason,
            } => {
                self.forms.remove(&listener_id);
                TransportEvent::ListenerClosed {
                    listener_id,
                    reason,
                }
            }
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } => TransportEvent::Incoming {
                listener_id,
                upgrade: serve(upgrade, self.server(listener_id)).boxed(),
                local_addr: self.told(listener_id, local_addr),
                send_back_addr: self.told(listener_id, send_back_addr),
            },
        })
    }
}

/// Makes of an accepted connection a websocket, over tls if `server` is given.
async fn serve<T>(
    upgrade: impl Future<Output = io::Result<T>>,
    server: Option<Server>,
) -> io::Result<Websocket<Secured<T>>>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = upgrade.await?;
    let io = match server {
        None => Either::Left(io),
        Some(server) => {
            let acceptor = TlsAcceptor::from(server.current().await);
            Either::Right(Box::new(acceptor.accept(io).await?.into()))
        }
    };
    accept(io).await
}
