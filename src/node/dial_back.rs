//! Dials beside the swarm: with another identity, from ports of their own, and only to see whether
//! a peer answers.
//!
//! The swarm knows nothing of them, so they are in no table, and what is learned of an address
//! here does not bear on how this node itself would reach the peer.

use std::{io, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, stream};
use libp2p::{
    Multiaddr, PeerId, Transport as _, TransportError,
    core::{
        Endpoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, PortUse},
    },
    identity::Keypair,
    multiaddr::Protocol,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
};

use super::{Options, StartError, circuit::Circuits, dial::NextRace, limits::Admission, transport};
use crate::{
    descriptors::{Descriptors, RESERVE},
    fixed_limits::fixed_limit,
    muxer::{Connection, Handover, Host, Substream},
    streams::Traffic,
    telemetry::Chain,
};

/// Sockets being connected for all peers together (SECURITY.md 3).
const MAX_SOCKETS: u32 = 32;
fixed_limit!("AutoNAT: sockets being connected", MAX_SOCKETS);

/// Sockets being connected for one peer.
const MAX_PER_DIAL: u32 = 4;

/// Room for one dial. Whoever has none is told so: one that waited for the dials of others, and was
/// never tried, would pass for a failure.
#[derive(Debug)]
pub struct Room<'a>(#[expect(dead_code, reason = "given back when dropped")] SemaphorePermit<'a>);

/// Dials on which no stream is ever opened.
pub struct DialBack {
    transport: Mutex<Boxed<(PeerId, StreamMuxerBox)>>,
    sockets: Semaphore,
    descriptors: Descriptors,
}

impl std::fmt::Debug for DialBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DialBack")
    }
}

impl DialBack {
    /// Offers the security protocols of `options`.
    ///
    /// # Errors
    /// If an identity cannot be used for one of them.
    pub async fn new(options: &Options) -> Result<Self, StartError> {
        let identity = Keypair::generate_ed25519();
        // Nothing comes in here, so there is nothing to admit.
        let admission = Admission::new(options, Vec::new(), Traffic::default());
        let parts = transport::Parts {
            host: Arc::new(Nobody),
            next_race: NextRace::default(),
            admission,
            circuits: Circuits::none(),
        };
        let wanted = options.clone();
        let transport = spawn_blocking(move || transport::build(&identity, &wanted, parts)).await?;
        Ok(Self {
            transport: Mutex::new(transport.map_err(StartError::Transport)?),
            sockets: Semaphore::new(MAX_SOCKETS as usize),
            descriptors: options.descriptors.clone(),
        })
    }

    /// Sockets for another dial, if there are any.
    #[must_use]
    pub fn room(&self) -> Option<Room<'_>> {
        let room = self.sockets.try_acquire_many(MAX_PER_DIAL).ok()?;
        self.descriptors.can_spare(RESERVE).then_some(Room(room))
    }

    /// The first of `addresses` at which `peer` proves who it is. The connection is closed at
    /// once.
    ///
    /// # Cancel safety
    /// Dropping the future ends the dials.
    pub async fn dial(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        _room: Room<'_>,
    ) -> Option<Multiaddr> {
        let dials = addresses.into_iter();
        let dials: Vec<_> = dials
            .map(|address| self.answers(peer, address).boxed())
            .collect();
        let mut dials = stream::iter(dials).buffer_unordered(MAX_PER_DIAL as usize);
        while let Some(answered) = dials.next().await {
            if answered.is_some() {
                return answered;
            }
        }
        None
    }

    /// `address`, if the peer answers there.
    async fn answers(&self, peer: PeerId, address: Multiaddr) -> Option<Multiaddr> {
        match self.try_one(peer, &address).await {
            Ok(()) => Some(address),
            Err(error) => {
                tracing::debug!(%peer, %address, error = %Chain(&error), "dial back failed");
                None
            }
        }
    }

    async fn try_one(
        &self,
        peer: PeerId,
        address: &Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        let named = address.clone().with(Protocol::P2p(peer));
        self.who_answers(named).await.map(drop)
    }

    /// Who proves to be at `address`: the peer that it ends with, or whoever is there if it ends with
    /// none. The connection is closed at once.
    pub(super) async fn who_answers(
        &self,
        address: Multiaddr,
    ) -> Result<PeerId, TransportError<io::Error>> {
        let options = DialOpts {
            role: Endpoint::Dialer,
            port_use: PortUse::New,
        };
        let dial = self.transport.lock().dial(address, options)?;
        // Not polled, the connection never begins to run.
        let (peer, _) = dial.await.map_err(TransportError::Other)?;
        Ok(peer)
    }
}

/// Nobody has to learn of connections that are closed before they run.
struct Nobody;

impl Host for Nobody {
    fn connected(&self, _: &Arc<Connection>) {}

    fn disconnected(&self, _: &Arc<Connection>) {}

    fn max_streams(&self) -> usize {
        0
    }

    fn inbound(&self, _: &Arc<Connection>, _: Substream, _: Handover) {}

    fn refused(&self, _: &Arc<Connection>) {}
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        events::Events,
        memory::Ledger,
        node::{connmgr::Watermarks, limits::ConnectionLimits, rules::Rules},
    };

    async fn dial_back() -> DialBack {
        let options = Options {
            rules: Rules::default(),
            noise: true,
            tls: true,
            plaintext: false,
            network: None,
            wss: crate::wss::load(&crate::config::Wss::default()).unwrap().0,
            mplex: false,
            listen: Vec::new(),
            announce: Vec::new(),
            limits: ConnectionLimits::scaled(1024, 0),
            exempt: Vec::new(),
            watermarks: Watermarks {
                low: 0,
                high: 0,
                grace: Duration::ZERO,
            },
            forced_reach: None,
            relays: false,
            memory: 0,
            pressure: Arc::default(),
            ledger: Ledger::new(0),
            descriptors: Descriptors::new(1 << 16),
            events: Events::default(),
        };
        DialBack::new(&options).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_has_no_room_is_told_at_once_and_a_dropped_dial_gives_its_own_back() {
        let dial_back = dial_back().await;
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let begin = || {
            let room = dial_back.room()?;
            Some(dial_back.dial(PeerId::random(), vec![address.clone(); 16], room))
        };
        let mut dials: Vec<_> = (0..8).map(|_| begin().unwrap().boxed()).collect();
        for dial in &mut dials {
            assert!(dial.now_or_never().is_none(), "nobody answers");
        }
        assert!(begin().is_none());
        dials.pop();
        assert!(begin().is_some());
    }
}
