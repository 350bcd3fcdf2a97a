//! A transport that stops accepting while descriptors are short.
//!
//! What it does not accept waits in the system's queue, for as long as that has room.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::{Transport, core::transport::TransportEvent};
use tokio::time::{Sleep, sleep};

use super::forward::forward;
use crate::{
    descriptors::{Descriptors, RESERVE},
    limit_hits::Limit,
};

/// Time between two looks for a descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts while `descriptors` has more than the reserve.
pub(super) struct Accept<T> {
    inner: T,
    descriptors: Descriptors,
    pause: Option<Pin<Box<Sleep>>>,
}

impl<T> fmt::Debug for Accept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accept")
            .field("paused", &self.pause.is_some())
            .finish_non_exhaustive()
    }
}

impl<T> Accept<T> {
    pub(super) fn new(inner: T, descriptors: Descriptors) -> Self {
        Self {
            inner,
            descriptors,
            pause: None,
        }
    }
}

impl<T: Transport + Unpin> Transport for Accept<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    forward!(inner: listen, dial);

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        while let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = match self.descriptors.can_spare(RESERVE) {
                true => None,
                false => Some(Box::pin(sleep(PAUSE))),
            };
        }
        let event = ready!(Pin::new(&mut self.inner).poll(cx));
        let accepted = matches!(
            event,
            TransportEvent::Incoming { .. } | TransportEvent::ListenerError { .. }
        );
        if accepted && !self.descriptors.can_spare(RESERVE) {
            Limit::PeerDescriptors.hit();
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        Poll::Ready(event)
    }
}
