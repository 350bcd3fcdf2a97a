//! A client that follows events.

use std::time::Duration;

use libp2p::PeerId;
use rp2pd::wire::pb::{Event, EventsRequest, Request, Response, event::Kind, request};

use super::support::control::typed;
use super::support::{ControlClient, Daemon, PATIENCE};

/// A request for events of these kinds.
pub fn wanted(kinds: &[Kind], present: bool) -> Request {
    Request {
        events: Some(EventsRequest {
            kinds: kinds.iter().map(|kind| *kind as i32).collect(),
            present: present.then_some(true),
        }),
        ..typed(request::Type::Events)
    }
}

/// A control connection that has become a stream of events.
pub struct Follower(pub ControlClient);

impl Follower {
    pub fn of(daemon: &Daemon, kinds: &[Kind]) -> Self {
        Self::begun(daemon, &wanted(kinds, false))
    }

    pub fn begun(daemon: &Daemon, request: &Request) -> Self {
        let mut client = daemon.client();
        let answer = client.ask(request).expect("EVENTS");
        assert_eq!(answer, Response::default(), "a plain OK");
        Self(client)
    }

    /// The next event, whose time is not before that of the one before.
    pub fn next(&mut self) -> Event {
        let told: Response = self.0.receive().expect("an event");
        *told.event.expect("an event part")
    }

    /// The next event of this kind; what comes before is left out.
    pub fn next_of(&mut self, kind: Kind) -> Event {
        loop {
            let event = self.next();
            if event.kind() == kind {
                return event;
            }
        }
    }

    /// Asserts that nothing comes for a moment.
    pub fn assert_silent(&mut self) {
        let timeout = |time| self.0.pipe.socket.set_timeout(time).expect("a timeout");
        timeout(Duration::from_millis(300));
        let told = self.0.receive::<Response>();
        assert!(told.is_err(), "{told:?}");
        self.0.pipe.socket.set_timeout(PATIENCE).expect("a timeout");
    }
}

pub fn peer_of(event: &Event) -> PeerId {
    PeerId::from_bytes(event.peer.as_ref().expect("a peer")).expect("a peer id")
}
