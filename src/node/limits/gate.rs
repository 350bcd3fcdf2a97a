//! A transport whose inbound connections need a place, and whose handshakes are charged.
//!
//! A connection without a place is dropped as soon as it is accepted. A tcp socket is closed then.
//! The library has answered the first packet of a quic connection before it tells of it, but sends
//! the answer from another task: what is dropped here at once sends its close instead.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Either, select},
};
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        StreamMuxer,
        muxing::{StreamMuxerBox, StreamMuxerEvent, SubstreamBox},
        transport::{DialOpts, TransportEvent},
    },
};

use super::admission::{Admission, GaveWay, Ticket};
use crate::node::forward::forward;

/// Connections that are refused in one turn. The swarm has other things to do.
const MAX_REFUSED: usize = 32;

type Output = (PeerId, StreamMuxerBox);

/// A transport behind an [`Admission`].
pub(in crate::node) struct Gate<T> {
    inner: T,
    admission: Arc<Admission>,
}

impl<T> fmt::Debug for Gate<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<T> Gate<T> {
    pub(in crate::node) fn new(inner: T, admission: Arc<Admission>) -> Self {
        Self { inner, admission }
    }
}

/// Runs the handshake of an admitted connection, unless it has to give way.
async fn secure(
    upgrade: impl Future<Output = io::Result<Output>>,
    ticket: Ticket,
) -> io::Result<Output> {
    let mut upgrade = pin!(upgrade);
    // It is woken by what the other side sends.
    let noted = poll_fn(|cx| {
        ticket.moves();
        upgrade.as_mut().poll(cx)
    });
    let (peer, inner) = match select(pin!(ticket.over()), noted).await {
        Either::Left(_) => return Err(io::Error::other(GaveWay)),
        Either::Right((secured, _)) => secured?,
    };
    let ticket = ticket.established().map_err(io::Error::other)?;
    let held = Held {
        inner,
        _ticket: ticket,
    };
    Ok((peer, StreamMuxerBox::new(held)))
}

impl<T> Transport for Gate<T>
where
    T: Transport<Output = Output, Error = io::Error> + Unpin,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Output>>;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    forward!(inner: listen);

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let charge = self.admission.charge_dial(&address);
        let charge = charge.map_err(TransportError::Other)?;
        let dial = self.inner.dial(address, options)?;
        Ok(async move {
            let _charge = charge;
            dial.await
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        for _ in 0..MAX_REFUSED {
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            let TransportEvent::Incoming { send_back_addr, .. } = &event else {
                // No upgrade is in it.
                return Poll::Ready(event.map_upgrade(|upgrade| upgrade.boxed()));
            };
            if let Some(ticket) = self.admission.admit(send_back_addr) {
                return Poll::Ready(event.map_upgrade(|upgrade| secure(upgrade, ticket).boxed()));
            }
            tracing::debug!(remote = %send_back_addr, "inbound connection refused");
        }
        // There may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// An established inbound connection, which keeps its place.
struct Held {
    inner: StreamMuxerBox,
    _ticket: Ticket,
}

impl StreamMuxer for Held {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_inbound(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        Pin::new(&mut self.inner).poll_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
