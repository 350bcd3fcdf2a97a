//! multistream-select for user protocols.
//!
//! The library's negotiator refuses names without a leading slash, which Hivemind and
//! others use; on user streams rp2pd therefore speaks `/multistream/1.0.0` itself. Streams
//! of the library's own protocols are recognised by their first acceptable proposal and
//! handed over with everything read so far.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    muxer::Substream,
    wire::frame::{self, Source},
};

const HEADER: &[u8] = b"\x13/multistream/1.0.0\n";
const HEADER_NAME: &[u8] = b"/multistream/1.0.0\n";
const NOT_AVAILABLE: &[u8] = b"\x03na\n";

/// Longest protocol name in bytes that is negotiated or may be registered.
pub const MAX_NAME: usize = 256;

/// Proposals answered on one stream before it is reset (SECURITY.md 3).
const MAX_PROPOSALS: usize = 128;

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
        name: String,
        choice: T,
    },
    Library(LibraryStream),
}

struct Messages {
    stream: Substream,
    buffer: BytesMut,
}

impl Messages {
    /// Reads one message, without its newline.
    async fn next(&mut self) -> io::Result<Bytes> {
        loop {
            if let Some(mut message) =
                frame::take(&mut self.buffer, MAX_NAME + 1).map_err(io::Error::other)?
            {
                if message.last() != Some(&b'\n') {
                    return Err(io::Error::other("multistream message without newline"));
                }
                message.truncate(message.len() - 1);
                return Ok(message);
            }
            let mut chunk = [0; 512];
            match self.stream.read(&mut chunk).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    async fn expect_header(&mut self) -> io::Result<()> {
        if self.next().await? == HEADER_NAME[..HEADER_NAME.len() - 1] {
            Ok(())
        } else {
            Err(io::Error::other("not a multistream stream"))
        }
    }
}

fn message(name: &[u8], out: &mut BytesMut) {
    let mut payload = Vec::with_capacity(name.len() + 1);
    payload.extend_from_slice(name);
    payload.push(b'\n');
    frame::put(&payload, out);
}

/// Negotiates an inbound stream. A name that is refused is tried once more after `settled`. The
/// caller sets the deadline.
pub(super) async fn listen<T, F: Future<Output = ()>>(
    stream: Substream,
    choose: impl Fn(&str) -> Choice<T>,
    settled: impl Fn() -> F,
) -> io::Result<Negotiated<T>> {
    let mut messages = Messages {
        stream,
        buffer: BytesMut::new(),
    };
    messages.expect_header().await?;
    // The header waits for the first answer, so that most negotiations cost one frame; but
    // some dialers propose only after they have seen it.
    let mut header_sent = false;
    if messages.buffer.is_empty() {
        messages.stream.write_all(HEADER).await?;
        messages.stream.flush().await?;
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
        let name = std::str::from_utf8(&proposal).ok();
        let mut chosen = name.map_or(Choice::Refuse, &choose);
        if let (Choice::Refuse, Some(name)) = (&chosen, name) {
            settled().await;
            chosen = choose(name);
        }
        match chosen {
            Choice::Accept(choice) => {
                message(&proposal, &mut answer);
                messages.stream.write_all(&answer).await?;
                messages.stream.flush().await?;
                return Ok(Negotiated::User {
                    stream: UserStream {
                        io: messages.stream,
                        buffer: messages.buffer,
                        expected: None,
                    },
                    name: name.unwrap_or_default().to_owned(),
                    choice,
                });
            }
            Choice::Library => {
                let mut replay = BytesMut::from(HEADER);
                message(&proposal, &mut replay);
                replay.extend_from_slice(&messages.buffer);
                return Ok(Negotiated::Library(LibraryStream {
                    io: messages.stream.close_only(),
                    replay: replay.freeze(),
                    swallow: if header_sent { HEADER.len() } else { 0 },
                    permit: None,
                }));
            }
            Choice::Refuse => {
                answer.extend_from_slice(NOT_AVAILABLE);
                messages.stream.write_all(&answer).await?;
                messages.stream.flush().await?;
                header_sent = true;
            }
        }
    }
    Err(io::Error::other("too many protocol proposals"))
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
fn can_be_proposed(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.contains('\n')
}

/// Proposes `names` in order and waits for the remote's choice.
///
/// Returns the stream and the index of the agreed name.
pub(super) async fn dial(
    stream: Substream,
    names: &[String],
) -> Result<(UserStream, usize), NegotiationError> {
    let mut messages = Messages {
        stream,
        buffer: BytesMut::new(),
    };
    let mut first = true;
    let names = names.iter().enumerate();
    for (index, name) in names.filter(|(_, name)| can_be_proposed(name)) {
        let mut proposal = BytesMut::new();
        if first {
            proposal.extend_from_slice(HEADER);
        }
        message(name.as_bytes(), &mut proposal);
        messages.stream.write_all(&proposal).await?;
        messages.stream.flush().await?;
        if first {
            messages.expect_header().await?;
            first = false;
        }
        let answer = messages.next().await?;
        if answer == name.as_bytes() {
            return Ok((
                UserStream {
                    io: messages.stream,
                    buffer: messages.buffer,
                    expected: None,
                },
                index,
            ));
        }
        if answer != b"na"[..] {
            return Err(io::Error::other("unexpected answer to a protocol proposal").into());
        }
    }
    Err(NegotiationError::NotSupported)
}

/// Proposes the one name that the remote is known to speak and does not wait: the answer is
/// checked when the stream is first read, as in Go.
pub(super) async fn dial_lazily(stream: Substream, name: &str) -> io::Result<UserStream> {
    let (mut stream, proposal) = propose(stream, name);
    stream.write_all(&proposal).await?;
    stream.flush().await?;
    Ok(stream)
}

/// As [`dial_lazily`], but leaves it to the caller to send the proposal, together with the
/// first bytes of payload.
pub(super) fn propose(stream: Substream, name: &str) -> (UserStream, BytesMut) {
    let mut proposal = BytesMut::from(HEADER);
    message(name.as_bytes(), &mut proposal);
    let stream = UserStream {
        io: stream,
        buffer: BytesMut::new(),
        expected: Some(Bytes::copy_from_slice(&proposal)),
    };
    (stream, proposal)
}

/// A stream whose protocol is agreed on, or proposed to a remote known to speak it.
///
/// Closing finishes the sending side; dropping without closing resets.
#[derive(Debug)]
pub struct UserStream {
    io: Substream,
    /// Received but not yet read.
    buffer: BytesMut,
    /// What the remote must still answer before its first byte of payload.
    expected: Option<Bytes>,
}

impl UserStream {
    /// See [`Substream::close_only`].
    #[must_use]
    pub fn close_only(mut self) -> Self {
        self.io = self.io.close_only();
        self
    }

    /// See [`Substream::set_background`].
    pub(super) fn set_background(&mut self) {
        self.io.set_background();
    }

    /// See [`Substream::blocked`].
    pub fn blocked(&mut self, bytes: usize) {
        self.io.blocked(bytes);
    }

    fn poll_expected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(expected) = &self.expected {
            let n = expected.len().min(self.buffer.len());
            if self.buffer[..n] != expected[..n] {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::ConnectionRefused,
                    "protocol refused by the remote",
                )));
            }
            if n == expected.len() {
                self.buffer.advance(n);
                self.expected = None;
                break;
            }
            let mut chunk = [0; 512];
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))? {
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for UserStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.expected.is_some() {
            ready!(self.poll_expected(cx))?;
        }
        if !self.buffer.is_empty() {
            let n = self.buffer.len().min(buf.len());
            buf[..n].copy_from_slice(&self.buffer[..n]);
            self.buffer.advance(n);
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Source for UserStream {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(self), cx, buffer)
    }
}

impl AsyncWrite for UserStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}

/// An inbound stream for the library, which has read nothing and written at most the
/// multistream header.
#[derive(Debug)]
pub(super) struct LibraryStream {
    io: Substream,
    replay: Bytes,
    /// Bytes of the library's own header that are on the wire already.
    swallow: usize,
    /// The stream's place among all inbound streams.
    permit: Option<OwnedSemaphorePermit>,
}

impl LibraryStream {
    /// Counts the stream as one of the daemon's own, and keeps `permit` for as long as it.
    pub(super) fn counted(mut self, permit: OwnedSemaphorePermit) -> Self {
        self.io.set_background();
        self.permit = Some(permit);
        self
    }
}

impl AsyncRead for LibraryStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.replay.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.replay.len().min(buf.len());
        self.replay.copy_to_slice(&mut buf[..n]);
        Poll::Ready(Ok(n))
    }
}

impl AsyncWrite for LibraryStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallow > 0 && !buf.is_empty() {
            let n = self.swallow.min(buf.len());
            self.swallow -= n;
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_close(cx)
    }
}
