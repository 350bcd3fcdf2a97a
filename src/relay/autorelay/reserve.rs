//! Asks a relay for a place (RESERVE of circuit relay v2).

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, timeout_at};

use crate::{
    fixed_limits::fixed_limit,
    node::{Node, StreamError},
    relay::{
        message::{self, HOP, HopMessage, MAX_MESSAGE, RelayMessageError, Status, hop_message},
        voucher,
    },
    streams::UserStream,
};

/// Time for a relay to be reached and to answer (go-libp2p's value).
const TIMEOUT: Duration = Duration::from_secs(10);
fixed_limit!("autorelay: answer to the request for a reservation", time TIMEOUT);

/// A place that is held for less is none: asking again and again would cost more than it brings.
pub(super) const MIN_LIFETIME: Duration = Duration::from_secs(10);

/// No longer promise is relied on: go-libp2p's relays give as much.
pub(super) const MAX_LIFETIME: Duration = Duration::from_secs(60 * 60);
fixed_limit!("autorelay: reservation", time MAX_LIFETIME);

/// What a relay allows a circuit to use, by its own word. Zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes in each direction.
    pub data: u64,
    /// Lifetime.
    pub time: Duration,
}

/// A place at a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    /// From [`MIN_LIFETIME`] to [`MAX_LIFETIME`].
    pub(super) lifetime: Duration,
    pub(super) allowance: Allowance,
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReserveError {
    /// The relay was not reached, or does not speak the protocol.
    #[error("no stream to the relay")]
    Open(#[source] StreamError),
    /// The memory for this peer is used up.
    #[error("no memory for the answer")]
    Memory,
    /// The request was not sent.
    #[error("the request was not sent")]
    Send(#[source] io::Error),
    /// What came is no message.
    #[error("no answer")]
    Answer(#[source] RelayMessageError),
    /// Nothing came.
    #[error("no answer in time")]
    TimedOut,
    /// It says no, with this status.
    #[error("refused with status {0}")]
    Refused(i32),
    /// Its answer is no status, or a status without what belongs to it.
    #[error("an answer that is none")]
    Unexpected,
    /// The place is held no longer than [`MIN_LIFETIME`].
    #[error("the place is over at once")]
    Over,
    /// The voucher is not the relay's, or not for this node.
    #[error("the voucher is not valid")]
    Voucher,
}

impl ReserveError {
    /// Whether the relay has refused in so many words.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// The label of go-libp2p's metric.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Open(_) | Self::Send(_) | Self::Answer(RelayMessageError::Stream(_)) => {
                "connection failed"
            }
            Self::Answer(_) | Self::Unexpected | Self::Over | Self::Voucher => "malformed message",
            Self::Memory | Self::TimedOut => "err other",
            Self::Refused(status) => match Status::try_from(*status) {
                Ok(Status::ConnectionFailed) => "connection failed",
                Ok(Status::MalformedMessage) => "malformed message",
                Ok(Status::ReservationRefused) => "reservation refused",
                Ok(Status::PermissionDenied) => "permission denied",
                Ok(Status::ResourceLimitExceeded) => "resource limit exceeded",
                _ => "err other",
            },
        }
    }
}

/// Asks `relay`. With `trusted` addresses it is dialed there if need be, whatever they are; else
/// where it is known to be.
pub(super) async fn reserve(
    node: &Node,
    relay: PeerId,
    trusted: Option<Vec<Multiaddr>>,
) -> Result<Granted, ReserveError> {
    let deadline = Instant::now() + TIMEOUT;
    let asked = async {
        let mut stream = match trusted {
            Some(addresses) => {
                let opened = node
                    .open_relay_stream(relay, addresses, HOP, deadline)
                    .await;
                opened.map_err(ReserveError::Open)?.stream
            }
            None => {
                let opened = node.open_service_stream(relay, Vec::new(), HOP, deadline);
                opened.await.map_err(ReserveError::Open)?
            }
        };
        let connected = node.streams().peers.get(&relay);
        let connected = connected.ok_or(ReserveError::Memory)?;
        let charge = connected.account.charge(MAX_MESSAGE);
        let _charge = charge.map_err(|_| ReserveError::Memory)?;
        let granted = granted(&ask(&mut stream).await?, &node.peer_id())?;
        // What it tells of where it is belongs to the addresses that this node will tell.
        connected.identified().await;
        Ok(granted)
    };
    timeout_at(deadline, asked)
        .await
        .unwrap_or(Err(ReserveError::TimedOut))
}

async fn ask(stream: &mut UserStream) -> Result<HopMessage, ReserveError> {
    let request = HopMessage {
        r#type: Some(hop_message::Type::Reserve.into()),
        ..HopMessage::default()
    };
    let sent = message::write(stream, &request).await;
    sent.map_err(ReserveError::Send)?;
    message::read(stream).await.map_err(ReserveError::Answer)
}

/// What `answer` gives to the peer `own`.
fn granted(answer: &HopMessage, own: &PeerId) -> Result<Granted, ReserveError> {
    if answer.r#type != Some(hop_message::Type::Status.into()) {
        return Err(ReserveError::Unexpected);
    }
    let status = answer.status.unwrap_or_default();
    if status != i32::from(Status::Ok) {
        return Err(ReserveError::Refused(status));
    }
    let given = answer.reservation.as_ref();
    let given = given.ok_or(ReserveError::Unexpected)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let seconds = given.expire.unwrap_or_default().saturating_sub(now);
    let lifetime = Duration::from_secs(seconds).min(MAX_LIFETIME);
    if lifetime < MIN_LIFETIME {
        return Err(ReserveError::Over);
    }
    // Relays of other implementations give none.
    if let Some(voucher) = &given.voucher
        && !voucher::is_valid(voucher, own)
    {
        return Err(ReserveError::Voucher);
    }
    let limit = answer.limit.unwrap_or_default();
    Ok(Granted {
        lifetime,
        allowance: Allowance {
            data: limit.data.unwrap_or_default(),
            time: Duration::from_secs(limit.duration.unwrap_or_default().into()),
        },
    })
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;
    use crate::relay::message::{Limit, Reservation};

    fn answer(expire: u64, voucher: Option<Vec<u8>>) -> HopMessage {
        HopMessage {
            reservation: Some(Reservation {
                expire: Some(expire),
                addrs: vec![vec![0xff; 1000].into()],
                voucher: voucher.map(Into::into),
            }),
            limit: Some(Limit {
                duration: Some(120),
                data: Some(1 << 17),
            }),
            ..message::hop_status(Status::Ok)
        }
    }

    fn after(seconds: u64) -> u64 {
        voucher::seconds_after_1970(Duration::from_secs(seconds))
    }

    #[test]
    fn a_place_is_held_for_as_long_as_can_be_relied_on() {
        let own = PeerId::random();
        let hour = granted(&answer(after(3600), None), &own).expect("a place");
        assert!(hour.lifetime > Duration::from_secs(3590), "{hour:?}");
        assert_eq!(hour.allowance.data, 1 << 17);
        assert_eq!(hour.allowance.time, Duration::from_secs(120));
        let ever = granted(&answer(u64::MAX, None), &own).expect("a place");
        assert_eq!(ever.lifetime, MAX_LIFETIME);
        for over in [0, 1, after(0), after(5)] {
            let error = granted(&answer(over, None), &own);
            assert!(
                matches!(error, Err(ReserveError::Over)),
                "{over}: {error:?}"
            );
        }
    }

    #[test]
    fn a_voucher_that_is_given_is_looked_at() {
        let own = PeerId::random();
        let relay = Keypair::generate_ed25519();
        let voucher = |peer| voucher::sign(&relay, &peer, after(3600)).expect("a voucher");
        assert!(granted(&answer(after(3600), Some(voucher(own))), &own).is_ok());
        for bad in [voucher(PeerId::random()), Vec::new(), vec![0xff; 300]] {
            let error = granted(&answer(after(3600), Some(bad)), &own);
            assert!(matches!(error, Err(ReserveError::Voucher)), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_answer_gives_nothing() {
        let own = PeerId::random();
        let request = HopMessage {
            r#type: Some(hop_message::Type::Reserve.into()),
            ..answer(after(3600), None)
        };
        for strange in [
            HopMessage::default(),
            request,
            message::hop_status(Status::Ok),
        ] {
            let error = granted(&strange, &own).expect_err("no place");
            assert_eq!(error.outcome(), "malformed message");
        }
        for (status, outcome) in [
            (200, "reservation refused"),
            (201, "resource limit exceeded"),
            (202, "permission denied"),
            (-1, "err other"),
            (0, "err other"),
        ] {
            let refused = HopMessage {
                status: Some(status),
                ..answer(after(3600), None)
            };
            let error = granted(&refused, &own).expect_err("no place");
            assert!(error.is_refusal());
            assert_eq!(error.outcome(), outcome);
        }
    }
}
