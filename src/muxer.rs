//! Stream multiplexing: every connection is driven by a task of its own.
//!
//! The library's swarm holds a [`Muxer`], which is only a door to that task. Payload,
//! new streams and negotiation of user protocols therefore never pass through the swarm or
//! its per-connection state machine; only the built-in protocols do, handed over by
//! [`Host::inbound`].

mod buffered;
mod connection;
mod engine;
mod quic;
mod stream_counts;
mod substream;
mod task;
mod turn;
mod yamux;

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::{
    FutureExt as _,
    io::{AsyncRead, AsyncWrite},
    task::AtomicWaker,
};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, PollSender};

use buffered::Buffered;
pub use connection::Connection;
use engine::Engine;
pub use substream::Substream;
pub(crate) use yamux::fuzzing;

use crate::fixed_limits::fixed_limit;

/// Inbound streams admitted on one connection; a further one is reset, and the connection
/// stays. Several times the thousands that a busy peer needs.
pub const MAX_STREAMS: usize = 16 * 1024;

/// Opens that may wait for one connection (SECURITY.md 3); further callers wait to ask.
pub(crate) const MAX_WAITING_OPENS: usize = 256;
fixed_limit!(
    "outbound streams that wait for one connection",
    MAX_WAITING_OPENS
);

/// What may wait to be read on a quic connection, in bytes (the library's own value).
const QUIC_WINDOW: u64 = 15_000_000;

/// The part of the process's memory that it may be (SECURITY.md 3).
const QUIC_SHARE: u64 = 256;

/// It is at least so much, whatever the memory is.
const MIN_QUIC_WINDOW: u64 = 512 * 1024;
fixed_limit!("quic window at least", bytes MIN_QUIC_WINDOW);

/// What the quic library may hold of what was written to the streams of a connection and has not been
/// acknowledged, in bytes (its own value).
const QUIC_UNSENT: u64 = 10_000_000;

/// What may wait to be read on a quic connection of a process that may use `memory` bytes, 0 if that
/// is unknown; two thirds of it on one stream.
#[must_use]
pub fn quic_window(memory: u64) -> u32 {
    let share = match memory {
        0 => QUIC_WINDOW,
        memory => (memory / QUIC_SHARE).clamp(MIN_QUIC_WINDOW, QUIC_WINDOW),
    };
    u32::try_from(share).unwrap_or(u32::MAX)
}

/// What the mplex library lets wait to be read on a stream: 32 frames of 1 MiB.
const MPLEX_BUFFER: u64 = 32 << 20;

/// Streams handed to the swarm and not yet taken by it.
const MAX_HANDED: usize = 64;
fixed_limit!("streams handed to identify and ping", MAX_HANDED);

/// A secured, authenticated byte stream.
pub trait SecureStream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> SecureStream for T {}

/// Boxed because the security protocol is chosen while connecting.
pub type SecureIo = Pin<Box<dyn SecureStream>>;

/// Who learns of connections and of their inbound streams.
pub trait Host: Send + Sync + 'static {
    /// The connection is up and may be used.
    fn connected(&self, connection: &Arc<Connection>);
    /// The connection is gone; nothing more will come of it.
    fn disconnected(&self, connection: &Arc<Connection>);
    /// Inbound streams that one connection may have, [`MAX_STREAMS`] at most.
    fn max_streams(&self) -> usize;
    /// The remote opened `stream` on `connection`. Streams of the library's own protocols go to `swarm`.
    fn inbound(&self, connection: &Arc<Connection>, stream: Substream, swarm: Handover);
    /// An inbound stream was refused because the connection has as many as it may.
    fn refused(&self, connection: &Arc<Connection>);
}

/// A stream that the swarm negotiates itself.
pub type SwarmStream = Pin<Box<dyn SecureStream>>;

/// Passes inbound streams on to the swarm.
pub type Handover = mpsc::Sender<SwarmStream>;

/// The swarm's view of one connection.
pub struct Muxer(State);

enum State {
    /// Not polled yet: the swarm has not accepted the connection.
    Accepted(Option<task::Pending>),
    Running(Running),
    Closed,
}

struct Running {
    requests: PollSender<connection::Request>,
    handed: mpsc::Receiver<SwarmStream>,
    opening: Option<oneshot::Receiver<io::Result<Substream>>>,
    close: CancellationToken,
    done: oneshot::Receiver<io::Error>,
    _abort: tokio_util::sync::DropGuard,
}

impl fmt::Debug for Muxer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Accepted(_) => "Muxer(accepted)",
            State::Running(_) => "Muxer(running)",
            State::Closed => "Muxer(closed)",
        })
    }
}

/// Which multiplexer to run over a secured connection.
pub enum Protocol {
    /// `/yamux/1.0.0` over a secured byte stream.
    Yamux {
        /// The byte stream.
        io: SecureIo,
        /// Whether this side dialed.
        dialer: bool,
    },
    /// `/mplex/6.7.0`.
    Mplex(libp2p_mplex::Multiplex<SecureIo>),
    /// A quic connection multiplexes by itself.
    Quic {
        /// The connection.
        connection: libp2p::quic::Connection,
        /// What may wait to be read on it, in bytes; see [`quic_window`].
        window: u32,
    },
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yamux { .. } => "Yamux",
            Self::Mplex(_) => "Mplex",
            Self::Quic { .. } => "Quic",
        })
    }
}

impl Protocol {
    /// The name under which it is negotiated; none on quic.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Yamux { .. } => "/yamux/1.0.0",
            Self::Mplex(_) => "/mplex/6.7.0",
            Self::Quic { .. } => "",
        }
    }

    fn engine(self) -> Box<dyn Engine> {
        let driver = Arc::new(AtomicWaker::new());
        match self {
            Self::Yamux { io, dialer } => Box::new(yamux::YamuxEngine::new(io, dialer)),
            Self::Mplex(muxer) => Box::new(engine::Library {
                muxer,
                wrap: Substream::mplex,
                driver,
                buffered: Arc::new(Buffered {
                    window: MPLEX_BUFFER,
                    windows: u64::MAX,
                    ..Buffered::default()
                }),
            }),
            Self::Quic { connection, window } => Box::new(engine::Library {
                muxer: connection,
                wrap: |stream, _, reader| Substream::quic(stream, reader),
                driver,
                buffered: Arc::new(Buffered {
                    window: u64::from(window / 3 * 2),
                    windows: window.into(),
                    unseen: u64::from(window) + QUIC_UNSENT,
                    ..Buffered::default()
                }),
            }),
        }
    }
}

impl Muxer {
    /// A connection to `peer`, whose address is `remote` (without `/p2p/<peer>`); `dialed` from
    /// this side or not. `security` is the name of its security protocol, empty on quic.
    ///
    /// Its task starts when the swarm first polls it.
    pub fn new(
        protocol: Protocol,
        peer: PeerId,
        remote: Multiaddr,
        dialed: bool,
        security: &'static str,
        host: Arc<dyn Host>,
    ) -> Self {
        Self(State::Accepted(Some(task::Pending {
            security,
            muxer: protocol.name(),
            engine: protocol.engine(),
            peer,
            remote,
            dialed,
            host,
        })))
    }

    fn running(&mut self) -> io::Result<&mut Running> {
        if let State::Accepted(connection) = &mut self.0 {
            self.0 = match connection.take() {
                Some(connection) => State::Running(connection.start()),
                None => State::Closed,
            };
        }
        match &mut self.0 {
            State::Running(running) => Ok(running),
            State::Accepted(_) | State::Closed => Err(gone()),
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "connection closed")
}

impl StreamMuxer for Muxer {
    type Substream = SwarmStream;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SwarmStream>> {
        match self.running()?.handed.poll_recv(cx) {
            Poll::Ready(Some(stream)) => Poll::Ready(Ok(stream)),
            // The task's end is reported by `poll`, with its reason.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SwarmStream>> {
        let running = self.running()?;
        loop {
            if let Some(opening) = &mut running.opening {
                let answer = ready!(opening.poll_unpin(cx));
                running.opening = None;
                return Poll::Ready(match answer {
                    Ok(stream) => stream.map(|mut stream| {
                        stream.set_background();
                        Box::pin(stream.close_only()) as SwarmStream
                    }),
                    Err(_) => Err(gone()),
                });
            }
            // Users' streams wait in the same queue, for as long as the remote acknowledges none.
            if ready!(running.requests.poll_reserve(cx)).is_err() {
                return Poll::Ready(Err(gone()));
            }
            let (reply, stream) = oneshot::channel();
            let request = connection::Request::Open(reply);
            if running.requests.send_item(request).is_err() {
                return Poll::Ready(Err(gone()));
            }
            running.opening = Some(stream);
        }
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Running(running) => {
                running.close.cancel();
                let _ = ready!(running.done.poll_unpin(cx));
                self.0 = State::Closed;
                Poll::Ready(Ok(()))
            }
            State::Accepted(_) | State::Closed => {
                self.0 = State::Closed;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let ended = ready!(self.running()?.done.poll_unpin(cx));
        self.0 = State::Closed;
        Poll::Ready(Err(ended.unwrap_or_else(|_| gone())))
    }
}
