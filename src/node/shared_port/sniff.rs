//! What a connection to a shared port speaks, by its first byte.

use std::{
    cell::Cell,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either},
};
use libp2p::{Transport, core::transport::TransportEvent, tcp::tokio::TcpStream};

use super::listened::{Listened, Spoken};
use crate::node::forward::forward;

/// What the request of a websocket begins with. A message of multistream that begins with it would
/// be 71 bytes long, and the first one is of 19.
const WEBSOCKET: u8 = b'G';

thread_local! {
    static HANDED: Cell<Option<TcpStream>> = const { Cell::new(None) };
}

/// The connection that a [`Sniff`] has left in place of its result. The layers between it and
/// whoever asks pass on its error in the same poll, so nothing else runs on the thread in between.
pub(super) fn taken() -> Option<TcpStream> {
    HANDED.take()
}

/// The connection is not one of the transport's: it speaks websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is a websocket")]
struct IsWebsocket;

/// A tcp transport that leaves websockets which come to shared ports to the layer above.
pub(in crate::node) struct Sniff<T> {
    inner: T,
    listened: Arc<Listened>,
}

impl<T> fmt::Debug for Sniff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sniff").finish_non_exhaustive()
    }
}

impl<T> Sniff<T> {
    /// The sockets of `listened` are shared.
    pub(in crate::node) fn new(inner: T, listened: Arc<Listened>) -> Self {
        Self { inner, listened }
    }
}

async fn is_websocket(stream: &TcpStream, spoken: Spoken) -> io::Result<bool> {
    Ok(match spoken {
        Spoken::Plain => false,
        Spoken::Websocket => true,
        Spoken::Both => {
            let mut first = [0];
            // It stays in the kernel.
            stream.0.peek(&mut first).await? > 0 && first == [WEBSOCKET]
        }
    })
}

impl<T> Transport for Sniff<T>
where
    T: Transport<Output = TcpStream, Error = io::Error> + Unpin,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = TcpStream;
    type Error = io::Error;
    type ListenerUpgrade = Either<T::ListenerUpgrade, BoxFuture<'static, io::Result<TcpStream>>>;
    type Dial = T::Dial;

    forward!(inner: listen, dial);

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        let spoken = match &event {
            TransportEvent::Incoming { local_addr, .. } => self.listened.spoken(local_addr),
            _ => None,
        };
        let Some(spoken) = spoken else {
            return Poll::Ready(event.map_upgrade(Either::Left));
        };
        Poll::Ready(event.map_upgrade(|upgrade| {
            let sniffed = async move {
                let stream = upgrade.await?;
                if is_websocket(&stream, spoken).await? {
                    HANDED.set(Some(stream));
                    return Err(io::Error::other(IsWebsocket));
                }
                Ok(stream)
            };
            Either::Right(sniffed.boxed())
        }))
    }
}
