//! The messages of circuit relay v2, and how they travel.

use std::io;

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::PeerId;
use prost::Message;

use crate::{fixed_limits::fixed_limit, wire::frame};

/// The messages of `proto/circuit.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all
)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/circuit.pb.rs"));
}

pub use pb::{
    HopMessage, Limit, Peer, Reservation, Status, StopMessage, Voucher, hop_message, stop_message,
};

impl Status {
    /// What it counts as in metrics, in go-libp2p's words.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ReservationRefused
            | Self::ResourceLimitExceeded
            | Self::PermissionDenied
            | Self::NoReservation
            | Self::MalformedMessage => "rejected",
            Self::UnexpectedMessage | Self::ConnectionFailed => "error",
            _ => "unknown",
        }
    }

    /// Why a request is rejected, if it is, in go-libp2p's words for metrics.
    pub(super) fn rejection(self) -> Option<&'static str> {
        Some(match self {
            Self::ReservationRefused => "ip constraint violation",
            Self::ResourceLimitExceeded => "resource limit exceeded",
            Self::PermissionDenied => "permission denied",
            Self::NoReservation => "no reservation",
            Self::MalformedMessage => "malformed message",
            _ => return None,
        })
    }
}

/// Sent to a relay, to reserve a place and to open circuits.
pub const HOP: &str = "/libp2p/circuit/relay/0.2.0/hop";

/// Sent by a relay, to pass a circuit on to its destination.
pub const STOP: &str = "/libp2p/circuit/relay/0.2.0/stop";

/// Largest message in bytes (go-libp2p's limit).
pub(super) const MAX_MESSAGE: usize = 4096;
fixed_limit!("relay: message", bytes MAX_MESSAGE);

/// Bytes of the length of such a message.
const MAX_LENGTH: usize = 2;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub enum RelayMessageError {
    /// The stream failed or ended before the end of the message.
    #[error("the stream failed")]
    Stream(#[source] io::Error),
    /// The length is not in its shortest form, or above the limit.
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    Length,
    /// The bytes are no such message.
    #[error("a malformed message")]
    Malformed(#[source] prost::DecodeError),
}

/// Reads one message and not one byte more: what follows belongs to the circuit.
pub async fn read<M: Message + Default>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<M, RelayMessageError> {
    let mut header = [0; MAX_LENGTH];
    let mut filled = 0;
    let length = loop {
        let place = header.get_mut(filled..=filled);
        let place = place.ok_or(RelayMessageError::Length)?;
        stream
            .read_exact(place)
            .await
            .map_err(RelayMessageError::Stream)?;
        filled += 1;
        match unsigned_varint::decode::usize(&header[..filled]) {
            Ok((length, _)) => break length,
            Err(unsigned_varint::decode::Error::Insufficient) => {}
            Err(_) => return Err(RelayMessageError::Length),
        }
    };
    if length > MAX_MESSAGE {
        return Err(RelayMessageError::Length);
    }
    let mut payload = vec![0; length];
    stream
        .read_exact(&mut payload)
        .await
        .map_err(RelayMessageError::Stream)?;
    M::decode(Bytes::from(payload)).map_err(RelayMessageError::Malformed)
}

/// Sends one message at once.
pub async fn write(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Message,
) -> io::Result<()> {
    stream.write_all(&frame::encode(message)).await?;
    stream.flush().await
}

/// `id` as messages name it.
pub fn peer(id: &PeerId) -> Peer {
    Peer {
        id: id.to_bytes().into(),
        addrs: Vec::new(),
    }
}

/// Who is named, if that is a peer id.
pub fn peer_id(peer: Option<&Peer>) -> Option<PeerId> {
    PeerId::from_bytes(&peer?.id).ok()
}

/// A relay's answer to RESERVE or CONNECT.
pub fn hop_status(status: Status) -> HopMessage {
    HopMessage {
        r#type: Some(hop_message::Type::Status.into()),
        status: Some(status.into()),
        ..HopMessage::default()
    }
}

/// A destination's answer to CONNECT.
pub fn stop_status(status: Status) -> StopMessage {
    StopMessage {
        r#type: Some(stop_message::Type::Status.into()),
        status: Some(status.into()),
        ..StopMessage::default()
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};

    use super::*;

    fn read_hop(bytes: &[u8]) -> (Result<HopMessage, RelayMessageError>, u64) {
        let mut stream = Cursor::new(bytes);
        let message = block_on(read(&mut stream));
        (message, stream.position())
    }

    #[test]
    fn reserve_is_what_clients_send_by_hand() {
        let (message, read) = read_hop(&[2, 8, 0, b'x']);
        let message = message.expect("a message");
        assert_eq!(message.r#type, Some(hop_message::Type::Reserve.into()));
        assert_eq!(read, 3, "the next byte belongs to the circuit");
        assert_eq!(frame::encode(&message)[..], [2, 8, 0]);
    }

    #[test]
    fn statuses_are_as_in_go() {
        let encoded = frame::encode(&hop_status(Status::NoReservation));
        assert_eq!(encoded[..], [5, 8, 2, 40, 204, 1]);
        let encoded = frame::encode(&stop_status(Status::Ok));
        assert_eq!(encoded[..], [4, 8, 1, 32, 100]);
    }

    #[test]
    fn bad_lengths_are_refused_before_anything_is_allocated() {
        for bytes in [
            &[0x81, 0x20][..],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0x80, 0x00],
        ] {
            let (result, read) = read_hop(bytes);
            assert!(
                matches!(result, Err(RelayMessageError::Length)),
                "{result:?}"
            );
            assert!(read <= 2);
        }
        assert!(matches!(
            read_hop(&[2, 8]).0,
            Err(RelayMessageError::Stream(_))
        ));
        assert!(matches!(read_hop(&[]).0, Err(RelayMessageError::Stream(_))));
        assert!(matches!(
            read_hop(&[2, 0xff, 0xff]).0,
            Err(RelayMessageError::Malformed(_))
        ));
    }

    #[test]
    fn messages_of_any_size_up_to_the_limit_arrive() {
        for addresses in [0, 1, 30, 99] {
            let message = HopMessage {
                peer: Some(Peer {
                    id: PeerId::random().to_bytes().into(),
                    addrs: vec![vec![7; 38].into(); addresses],
                }),
                ..hop_status(Status::Ok)
            };
            let (read, _) = read_hop(&frame::encode(&message));
            assert_eq!(read.expect("a message"), message);
        }
    }
}
