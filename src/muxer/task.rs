//! The task that drives one connection.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, PollSender};

use super::{
    Handover, Host, MAX_HANDED, MAX_STREAMS, MAX_WAITING_OPENS, Running,
    connection::{Connection, Opener, Request},
    engine::Engine,
    turn::Turns,
};
use crate::{faults, fixed_limits::fixed_limit};

/// How long a closing connection may take to send what is queued. A remote that does not
/// read must not hold up DISCONNECT or the daemon's exit.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
fixed_limit!("closing a connection in order", time CLOSE_TIMEOUT);

/// How long to wait for the remote's own close after ours. Once it is seen, the remote no
/// longer counts this connection, which clients check right after DISCONNECT.
const REMOTE_CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// Inbound streams accepted before other tasks get a turn: at most, and however many are busy.
const ACCEPT_BURST: usize = 64;
const MIN_ACCEPT_BURST: usize = 2;

/// A connection that is not running yet.
pub(super) struct Pending {
    pub(super) engine: Box<dyn Engine>,
    pub(super) peer: PeerId,
    pub(super) remote: Multiaddr,
    pub(super) dialed: bool,
    pub(super) security: &'static str,
    pub(super) muxer: &'static str,
    pub(super) host: Arc<dyn Host>,
}

impl Pending {
    pub(super) fn start(self) -> Running {
        let (sender, requests) = mpsc::channel(MAX_WAITING_OPENS);
        let (handover, handed) = mpsc::channel(MAX_HANDED);
        let (ended, done) = oneshot::channel();
        let close = CancellationToken::new();
        let abort = CancellationToken::new();
        let connection = Arc::new(Connection {
            relayed: self.remote.iter().any(|part| part == Protocol::P2pCircuit),
            peer: self.peer,
            remote: self.remote,
            dialed: self.dialed,
            security: self.security,
            muxer: self.muxer,
            since: Instant::now(),
            requests: sender.clone(),
            streams: Arc::default(),
            buffered: self.engine.buffered(),
            abort: abort.clone(),
        });
        let task = Task {
            max_streams: self.host.max_streams().min(MAX_STREAMS),
            engine: self.engine,
            connection,
            host: self.host,
            requests,
            waiting: VecDeque::new(),
            handover,
            turns: Turns::default(),
            close: close.clone(),
            close_if_idle: false,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "ends with the swarm's side of the connection, by its drop guard"
        )]
        tokio::spawn(task.run(abort.clone(), ended));
        Running {
            requests: PollSender::new(sender),
            handed,
            opening: None,
            close,
            done,
            _abort: abort.drop_guard(),
        }
    }
}

struct Task {
    engine: Box<dyn Engine>,
    connection: Arc<Connection>,
    host: Arc<dyn Host>,
    requests: mpsc::Receiver<Request>,
    waiting: VecDeque<Opener>,
    handover: Handover,
    max_streams: usize,
    turns: Turns,
    /// Asks for an orderly end.
    close: CancellationToken,
    /// The same, if nobody uses the connection.
    close_if_idle: bool,
}

/// Keeps the host's table true however the task ends, also by a panic.
struct Registered(Arc<Connection>, Arc<dyn Host>);

impl Drop for Registered {
    fn drop(&mut self) {
        self.0.streams.set_gone();
        self.1.disconnected(&self.0);
    }
}

impl Task {
    /// Runs until the connection fails (`ended` gets the reason), is to be closed, or `abort` says
    /// that the swarm has dropped it.
    async fn run(mut self, abort: CancellationToken, ended: oneshot::Sender<io::Error>) {
        let close = self.close.clone();
        self.host.connected(&self.connection);
        let registered = Registered(self.connection.clone(), self.host.clone());
        let reason = tokio::select! {
            biased;
            () = close.cancelled() => {
                let closed = tokio::time::timeout(
                    CLOSE_TIMEOUT,
                    poll_fn(|cx| self.engine.poll_close(cx)),
                );
                if closed.await.is_ok() {
                    let _ = tokio::time::timeout(
                        REMOTE_CLOSE_TIMEOUT,
                        poll_fn(|cx| self.engine.poll_closed_by_remote(cx)),
                    )
                    .await;
                }
                io::Error::new(io::ErrorKind::ConnectionAborted, "connection closed")
            }
            () = abort.cancelled() => return,
            reason = poll_fn(|cx| self.poll(cx)) => reason,
        };
        // The remote sees the connection close only when it is no longer listed here, and
        // streams learn of the end before anyone who waits for the connection's end.
        drop(registered);
        drop(self);
        let _ = ended.send(reason);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.poll_streams(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn poll_streams(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        faults::point(format_args!("connection-{}", self.connection.peer));
        self.poll_requests(cx)?;
        loop {
            if self.turns.is_over(ACCEPT_BURST, MIN_ACCEPT_BURST) {
                cx.waker().wake_by_ref();
                break;
            }
            match self.engine.poll_inbound(cx) {
                Poll::Ready(Ok(stream)) => {
                    self.turns.did(1);
                    match self.connection.streams.add_inbound(self.max_streams) {
                        Some(guard) => self.host.inbound(
                            &self.connection,
                            stream.counted(guard),
                            self.handover.clone(),
                        ),
                        None => self.host.refused(&self.connection),
                    }
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => {
                    self.turns.rest();
                    break;
                }
            }
        }
        if let Poll::Ready(Err(error)) = self.engine.poll_flush(cx) {
            return Err(error);
        }
        // Here every stream is counted that was asked for or has come.
        let is_used = || !self.waiting.is_empty() || !self.requests.is_empty();
        if std::mem::take(&mut self.close_if_idle) && !is_used() && self.connection.is_idle() {
            self.close.cancel();
        }
        Ok(())
    }

    /// Opens the streams that are asked for, as far as the remote lets it.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.waiting.len() < MAX_WAITING_OPENS {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(Request::Open(opener))) => self.waiting.push_back(opener),
                Poll::Ready(Some(Request::CloseIfIdle)) => self.close_if_idle = true,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        while let Some(opener) = self.waiting.pop_front() {
            if opener.is_closed() {
                continue;
            }
            if self.engine.is_full() {
                let full = io::Error::new(io::ErrorKind::QuotaExceeded, "too many open streams");
                let _ = opener.send(Err(full));
                continue;
            }
            match self.engine.poll_outbound(cx) {
                Poll::Ready(stream) => {
                    let stream = stream?.counted(self.connection.streams.add_outbound());
                    // A caller that has gone drops the stream, which resets it.
                    let _ = opener.send(Ok(stream));
                }
                Poll::Pending => {
                    self.waiting.push_front(opener);
                    break;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
