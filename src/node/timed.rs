//! A transport that tells how long each of its connections took to be made.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, TransportEvent},
};

use super::forward::forward;

/// A transport whose outputs come with the time from the dial, or from the first packet of the
/// remote, to the connection. For one that secures and multiplexes itself that is its handshake.
pub(super) struct Timed<T>(T);

impl<T> fmt::Debug for Timed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").finish_non_exhaustive()
    }
}

impl<T> Timed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self(inner)
    }
}

type Making<O, E> = BoxFuture<'static, Result<(O, Duration), E>>;

fn timed<O, E>(making: impl Future<Output = Result<O, E>> + Send + 'static) -> Making<O, E> {
    let begun = Instant::now();
    making.map_ok(move |made| (made, begun.elapsed())).boxed()
}

impl<T> Transport for Timed<T>
where
    T: Transport + Unpin,
    T::Output: 'static,
    T::Error: 'static,
    T::Dial: Send + 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = (T::Output, Duration);
    type Error = T::Error;
    type ListenerUpgrade = Making<T::Output, T::Error>;
    type Dial = Making<T::Output, T::Error>;

    forward!(0: listen);

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<T::Error>> {
        self.0.dial(address, options).map(timed)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, T::Error>> {
        let event = Pin::new(&mut self.0).poll(cx);
        event.map(|event| event.map_upgrade(timed))
    }
}
