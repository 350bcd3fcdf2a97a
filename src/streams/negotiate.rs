//! multistream-select for user protocols.
//!
//! The library's negotiator refuses names without a leading slash, which Hivemind and
//! others use; on user streams rp2pd therefore speaks `/multistream/1.0.0` itself. Streams
//! of the library's own protocols are recognised by their first acceptable proposal and
//! handed over with everything read so far.

mod library_stream;
mod messages;
mod user_stream;

use std::io;

use bytes::BytesMut;
use futures::io::AsyncWriteExt as _;

use super::name::ProtocolName;
use crate::{fixed_limits::fixed_limit, memory::Charge, muxer::Substream};
pub(super) use library_stream::LibraryStream;
use messages::{HEADER, Messages, message};
pub use user_stream::UserStream;

const NOT_AVAILABLE: &[u8] = b"\x03na\n";

/// Longest protocol name in bytes that is negotiated or may be registered.
pub const MAX_NAME: usize = 256;
fixed_limit!("protocol name", bytes MAX_NAME);

/// Proposals answered on one stream before it is reset (SECURITY.md 3).
const MAX_PROPOSALS: usize = 128;
fixed_limit!("proposals on one stream", MAX_PROPOSALS);

/// What the listener does with a proposed name.
pub(super) enum Choice<T> {
    /// One of ours: acknowledge it.
    Accept(T),
    /// One of the library's: the swarm negotiates the rest.
    Library,
    /// Unknown here.
    Refuse,
}

/// How the negotiation of an inbound stream ended.
pub(super) enum Negotiated<T> {
    User {
        stream: UserStream,
        name: ProtocolName,
        choice: T,
    },
    Library(LibraryStream),
}

/// Negotiates an inbound stream. What is received is charged by `charge`. A name that is refused is
/// tried once more after `settled`. The caller sets the deadline.
pub(super) async fn listen<T, F: Future<Output = ()>>(
    stream: Substream,
    charge: Option<Charge>,
    choose: impl Fn(&[u8]) -> Choice<T>,
    settled: impl Fn() -> F,
) -> io::Result<Negotiated<T>> {
    let mut messages = Messages::new(stream, charge);
    messages.expect_header().await?;
    // The header waits for the first answer, so that most negotiations cost one frame; but
    // some dialers propose only after they have seen it.
    let mut header_sent = false;
    if messages.received().is_empty() {
        messages.send(HEADER).await?;
        header_sent = true;
    }
    for number in 0..MAX_PROPOSALS {
        let proposal = match messages.next().await {
            Ok(proposal) => proposal,
            Err(error) if number > 0 => {
                // Payload behind a name that was refused: a reset would overtake the
                // refusal, which the dialer has not read yet.
                let _ = messages.stream.close_only().close().await;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        let mut answer = BytesMut::new();
        if !header_sent {
            answer.extend_from_slice(HEADER);
        }
        let mut chosen = choose(&proposal);
        if matches!(chosen, Choice::Refuse) {
            settled().await;
            chosen = choose(&proposal);
        }
        match chosen {
            Choice::Accept(choice) => {
                message(&proposal, &mut answer);
                messages.send(&answer).await?;
                let (stream, received) = messages.into_parts();
                return Ok(Negotiated::User {
                    stream: UserStream::new(stream, received),
                    name: proposal[..].into(),
                    choice,
                });
            }
            Choice::Library => {
                return Ok(Negotiated::Library(replayed(
                    messages,
                    &proposal,
                    header_sent,
                )));
            }
            Choice::Refuse => {
                answer.extend_from_slice(NOT_AVAILABLE);
                messages.send(&answer).await?;
                header_sent = true;
            }
        }
    }
    Err(io::Error::other("too many protocol proposals"))
}

/// The stream as the library has to see it: from the first byte on, and with its own header
/// swallowed if that was sent already.
fn replayed(messages: Messages, proposal: &[u8], header_sent: bool) -> LibraryStream {
    let mut replay = BytesMut::from(HEADER);
    message(proposal, &mut replay);
    replay.extend_from_slice(messages.received());
    let swallow = if header_sent { HEADER.len() } else { 0 };
    let (stream, _) = messages.into_parts();
    LibraryStream::new(stream.close_only(), replay.freeze(), swallow)
}

/// Why no protocol was agreed on.
#[derive(Debug, thiserror::Error)]
pub enum NegotiationError {
    /// The remote speaks none of the proposed protocols.
    #[error("protocols not supported")]
    NotSupported,
    /// The stream failed first.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether a remote could tell the name from another, or from the end of a message.
fn can_be_proposed(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains(&b'\n')
}

/// Proposes `names` in order and waits for the remote's choice. What is received is charged by
/// `charge`.
///
/// Returns the stream and the index of the agreed name.
pub(super) async fn dial(
    stream: Substream,
    charge: Option<Charge>,
    names: &[ProtocolName],
) -> Result<(UserStream, usize), NegotiationError> {
    let mut messages = Messages::new(stream, charge);
    let mut first = true;
    let names = names.iter().map(ProtocolName::as_bytes).enumerate();
    for (index, name) in names.filter(|(_, name)| can_be_proposed(name)) {
        let mut proposal = BytesMut::new();
        if first {
            proposal.extend_from_slice(HEADER);
        }
        message(name, &mut proposal);
        messages.send(&proposal).await?;
        if first {
            messages.expect_header().await?;
            first = false;
        }
        let answer = messages.next().await?;
        if answer == name {
            let (stream, received) = messages.into_parts();
            return Ok((UserStream::new(stream, received), index));
        }
        if answer != b"na"[..] {
            return Err(io::Error::other("unexpected answer to a protocol proposal").into());
        }
    }
    Err(NegotiationError::NotSupported)
}

/// Proposes the one name that the remote is known to speak and does not wait: the answer is
/// checked when the stream is first read, as in Go.
pub(super) async fn dial_lazily(stream: Substream, name: &ProtocolName) -> io::Result<UserStream> {
    let (mut stream, proposal) = propose(stream, name);
    stream.write_all(&proposal).await?;
    stream.flush().await?;
    Ok(stream)
}

/// As [`dial_lazily`], but leaves it to the caller to send the proposal, together with the
/// first bytes of payload.
pub(super) fn propose(stream: Substream, name: &ProtocolName) -> (UserStream, BytesMut) {
    let mut proposal = BytesMut::from(HEADER);
    message(name.as_bytes(), &mut proposal);
    let stream = UserStream::expecting(stream, proposal.clone().freeze());
    (stream, proposal)
}
