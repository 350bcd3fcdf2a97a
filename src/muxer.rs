//! Stream multiplexing: every connection is driven by a task of its own.
//!
//! The library's swarm holds a [`Muxer`], which is only a door to that task. Payload,
//! new streams and negotiation of user protocols therefore never pass through the swarm or
//! its per-connection state machine; only the built-in protocols do, handed over by
//! [`Host::inbound`].

mod buffered;
mod connection;
mod engine;
mod stream_counts;
mod substream;
mod task;
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
use stream_counts::StreamCounts;
pub use substream::Substream;
pub(crate) use yamux::fuzzing;

/// Inbound streams admitted on one connection; a further one is reset, and the connection
/// stays. Several times the thousands that a busy peer needs.
pub const MAX_STREAMS: usize = 16 * 1024;

/// Opens that may wait for one connection (SECURITY.md 3); further callers wait to ask.
pub(crate) const MAX_WAITING_OPENS: usize = 256;

/// What may wait to be read on a quic stream and on a quic connection, in bytes (the library's own
/// values).
pub const QUIC_STREAM_WINDOW: u32 = 10_000_000;
/// See [`QUIC_STREAM_WINDOW`].
pub const QUIC_WINDOW: u32 = 15_000_000;

/// What the mplex library lets wait to be read on a stream: 32 frames of 1 MiB.
const MPLEX_BUFFER: u64 = 32 << 20;

/// Streams handed to the swarm and not yet taken by it.
const MAX_HANDED: usize = 64;

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
    streams: Arc<StreamCounts>,
    opens: PollSender<connection::OpenRequest>,
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
    Quic(libp2p::quic::Connection),
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yamux { .. } => "Yamux",
            Self::Mplex(_) => "Mplex",
            Self::Quic(_) => "Quic",
        })
    }
}

impl Protocol {
    /// The name under which it is negotiated; none on quic.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Yamux { .. } => "/yamux/1.0.0",
            Self::Mplex(_) => "/mplex/6.7.0",
            Self::Quic(_) => "",
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
            Self::Quic(muxer) => Box::new(engine::Library {
                muxer,
                wrap: |stream, _, reader| Substream::quic(stream, reader),
                driver,
                buffered: Arc::new(Buffered {
                    window: QUIC_STREAM_WINDOW.into(),
                    windows: QUIC_WINDOW.into(),
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
                    Ok(stream) => stream.map(|stream| {
                        let mut stream = stream.counted(running.streams.add_outbound());
                        stream.set_background();
                        Box::pin(stream.close_only()) as SwarmStream
                    }),
                    Err(_) => Err(gone()),
                });
            }
            // Users' streams wait in the same queue, for as long as the remote acknowledges none.
            if ready!(running.opens.poll_reserve(cx)).is_err() {
                return Poll::Ready(Err(gone()));
            }
            let (reply, stream) = oneshot::channel();
            if running
                .opens
                .send_item(connection::OpenRequest { reply })
                .is_err()
            {
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
