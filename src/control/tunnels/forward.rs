//! Connections to a local port, carried to a peer.

use std::{net::IpAddr, slice, sync::Arc, time::Duration};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use super::{
    Shared, TunnelError,
    bind::{self, Port},
    tunnel::{Carried, Forward, Tunnel},
};
use crate::{
    control::{accept::accepted, guard::Guard, response::text, socket::Socket},
    descriptors::RESERVE,
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    streams::{RequestOrigin, UserStream},
    wire::maddr::{ControlAddr, Host},
};

/// Time to reach the peer and agree on the protocol, for each connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
fixed_limit!("connection of a tunnel to its peer", time OPEN_TIMEOUT);

/// Time for the file system to make or to remove the file of a socket.
const FILE_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection is looked after for the first time, to see whether it is still there.
const HASTE: Duration = Duration::from_secs(1);

/// Ports below are for services of the host, unless the daemon's own user wants one.
const FIRST_USER_PORT: u16 = 1024;

/// What is said when the peer takes a stream and resets it at once.
const REFUSED: &str =
    "the peer has reset the stream: it does not allow this daemon, or its service does not answer";

/// Binds the port that `wanted` names, if a request from `origin` may have it.
pub(super) async fn listen(
    guard: &Guard,
    origin: RequestOrigin,
    wanted: &Forward,
) -> Result<(Port, ControlAddr), TunnelError> {
    let addr = &wanted.listen;
    let trusted = guard.acts_as_daemon(origin);
    match addr {
        // What the daemon makes is made with its rights.
        ControlAddr::Unix(_) if !trusted => return Err(TunnelError::OutOfReach(addr.to_string())),
        ControlAddr::Unix(_) => {}
        ControlAddr::Tcp { host, port } => {
            let ip: IpAddr = match host {
                Host::Ip4(ip) => (*ip).into(),
                Host::Ip6(ip) => (*ip).into(),
                Host::Dns(_) | Host::Dns4(_) | Host::Dns6(_) => {
                    return Err(TunnelError::Named(addr.to_string()));
                }
            };
            if !ip.to_canonical().is_loopback() && !wanted.any_interface {
                return Err(TunnelError::Exposed(addr.to_string()));
            }
            if (1..FIRST_USER_PORT).contains(port) && !trusted {
                return Err(TunnelError::OutOfReach(addr.to_string()));
            }
        }
    }
    let mode = if wanted.uids.is_empty() { 0o600 } else { 0o666 };
    bind::port(addr.clone(), mode, FILE_TIMEOUT)
        .await
        .map_err(TunnelError::Bind)
}

/// A forward that takes connections.
pub(super) struct Accepting {
    pub(super) tunnel: Arc<Tunnel>,
    pub(super) shared: Arc<Shared>,
    /// Who may connect to a unix path.
    pub(super) users: Vec<u32>,
    pub(super) wanted: Forward,
}

impl Accepting {
    /// Takes connections until the tunnel or the daemon ends. The port is free when it returns.
    pub(super) async fn run(self, port: Port) {
        let (tunnel, shared) = (self.tunnel.clone(), self.shared.clone());
        let accepting = Arc::new(self);
        let accept = async {
            loop {
                let socket = accepted(|cx| port.poll_accept(cx)).await;
                accepting.clone().take(socket);
            }
        };
        let closing = &shared.parts.closing;
        let taking = closing.run_until_cancelled(accept);
        let _: Option<Option<()>> = tunnel.closed.run_until_cancelled(taking).await;
        // A file system that hangs holds up no worker, and the end only for a moment.
        let gone = tokio::task::spawn_blocking(move || drop(port));
        let _ = timeout(FILE_TIMEOUT, gone).await;
    }

    /// Carries the connection, or resets it.
    fn take(self: Arc<Self>, socket: Socket) {
        // Until both sides have ended, to be dropped is to be reset.
        socket.set_abortive(true);
        let (tunnel, peer) = (&self.tunnel, self.wanted.peer);
        let own = tunnel.place();
        let all = self.shared.forwarded.clone().try_acquire_owned().ok();
        let (Some(own), Some(all)) = (own, all) else {
            tunnel.fail(peer, "too many connections".to_owned());
            return;
        };
        if let Err(reason) = self.admit(&socket) {
            Limit::TunnelPeers.hit();
            tunnel.fail(peer, reason);
            return;
        }
        if !self.shared.parts.descriptors.can_spare(RESERVE) {
            Limit::Descriptors.hit();
            tunnel.fail(peer, "no file descriptors are left".to_owned());
            return;
        }
        let tasks = self.shared.parts.tasks.clone();
        // Boxed before the rest, so that what lasts does not carry the larger state of the dial
        // along.
        let opening = Box::pin(self.open(socket, vec![own, all]));
        tasks.spawn(async move {
            if let Some(carried) = opening.await {
                carried.run().await;
            }
        });
    }

    /// Whether whoever is at the other end of `socket` may use the tunnel.
    fn admit(&self, socket: &Socket) -> Result<(), String> {
        let unknown = |error: std::io::Error| format!("client unknown: {error}");
        match socket {
            Socket::Unix(stream) => {
                let uid = stream.peer_cred().map_err(unknown)?.uid();
                match self.users.contains(&uid) {
                    true => Ok(()),
                    false => Err(format!("user {uid} is not allowed")),
                }
            }
            Socket::Tcp(stream) => {
                let ip = stream.peer_addr().map_err(unknown)?.ip().to_canonical();
                let networks = &self.wanted.networks;
                let listed = networks.iter().any(|network| network.contains(&ip));
                match ip.is_loopback() || networks.is_empty() || listed {
                    true => Ok(()),
                    false => Err(format!("address {ip} is not allowed")),
                }
            }
        }
    }

    async fn open(
        self: Arc<Self>,
        socket: Socket,
        places: Vec<OwnedSemaphorePermit>,
    ) -> Option<Carried> {
        let (tunnel, parts) = (self.tunnel.clone(), &self.shared.parts);
        let peer = self.wanted.peer;
        let open = tunnel.open();
        let reaching = parts.closing.run_until_cancelled(self.reach());
        let reaching = tunnel.closed.run_until_cancelled(reaching);
        let reached = tokio::select! {
            biased;
            reached = reaching => reached??,
            // As far as the socket tells.
            () = socket.gone(HASTE) => return None,
        };
        match reached {
            Ok(stream) => {
                let (stream, drain) = ((stream, open), parts.drain.clone());
                let mute = Some(REFUSED);
                Some(Carried::new(
                    tunnel, peer, socket, stream, drain, mute, places,
                ))
            }
            Err(reason) => {
                tunnel.fail(peer, reason);
                None
            }
        }
    }

    /// A stream to the peer, or why there is none.
    async fn reach(&self) -> Result<UserStream, String> {
        let deadline = Instant::now() + OPEN_TIMEOUT;
        let node = &self.shared.parts.node;
        let Forward {
            peer,
            protocol,
            addresses,
            ..
        } = &self.wanted;
        if !addresses.is_empty() && !node.is_connected(peer) {
            let connected = node.connect(*peer, addresses.clone(), deadline).await;
            connected.map_err(|error| text::dial_error(&error))?;
        }
        let protocols = slice::from_ref(protocol);
        match node.open_stream(*peer, protocols, deadline).await {
            Ok(opened) => Ok(opened.stream),
            Err(error) => Err(text::stream_error(&error, protocols)),
        }
    }
}
