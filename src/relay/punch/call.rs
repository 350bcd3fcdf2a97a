//! The side that was called.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use tokio::time::{self, sleep, timeout};

use super::{
    DIAL_TIMEOUT, MAX_ADDRESSES, PROTOCOL, Puncher, Round,
    message::{HolePunch, Kind, MESSAGE_COST},
    role::{ROUNDS, Side},
};
use crate::{
    fixed_limits::fixed_limit,
    metrics::{Punched, metrics},
    muxer::Connection,
    node::{DialError, Reach},
    relay::message::{RelayMessageError, read, write},
    streams::{OpenError, StreamUser, UserStream},
    telemetry::Chain,
};

/// Time for the circuit to become a connection.
const CIRCUIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Time for identify.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Time to dial a peer where it says that it is, if it knows hole punching: then it may well be
/// behind a NAT. A host that is far is reached by the punch as well.
const REVERSAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Time for the messages of a round.
const MESSAGES_TIMEOUT: Duration = Duration::from_secs(10);
fixed_limit!("hole punching: messages to whoever was called", time MESSAGES_TIMEOUT);

/// Why there is no round.
#[derive(Debug, thiserror::Error)]
enum PunchError {
    #[error("no stream on the circuit")]
    Open(#[source] OpenError),
    #[error("the answer cannot be read")]
    Read(#[source] RelayMessageError),
    #[error("the stream failed")]
    Write(#[source] std::io::Error),
    #[error("a message out of order")]
    Order,
    #[error("no memory for the answer")]
    Memory,
    #[error("too late")]
    TimedOut,
}

impl Puncher {
    /// Makes a direct connection to `caller`, whose circuit a relay has brought.
    ///
    /// # Cancel safety
    /// Dropping the future ends its dials.
    pub(in crate::relay) async fn called(&self, caller: PeerId) {
        if *self.node.watch_reach().borrow() != Reach::Private {
            return;
        }
        let Ok(circuit) = timeout(CIRCUIT_TIMEOUT, self.circuit(caller)).await else {
            return;
        };
        let Some(_busy) = self.enter(caller) else {
            return;
        };
        let Some(peer) = self.node.streams().peers.get(&caller) else {
            return;
        };
        let identified = timeout(IDENTIFY_TIMEOUT, peer.identified()).await;
        let Ok(known) = identified else { return };
        if self.direct(caller).is_some() {
            return;
        }
        let Some(_place) = self.place() else { return };
        let speaks = known.iter().any(|name| name == PROTOCOL);
        if self.reverse(caller, speaks).await || !speaks {
            return;
        }
        let (rounds, outcome) = self.rounds(caller, &circuit, &known).await;
        metrics()
            .holepunch
            .ended(Side::Called.label(), rounds, outcome);
    }

    /// The circuit on which `caller` has come.
    async fn circuit(&self, caller: PeerId) -> Arc<Connection> {
        let peers = &self.node.streams().peers;
        loop {
            let changed = peers.changed();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let connections = peers.get(&caller).map(|peer| peer.connections());
            let mut connections = connections.unwrap_or_default().into_iter().rev();
            if let Some(circuit) = connections.find(|one| one.relayed && !one.dialed) {
                return circuit;
            }
            changed.await;
        }
    }

    /// Dials a caller that says where it is. Whether there is a direct connection then.
    async fn reverse(&self, caller: PeerId, speaks: bool) -> bool {
        let time = if speaks {
            REVERSAL_TIMEOUT
        } else {
            DIAL_TIMEOUT
        };
        let deadline = time::Instant::now() + time;
        let dialed = self.node.connect_without_relay(caller, deadline).await;
        let holepunch = &metrics().holepunch;
        match &dialed {
            Ok(()) => {
                tracing::debug!(peer = %caller, "a caller is dialed back");
                holepunch.dialed(true);
            }
            Err(DialError::NoAddresses(_)) => {}
            Err(error) => {
                tracing::debug!(peer = %caller, error = %Chain(error), "a caller is not dialed back");
                holepunch.dialed(false);
            }
        }
        dialed.is_ok()
    }

    /// The rounds there were, and what came of the last.
    async fn rounds(
        &self,
        caller: PeerId,
        circuit: &Arc<Connection>,
        known: &[String],
    ) -> (usize, Punched) {
        let agent = self.agent(caller);
        for round in 0..ROUNDS {
            let own = self.own();
            if own.is_empty() {
                return (round + 1, Punched::NoAddress);
            }
            let agreed = timeout(MESSAGES_TIMEOUT, self.propose(&own, circuit, known));
            let agreed = agreed.await.unwrap_or(Err(PunchError::TimedOut));
            let (told, round_trip, _stream) = match agreed {
                Ok(agreed) => agreed,
                Err(error) => {
                    tracing::debug!(
                        peer = %caller,
                        error = &error as &dyn std::error::Error,
                        "no punch"
                    );
                    return (round + 1, Punched::Failed);
                }
            };
            let addresses = self.node.punchable(&told, MAX_ADDRESSES);
            if addresses.is_empty() {
                tracing::debug!(peer = %caller, ?told, "no address that may be dialed");
                return (round + 1, Punched::NoAddress);
            }
            tracing::debug!(peer = %caller, ?round_trip, round, "starting a punch");
            // By then the other side has heard that it is time.
            sleep(round_trip / 2).await;
            let manner = Side::Called.manner(agent.as_deref(), round);
            let this = Round {
                side: Side::Called,
                manner,
                number: round + 1,
            };
            if self.dial(caller, addresses, this).await {
                tracing::debug!(peer = %caller, round, "punched through");
                return (round + 1, Punched::Success);
            }
        }
        (ROUNDS, Punched::Failed)
    }

    /// Tells the other side where this one may be found, and that it is time. Where the other one
    /// may be found, and how long its answer took. Whoever drops the stream at once may take SYNC
    /// back.
    async fn propose(
        &self,
        own: &[Multiaddr],
        circuit: &Arc<Connection>,
        known: &[String],
    ) -> Result<(Vec<Multiaddr>, Duration, UserStream), PunchError> {
        let streams = self.node.streams();
        let opened = streams
            .open(circuit, known, &[PROTOCOL.into()], StreamUser::Daemon)
            .await;
        let (mut stream, _) = opened.map_err(PunchError::Open)?;
        let peer = streams.peers.get(&circuit.peer).ok_or(PunchError::Order)?;
        let charged = peer.account.charge(MESSAGE_COST);
        let _charge = charged.map_err(|_| PunchError::Memory)?;
        let begun = Instant::now();
        let sent = write(&mut stream, &HolePunch::connect(own)).await;
        sent.map_err(PunchError::Write)?;
        let answer: HolePunch = read(&mut stream).await.map_err(PunchError::Read)?;
        let round_trip = begun.elapsed();
        if !answer.is(Kind::Connect) {
            return Err(PunchError::Order);
        }
        let sent = write(&mut stream, &HolePunch::sync()).await;
        sent.map_err(PunchError::Write)?;
        Ok((answer.addresses(), round_trip, stream))
    }

    /// The program of a connected peer, as it says.
    pub(super) fn agent(&self, peer: PeerId) -> Option<Arc<str>> {
        self.node.streams().peers.get(&peer)?.agent()
    }
}
