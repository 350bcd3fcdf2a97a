//! Tcp and websocket listeners that share a port.
//!
//! The library has a transport for each, and the system lets both bind the port: then one of the
//! two gets the connections of the other and fails them. Here a port has one socket, and the first
//! byte that a peer sends tells what it speaks: a websocket begins with `GET`, multistream with its
//! length. A peer that is silent waits within the time and the place of its handshake.
//!
//! Only ports for which both are configured come here. Dials and all other listeners are passed on.

mod handed;
mod listened;
mod sniff;

use std::{
    collections::{HashSet, VecDeque},
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::FutureExt as _;
use libp2p::{
    Multiaddr, PeerId, Transport, TransportError,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, ListenerId, TransportEvent},
    },
    multiaddr::Protocol,
};
use tokio::time::{Instant, timeout_at};

pub(super) use handed::Websockets;
pub(super) use listened::Listened;
pub(super) use sniff::Sniff;

use super::{forward::forward, limits::Admission};
use listened::{Place, Spoken};

type Output = (PeerId, StreamMuxerBox);
type Upgrade = <Boxed<Output> as Transport>::ListenerUpgrade;
type Event = TransportEvent<Upgrade, io::Error>;

/// The ports of `addresses` on which both tcp and websockets are wanted.
pub(crate) fn ports<'a>(addresses: impl Iterator<Item = &'a Multiaddr>) -> HashSet<u16> {
    let (mut plain, mut websocket) = (HashSet::new(), HashSet::new());
    for address in addresses {
        let mut parts = address
            .iter()
            .skip_while(|part| !matches!(part, Protocol::Tcp(_)));
        let Some(Protocol::Tcp(port @ 1..)) = parts.next() else {
            continue;
        };
        match parts.next() {
            None => plain.insert(port),
            Some(Protocol::Ws(_)) => websocket.insert(port),
            Some(_) => false,
        };
    }
    plain.intersection(&websocket).copied().collect()
}

/// All transports, with ports of which tcp and websockets have the same socket.
pub(super) struct SharedPorts {
    inner: Boxed<Output>,
    ports: HashSet<u16>,
    listened: Arc<Listened>,
    websockets: Websockets,
    admission: Arc<Admission>,
    /// For a whole handshake.
    limit: Duration,
    events: VecDeque<Event>,
}

impl fmt::Debug for SharedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPorts")
            .field("ports", &self.ports)
            .finish_non_exhaustive()
    }
}

impl SharedPorts {
    /// `ports` are shared. The tcp transport below `inner` has a [`Sniff`] that knows `listened`,
    /// and what it leaves is secured by `websockets` within `limit`. `admission` charges it.
    pub(super) fn new(
        inner: Boxed<Output>,
        (ports, listened): (HashSet<u16>, Arc<Listened>),
        websockets: Websockets,
        admission: Arc<Admission>,
        limit: Duration,
    ) -> Self {
        Self {
            inner,
            ports,
            listened,
            websockets,
            admission,
            limit,
            events: VecDeque::new(),
        }
    }

    fn shared(&self, address: &Multiaddr) -> Option<Place> {
        Place::of(address).filter(|place| self.ports.contains(&place.port()))
    }

    /// A connection to a socket on which `spoken` is.
    fn incoming(
        &self,
        listener_id: ListenerId,
        upgrade: Upgrade,
        (local_addr, send_back_addr): (Multiaddr, Multiaddr),
        spoken: Spoken,
    ) -> Event {
        let websocket = |address: &Multiaddr| address.clone().with(Protocol::Ws("/".into()));
        // Who comes to a socket for websockets alone is charged as such from the beginning.
        let (local_addr, send_back_addr, charged) = match spoken {
            Spoken::Websocket => (websocket(&local_addr), websocket(&send_back_addr), true),
            Spoken::Plain | Spoken::Both => (local_addr, send_back_addr, false),
        };
        let ends = (local_addr.clone(), send_back_addr.clone());
        let (websockets, admission) = (self.websockets.clone(), self.admission.clone());
        let limit = self.limit;
        let secured = async move {
            let deadline = Instant::now() + limit;
            let failure = match upgrade.await {
                Ok(secured) => return Ok(secured),
                Err(error) => error,
            };
            // Nothing runs on the thread between the two.
            let Some(stream) = sniff::taken() else {
                return Err(failure);
            };
            let _charge = match charged {
                true => None,
                false => Some(
                    admission
                        .charge_websocket(&ends.1)
                        .map_err(io::Error::other)?,
                ),
            };
            let secured = websockets.secure(stream, ends)?;
            timeout_at(deadline, secured).await?
        };
        TransportEvent::Incoming {
            listener_id,
            upgrade: secured.boxed(),
            local_addr,
            send_back_addr,
        }
    }

    /// What becomes of an event of a socket that listeners here share. `None` if it is another's.
    fn translate(&mut self, event: Event) -> Option<Event> {
        match event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } if self.listened.owns(listener_id) => {
                for (listener_id, listen_addr) in self.listened.appeared(listener_id, &listen_addr)
                {
                    self.events.push_back(TransportEvent::NewAddress {
                        listener_id,
                        listen_addr,
                    });
                }
                None
            }
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } if self.listened.owns(listener_id) => {
                for (listener_id, listen_addr) in self.listened.expired(listener_id, &listen_addr) {
                    self.events.push_back(TransportEvent::AddressExpired {
                        listener_id,
                        listen_addr,
                    });
                }
                None
            }
            TransportEvent::ListenerClosed {
                listener_id,
                reason,
            } if self.listened.owns(listener_id) => {
                for guest in self.listened.closed(listener_id) {
                    self.events.push_back(TransportEvent::ListenerClosed {
                        listener_id: guest,
                        reason: Ok(()),
                    });
                }
                Some(TransportEvent::ListenerClosed {
                    listener_id,
                    reason,
                })
            }
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } if self.listened.owns(listener_id) => {
                // An address of a wildcard's socket that nothing is listened on: it is closed.
                let spoken = self.listened.spoken(&local_addr)?;
                let ends = (local_addr, send_back_addr);
                Some(self.incoming(listener_id, upgrade, ends, spoken))
            }
            other => Some(other),
        }
    }
}

impl Transport for SharedPorts {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = Upgrade;
    type Dial = <Boxed<Output> as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let Some(place) = self.shared(&address) else {
            return self.inner.listen_on(id, address);
        };
        let Some(known) = self.listened.join(id, &place) else {
            self.inner.listen_on(id, place.socket())?;
            self.listened.open(id, place);
            return Ok(());
        };
        self.events
            .extend(known.into_iter().map(|listen_addr| Event::NewAddress {
                listener_id: id,
                listen_addr,
            }));
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        if !self.listened.leave(id) {
            return self.inner.remove_listener(id);
        }
        self.events.push_back(TransportEvent::ListenerClosed {
            listener_id: id,
            reason: Ok(()),
        });
        true
    }

    forward!(inner: dial);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let event = ready!(Pin::new(&mut self.inner).poll(cx));
            if let Some(event) = self.translate(event) {
                return Poll::Ready(event);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_shared_that_are_named_for_both() {
        let shared = |addresses: &[&str]| {
            let addresses: Vec<Multiaddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
            ports(addresses.iter())
        };
        let both = shared(&["/ip4/127.0.0.1/tcp/1/ws", "/dns4/localhost/tcp/1"]);
        assert_eq!(both, HashSet::from([1]));
        for alone in [
            &["/ip4/1.2.3.4/tcp/0", "/ip4/1.2.3.4/tcp/0/ws"][..],
            &["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/2/ws"],
            &["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1"],
            &["/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/1/wss"],
        ] {
            assert_eq!(shared(alone), HashSet::new(), "{alone:?}");
        }
    }
}
