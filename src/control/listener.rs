//! The control socket: bound before the daemon does anything else, guarded, removed at exit.

pub(super) mod bind;
pub(super) mod lock;

use std::{
    io,
    sync::Arc,
    task::{Context as Waker, Poll, ready},
};

use futures::FutureExt as _;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    accept::{ACCEPT_PAUSE, accepted},
    arrivals::{Arrivals, Attention, Serving},
    context::Context,
    persistent::Connections,
    session::Session,
    socket::Socket,
};
use crate::{
    descriptors::{Descriptors, RESERVE},
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    systemd::Inherited,
    wire::maddr::ControlAddr,
};
pub use bind::BindError;
use bind::{Bound, SocketFile};

/// Clients that may send requests at once; further ones wait to be accepted. A connection
/// that has become a pipe no longer counts: streams have limits of their own.
pub(crate) const MAX_CLIENTS: usize = 8 * 1024;
fixed_limit!("control connections", MAX_CLIENTS);

/// A bound control socket.
#[derive(Debug)]
pub struct Listener {
    bound: Bound,
    addr: ControlAddr,
}

impl Listener {
    /// Binds `addr`. A unix socket has `mode` (permission bits) and `group` from before the
    /// first client can connect.
    ///
    /// Must be called while the process has one thread: the mode is set by way of the umask.
    ///
    /// # Errors
    /// In Go's words. A stale unix socket is replaced; a live one, one of another user and
    /// any other file is left alone and reported as in use.
    pub fn bind(addr: &ControlAddr, mode: u32, group: Option<u32>) -> Result<Self, BindError> {
        let (bound, addr) = bind::bind(addr, mode, group)?;
        Ok(Self { bound, addr })
    }

    /// Takes over a socket that a service manager has bound. Its mode and its group are the
    /// manager's, and its file stays.
    ///
    /// # Errors
    /// If it has no address that clients could be told.
    pub fn inherited(socket: Inherited) -> Result<Self, BindError> {
        let (bound, addr) = bind::inherited(socket)?;
        Ok(Self { bound, addr })
    }

    /// The bound address, with the true port.
    #[must_use]
    pub fn addr(&self) -> &ControlAddr {
        &self.addr
    }

    /// Whether clients on other machines can connect.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        match &self.bound {
            Bound::Unix(..) => false,
            Bound::Tcp(listener) => listener
                .local_addr()
                .is_ok_and(|address| !address.ip().is_loopback()),
        }
    }

    /// Accepts clients until `stop`, each served by a task of `tasks`, as long as `descriptors`
    /// has more than the reserve. The socket file is gone when this returns.
    ///
    /// # Errors
    /// If the socket cannot be used with the runtime.
    pub async fn run(
        self,
        context: Arc<Context>,
        persistent: Arc<Connections>,
        tasks: TaskTracker,
        descriptors: Descriptors,
        stop: CancellationToken,
    ) -> io::Result<()> {
        let (acceptor, _file) = Acceptor::new(self.bound, &context.arrivals)?;
        let clients = context.places.clone();
        let accept = async {
            loop {
                if clients.available_permits() == 0 {
                    Limit::Clients.hit();
                    context.arrivals.set_full(true);
                }
                let Ok(permit) = clients.clone().acquire_owned().await else {
                    return;
                };
                if !descriptors.can_spare(RESERVE) {
                    Limit::Descriptors.hit();
                    context.arrivals.set_full(true);
                    while !descriptors.can_spare(RESERVE) {
                        sleep(ACCEPT_PAUSE).await;
                    }
                }
                context.arrivals.set_full(false);
                let accept = |cx: &mut Waker<'_>| acceptor.poll_accept(&context.arrivals, cx);
                let (socket, arrived) = accepted(accept).await;
                let attention = Attention::new(arrived);
                let (context, persistent) = (context.clone(), persistent.clone());
                let session = Session::new(socket, context, persistent, permit, attention);
                tasks.spawn(session.run().map(|ended| {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "client connection ended");
                    }
                }));
            }
        };
        stop.run_until_cancelled(accept).await;
        Ok(())
    }
}

enum Acceptor {
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

impl Acceptor {
    /// Registers the socket with the runtime and with `arrivals`. The file is to be kept for as
    /// long as clients are accepted.
    fn new(bound: Bound, arrivals: &Arrivals) -> io::Result<(Self, Option<SocketFile>)> {
        Ok(match bound {
            Bound::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                arrivals.listen(&listener);
                let listener = tokio::net::UnixListener::from_std(listener)?;
                (Self::Unix(listener), file)
            }
            Bound::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                arrivals.listen(&listener);
                (
                    Self::Tcp(tokio::net::TcpListener::from_std(listener)?),
                    None,
                )
            }
        })
    }

    /// The next client. It counts as being served from before it leaves the queue.
    fn poll_accept(
        &self,
        arrivals: &Arc<Arrivals>,
        cx: &mut Waker<'_>,
    ) -> Poll<io::Result<(Socket, Serving)>> {
        let arrived = arrivals.serve();
        let accepted = match self {
            Self::Unix(listener) => {
                ready!(listener.poll_accept(cx)).map(|(stream, _)| Socket::Unix(stream))
            }
            Self::Tcp(listener) => {
                ready!(listener.poll_accept(cx)).and_then(|(stream, _)| Socket::tcp(stream))
            }
        };
        Poll::Ready(accepted.map(|socket| (socket, arrived)))
    }
}
