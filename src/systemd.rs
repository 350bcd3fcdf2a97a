//! Talks to a service manager, as sd_notify(3) and sd_listen_fds(3) describe: a socket that it has
//! bound, readiness, the end, and the watchdog.
//!
//! Nothing of it happens unless the environment asks for it.

use std::{io, net::TcpListener, os::unix::net::UnixListener, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{interval, timeout};

use crate::node::Node;

/// How long the end of the daemon waits for the manager to take the message.
const PATIENCE: Duration = Duration::from_millis(200);

/// A listening socket that the manager has bound.
#[derive(Debug)]
pub enum Inherited {
    /// A unix socket, whose file is the manager's.
    Unix(UnixListener),
    /// A TCP socket.
    Tcp(TcpListener),
}

/// Why the manager's sockets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// One control socket is all that a daemon has.
    #[error("{0} sockets were passed: the unit must have one ListenStream=")]
    Count(usize),
    /// Not a listening stream socket.
    #[error("the socket that was passed cannot be used: it must be a ListenStream=")]
    Kind(#[source] io::Error),
}

/// The control socket that the manager passes, if it does. To be called once, before there are
/// threads: the environment is read and changed.
///
/// # Errors
/// [`InheritError`]: sockets were passed, and the daemon cannot serve clients on them.
pub fn control_socket() -> Result<Option<Inherited>, InheritError> {
    let mut passed = ListenFd::from_env();
    match passed.len() {
        0 => return Ok(None),
        1 => {}
        more => return Err(InheritError::Count(more)),
    }
    if let Ok(Some(listener)) = passed.take_unix_listener(0) {
        return Ok(Some(Inherited::Unix(listener)));
    }
    let listener = passed.take_tcp_listener(0).map_err(InheritError::Kind)?;
    Ok(listener.map(Inherited::Tcp))
}

/// Tells the manager that the daemon is ready, and from then on, as often as it wants, that it is
/// alive: each time after the task that owns the swarm has answered. A swarm that hangs keeps the
/// message back, and the manager restarts the daemon.
pub async fn attend(node: Node) {
    tell(NotifyState::Ready, format!("serving as {}", node.peer_id())).await;
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    // Half the limit is what sd_watchdog_enabled(3) advises.
    let mut beat = interval((limit / 2).max(Duration::from_millis(1)));
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        node.take_turn().await;
        send(|| sd_notify::notify(&[NotifyState::Watchdog])).await;
    }
}

/// Tells the manager that the end has begun.
pub async fn stopping() {
    // A manager that does not read keeps nobody from ending.
    let told = tell(NotifyState::Stopping, "draining".into());
    let _ = timeout(PATIENCE, told).await;
}

async fn tell(state: NotifyState<'static>, status: String) {
    send(move || sd_notify::notify(&[state, NotifyState::Status(&status)])).await;
}

/// Sends one message. The manager's socket may be full, so no worker waits for it.
async fn send(message: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let sent = tokio::task::spawn_blocking(message).await;
    if let Ok(Err(error)) = sent {
        tracing::warn!(%error, "the service manager was not told");
    }
}
