//! Dials to one peer that are under way at the same time: the first that completes wins, and the
//! others end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::AcqRel},
    },
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use libp2p::{
    Multiaddr, Transport, TransportError,
    core::transport::{DialOpts, TransportEvent},
};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::node::forward::forward;

/// Another dial to the same peer has completed, or nobody waits for the peer any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("dial cancelled")]
pub(super) struct Superseded;

/// What the dials to one peer have in common. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct Race {
    over: CancellationToken,
    won: Arc<AtomicBool>,
}

impl Race {
    /// Ends every dial of the race that has not completed.
    pub(super) fn cancel(&self) {
        self.over.cancel();
    }

    /// Ends the race when it is dropped.
    pub(in crate::node) fn over_with(&self) -> DropGuard {
        self.over.clone().drop_guard()
    }

    /// True for the first that asks.
    fn win(&self) -> bool {
        !self.won.swap(true, AcqRel)
    }
}

/// The race that the next dial of the transport takes part in.
///
/// The swarm has no parameter for it. It asks the transport while `Swarm::dial` runs, so whoever
/// owns the swarm sets the race before and knows who takes it.
#[derive(Debug, Clone, Default)]
pub(in crate::node) struct NextRace(Arc<Mutex<Option<Race>>>);

impl NextRace {
    pub(in crate::node) fn set(&self, race: Race) {
        *self.0.lock() = Some(race);
    }

    /// The dial has been made, or has been refused before the transport was asked.
    pub(in crate::node) fn clear(&self) {
        *self.0.lock() = None;
    }

    fn take(&self) -> Option<Race> {
        self.0.lock().take()
    }
}

/// A transport whose dials take part in races.
#[derive(Debug)]
pub(in crate::node) struct Raced<T> {
    inner: T,
    next: NextRace,
}

impl<T> Raced<T> {
    pub(in crate::node) fn new(inner: T, next: NextRace) -> Self {
        Self { inner, next }
    }
}

impl<T> Transport for Raced<T>
where
    T: Transport<Error = io::Error> + Unpin,
    T::Output: Send + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = io::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, io::Error>>;

    forward!(inner: listen);

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let race = self.next.take();
        let dial = self.inner.dial(address, options)?;
        let Some(race) = race else {
            return Ok(dial.boxed());
        };
        Ok(async move {
            let over = || io::Error::other(Superseded);
            let output = race
                .over
                .run_until_cancelled(dial)
                .await
                .ok_or_else(over)??;
            if race.win() { Ok(output) } else { Err(over()) }
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
