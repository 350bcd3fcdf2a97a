//! What makes of a raw connection one of a peer.

use std::{fmt, io, sync::Arc, time::Duration};

use futures::{AsyncRead, AsyncWrite};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, upgrade::Builder},
        upgrade::Version,
    },
    pnet::{PnetConfig, PreSharedKey},
};

use super::{
    security::{Handshake, Multiplex, Security},
    websocket::Websockets,
};
use crate::{fixed_limits::fixed_limit, muxer::Host, wss::Wss};

/// Raw connection and all upgrades together (go-libp2p's dial and accept timeouts).
pub(super) const UPGRADE_TIMEOUT: Duration = Duration::from_secs(15);
fixed_limit!("connection and all its upgrades", time UPGRADE_TIMEOUT);

/// A transport of raw connections, over which peers are secured and multiplexed.
pub(super) trait RawTransport:
    Transport<
        Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        Error: Send + Sync + 'static,
        Dial: Send + 'static,
        ListenerUpgrade: Send + 'static,
    > + Send
    + Unpin
    + 'static
{
}

impl<T> RawTransport for T where
    T: Transport<
            Output: AsyncRead + AsyncWrite + Send + Unpin + 'static,
            Error: Send + Sync + 'static,
            Dial: Send + 'static,
            ListenerUpgrade: Send + 'static,
        > + Send
        + Unpin
        + 'static
{
}

/// Tells the remote address of a connection to a peer.
pub(super) trait RemoteAddress:
    Fn(&ConnectedPoint, PeerId) -> Multiaddr + Clone + Send + 'static
{
}

impl<F> RemoteAddress for F where
    F: Fn(&ConnectedPoint, PeerId) -> Multiaddr + Clone + Send + 'static
{
}

/// How a raw connection is secured and multiplexed.
pub(super) struct Upgrades {
    /// Protects it before anything is negotiated.
    pub(super) network: Option<PreSharedKey>,
    /// What secures websockets beside that.
    pub(super) wss: Wss,
    pub(super) security: Security,
    pub(super) mplex: Option<libp2p_mplex::Config>,
    /// Connections report to it.
    pub(super) host: Arc<dyn Host>,
}

impl fmt::Debug for Upgrades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrades").finish_non_exhaustive()
    }
}

impl Upgrades {
    /// Websockets over `transport`, as [`Upgrades::apply`] has them.
    pub(super) fn websocket(
        &self,
        transport: impl RawTransport<Error = io::Error>,
        remote: impl RemoteAddress,
    ) -> Boxed<(PeerId, StreamMuxerBox)> {
        let websockets = Websockets::new(transport, self.wss.clone());
        self.apply(websockets, UPGRADE_TIMEOUT, remote)
    }

    /// `transport` with secured and multiplexed connections, which may take so long to be made.
    /// `remote` tells their remote addresses.
    pub(super) fn apply(
        &self,
        transport: impl RawTransport,
        timeout: Duration,
        remote: impl RemoteAddress,
    ) -> Boxed<(PeerId, StreamMuxerBox)> {
        let Some(network) = self.network else {
            return self.secured(transport, timeout, remote);
        };
        let network = PnetConfig::new(network);
        let protected = transport.and_then(move |io, _| network.handshake(io));
        self.secured(protected, timeout, remote)
    }

    fn secured(
        &self,
        transport: impl RawTransport,
        timeout: Duration,
        remote: impl RemoteAddress,
    ) -> Boxed<(PeerId, StreamMuxerBox)> {
        let (host, mplex) = (self.host.clone(), self.mplex.clone());
        Builder::new(transport, Version::V1Lazy)
            .authenticate(self.security.clone())
            .multiplex_ext(move |peer, endpoint| Multiplex {
                mplex: mplex.clone(),
                peer: *peer,
                remote: remote(endpoint, *peer),
                handshake: Handshake::taken(),
                host: host.clone(),
            })
            .timeout(timeout)
            .boxed()
    }
}
