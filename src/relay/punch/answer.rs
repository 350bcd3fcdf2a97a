//! The side that has called.

use std::time::{Duration, Instant};

use futures::AsyncWriteExt as _;
use libp2p::{Multiaddr, PeerId};
use tokio::time::timeout;

use super::{
    MAX_ADDRESSES, Puncher, Round,
    message::{HolePunch, Kind, MESSAGE_COST},
    role::Side,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    metrics::{Punched, metrics},
    relay::message::{RelayMessageError, read, write},
    streams::{InboundStream, UserStream},
    telemetry::Chain,
};

/// Time for all messages of a round.
const MESSAGES_TIMEOUT: Duration = Duration::from_secs(20);
fixed_limit!("hole punching: messages to whoever has called", time MESSAGES_TIMEOUT);

/// Why a round that the other side has begun comes to nothing.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("the message cannot be read")]
    Read(#[source] RelayMessageError),
    #[error("the stream failed")]
    Write(#[source] std::io::Error),
    #[error("a message out of order")]
    Order,
    #[error("no public address of this host is known")]
    NoAddress,
    #[error("too late")]
    TimedOut,
}

impl Puncher {
    /// Answers the peer on a stream of `/libp2p/dcutr`. Without an answer the stream is reset.
    pub(super) async fn answer(&self, inbound: InboundStream) {
        let (peer, connection) = (inbound.peer, inbound.connection.clone());
        // Nobody but whom this node has called may have it dial.
        if !connection.relayed || !connection.dialed || self.direct(peer).is_some() {
            tracing::debug!(%peer, "no punch asked for");
            return;
        }
        let Some(_busy) = self.enter(peer) else {
            return;
        };
        let Some(_place) = self.place() else { return };
        let Some(round) = self.answered.lock().next(peer, Instant::now()) else {
            Limit::PunchRounds.hit();
            return;
        };
        let Ok(charge) = inbound.account.charge(MESSAGE_COST) else {
            return;
        };
        let exchange = timeout(MESSAGES_TIMEOUT, self.agree(inbound.stream));
        let told = match exchange.await.unwrap_or(Err(AnswerError::TimedOut)) {
            Ok(told) => told,
            Err(error) => {
                tracing::debug!(%peer, error = %Chain(&error), "no punch");
                return;
            }
        };
        drop(charge);
        let outcome = self.join(peer, &told, round).await;
        metrics().holepunch.ended(Side::Calling.label(), 1, outcome);
    }

    /// Where the other side may be found, once it says that it is time.
    async fn agree(&self, mut stream: UserStream) -> Result<Vec<Multiaddr>, AnswerError> {
        let first: HolePunch = read(&mut stream).await.map_err(AnswerError::Read)?;
        if !first.is(Kind::Connect) {
            return Err(AnswerError::Order);
        }
        let own = self.own();
        if own.is_empty() {
            return Err(AnswerError::NoAddress);
        }
        let answer = HolePunch::connect(&own);
        let answered = write(&mut stream, &answer).await;
        answered.map_err(AnswerError::Write)?;
        let second: HolePunch = read(&mut stream).await.map_err(AnswerError::Read)?;
        if !second.is(Kind::Sync) {
            return Err(AnswerError::Order);
        }
        // The other side does not wait for it.
        let _ = stream.close().await;
        Ok(first.addresses())
    }

    async fn join(&self, peer: PeerId, told: &[Multiaddr], round: usize) -> Punched {
        let addresses = self.node.punchable(told, MAX_ADDRESSES);
        if addresses.is_empty() {
            tracing::debug!(%peer, ?told, "no address that may be dialed");
            return Punched::NoAddress;
        }
        let agent = self.agent(peer);
        let manner = Side::Calling.manner(agent.as_deref(), round);
        // go-libp2p counts each round of this side as the first.
        let this = Round {
            side: Side::Calling,
            manner,
            number: 1,
        };
        match self.dial(peer, addresses, this).await {
            true => Punched::Success,
            false => Punched::Failed,
        }
    }
}
