//! The library's part of a connection, and word of when it has written what it was given.

use std::task::{Context, Poll};

use libp2p::{
    gossipsub::Behaviour,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, NetworkBehaviour, SubstreamProtocol,
        handler::ConnectionEvent,
    },
};

use super::gossip::{Envelope, Filter};

/// The library's own handler.
pub(super) type Library = <Behaviour<Envelope, Filter> as NetworkBehaviour>::ConnectionHandler;

/// What the library tells its handler.
type ToLibrary = <Library as ConnectionHandler>::FromBehaviour;

/// What the library's handler tells.
pub(super) type FromLibrary = <Library as ConnectionHandler>::ToBehaviour;

/// The library's protocols as an upgrade.
pub(super) type Protocols = <Library as ConnectionHandler>::OutboundProtocol;

/// To the part of one connection.
#[derive(Debug)]
pub enum ToHandler {
    /// For the library.
    Library(ToLibrary),
    /// To be answered with [`FromHandler::Written`].
    Mark(u64),
}

/// From the part of one connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a box for each RPC would cost more than rare marks"
)]
pub enum FromHandler {
    /// From the library.
    Library(FromLibrary),
    /// What was queued for this connection before the mark is written, as far as the
    /// connection takes it.
    Written(u64),
}

/// One connection.
#[expect(
    missing_debug_implementations,
    reason = "the library's handler has none"
)]
pub struct Handler {
    library: Library,
    /// The library waits for a stream to write on.
    opening: bool,
    mark: Option<u64>,
}

impl Handler {
    pub(super) fn new(library: Library) -> Self {
        Self {
            library,
            opening: false,
            mark: None,
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = ToHandler;
    type ToBehaviour = FromHandler;
    type InboundProtocol = <Library as ConnectionHandler>::InboundProtocol;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        self.library.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.library.connection_keep_alive()
    }

    fn on_behaviour_event(&mut self, event: ToHandler) {
        match event {
            ToHandler::Library(event) => self.library.on_behaviour_event(event),
            ToHandler::Mark(mark) => self.mark = Some(mark),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, (), FromHandler>> {
        if let Poll::Ready(event) = self.library.poll(cx) {
            self.opening |= matches!(
                event,
                ConnectionHandlerEvent::OutboundSubstreamRequest { .. }
            );
            return Poll::Ready(event.map_custom(FromHandler::Library));
        }
        // The library has nothing left to write, or the connection does not take it.
        match self.mark.take_if(|_| !self.opening) {
            Some(mark) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(
                FromHandler::Written(mark),
            )),
            None => Poll::Pending,
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Protocols>,
    ) {
        if event.is_outbound() {
            self.opening = false;
        }
        self.library.on_connection_event(event);
    }
}
