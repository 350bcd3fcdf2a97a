//! Security and multiplexing upgrades, chosen at start from the configuration.

use std::{cell::Cell, io, sync::Arc, time::Instant, vec};

use futures::{
    FutureExt as _, TryFutureExt as _,
    future::BoxFuture,
    io::{AsyncRead, AsyncWrite},
};
use libp2p::{
    Multiaddr, PeerId,
    core::{
        UpgradeInfo,
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    identity::Keypair,
    noise,
};

use super::{
    plaintext,
    tls::{Tls, TlsError},
};
use crate::{
    metrics::{Carrier, metrics},
    muxer::{Host, Muxer, Protocol, SecureIo},
    wire::carrier::{ip_version, transport_name},
};

/// One of the security protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Tls,
    Noise,
    Plaintext,
}

impl Channel {
    fn name(self) -> &'static str {
        match self {
            Self::Tls => "/tls/1.0.0",
            Self::Noise => "/noise",
            Self::Plaintext => "/plaintext/2.0.0",
        }
    }
}

impl AsRef<str> for Channel {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

/// The security protocol of a connection, and when its handshake began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handshake {
    channel: Channel,
    begun: Instant,
}

thread_local! {
    static FINISHED: Cell<Option<Handshake>> = const { Cell::new(None) };
}

impl Handshake {
    fn begin(channel: Channel) -> Self {
        Self {
            channel,
            begun: Instant::now(),
        }
    }

    /// Leaves it for whoever builds the next upgrade of the same connection. The library passes on
    /// nothing but the peer and its bytes. It builds that upgrade in the same poll in which the
    /// security upgrade ends, so nothing else runs on the thread in between.
    fn finish(self) {
        FINISHED.set(Some(self));
    }

    /// What the security upgrade that has just ended has left.
    pub(super) fn taken() -> Option<Self> {
        FINISHED.take()
    }
}

/// Why the identity cannot be used for a security protocol.
#[derive(Debug, thiserror::Error)]
pub enum IdentityUnfit {
    /// It signs no key of noise.
    #[error(transparent)]
    Noise(noise::Error),
    /// It signs no certificate.
    #[error(transparent)]
    Tls(TlsError),
}

/// The enabled security protocols in the order a dialer proposes them.
#[derive(Clone)]
pub(super) struct Security {
    order: Vec<Channel>,
    identity: Keypair,
    noise: Option<noise::Config>,
    tls: Option<Tls>,
}

impl Security {
    /// # Errors
    /// If the key cannot sign a certificate or a noise payload.
    pub(super) fn new(
        identity: &Keypair,
        order: Vec<Channel>,
        hardware_aes: bool,
    ) -> Result<Self, IdentityUnfit> {
        let enabled = |channel| order.contains(&channel);
        Ok(Self {
            noise: enabled(Channel::Noise)
                .then(|| noise::Config::new(identity))
                .transpose()
                .map_err(IdentityUnfit::Noise)?,
            tls: enabled(Channel::Tls)
                .then(|| Tls::new(identity, hardware_aes))
                .transpose()
                .map_err(IdentityUnfit::Tls)?,
            identity: identity.clone(),
            order,
        })
    }
}

impl UpgradeInfo for Security {
    type Info = Channel;
    type InfoIter = vec::IntoIter<Channel>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.order.clone().into_iter()
    }
}

type Secured = BoxFuture<'static, io::Result<(PeerId, SecureIo)>>;

fn disabled() -> Secured {
    // Only enabled protocols are offered, so the negotiation cannot end here.
    Box::pin(futures::future::err(io::ErrorKind::Unsupported.into()))
}

/// An inbound connection could not be secured.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct Insecure {
    channel: Channel,
    source: io::Error,
}

impl Insecure {
    /// The protocol as go-libp2p calls it in its logs.
    pub(super) fn protocol(&self) -> &'static str {
        match self.channel {
            Channel::Tls => "tls",
            Channel::Noise => "noise",
            Channel::Plaintext => "plaintext",
        }
    }
}

macro_rules! secure {
    ($self:ident, $upgrade:ident, $tls:ident, $io:ident, $channel:ident) => {{
        let handshake = Handshake::begin($channel);
        let secured: Secured = match $channel {
            Channel::Noise => match $self.noise {
                Some(noise) => noise
                    .$upgrade($io, "/noise")
                    .map_ok(|(peer, io)| (peer, Box::pin(io) as SecureIo))
                    .map_err(io::Error::other)
                    .boxed(),
                None => disabled(),
            },
            Channel::Tls => match $self.tls {
                Some(tls) => tls
                    .$tls($io)
                    .map_ok(|(peer, io)| (peer, Box::pin(io) as SecureIo))
                    .boxed(),
                None => disabled(),
            },
            Channel::Plaintext => plaintext::handshake($io, $self.identity)
                .map_ok(|(peer, io)| (peer, Box::pin(io) as SecureIo))
                .boxed(),
        };
        secured.inspect_ok(move |_| handshake.finish()).boxed()
    }};
}

impl<C> InboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, SecureIo);
    type Error = io::Error;
    type Future = Secured;

    fn upgrade_inbound(self, io: C, channel: Channel) -> Secured {
        secure!(self, upgrade_inbound, accept, io, channel)
            .map_err(move |source| io::Error::new(source.kind(), Insecure { channel, source }))
            .boxed()
    }
}

impl<C> OutboundConnectionUpgrade<C> for Security
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Output = (PeerId, SecureIo);
    type Error = io::Error;
    type Future = Secured;

    fn upgrade_outbound(self, io: C, channel: Channel) -> Secured {
        secure!(self, upgrade_outbound, connect, io, channel)
    }
}

/// The one multiplexer that is offered, for a connection whose remote is known.
#[derive(Clone)]
pub(super) struct Multiplex {
    pub(super) mplex: Option<libp2p_mplex::Config>,
    pub(super) peer: PeerId,
    pub(super) remote: Multiaddr,
    pub(super) handshake: Option<Handshake>,
    pub(super) host: Arc<dyn Host>,
}

impl UpgradeInfo for Multiplex {
    type Info = &'static str;
    type InfoIter = std::iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        std::iter::once(if self.mplex.is_some() {
            "/mplex/6.7.0"
        } else {
            "/yamux/1.0.0"
        })
    }
}

impl Multiplex {
    fn upgrade(self, io: SecureIo, dialer: bool) -> BoxFuture<'static, io::Result<Muxer>> {
        Box::pin(async move {
            let protocol = match self.mplex {
                Some(config) => {
                    // The upgrade is the same from both sides.
                    Protocol::Mplex(config.upgrade_inbound(io, "/mplex/6.7.0").await?)
                }
                None => Protocol::Yamux { io, dialer },
            };
            let security = self.handshake.map_or("", |one| one.channel.name());
            if let Some(handshake) = self.handshake {
                let carrier = Carrier {
                    outbound: dialer,
                    transport: transport_name(&self.remote),
                    security,
                    muxer: protocol.name(),
                    ip_version: ip_version(&self.remote),
                };
                let time = handshake.begun.elapsed();
                metrics().swarm.upgraded(carrier, time);
            }
            Ok(Muxer::new(
                protocol,
                self.peer,
                self.remote,
                dialer,
                security,
                self.host,
            ))
        })
    }
}

impl<C> InboundConnectionUpgrade<C> for Multiplex
where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    type Output = Muxer;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Muxer>>;

    fn upgrade_inbound(self, io: C, _: &'static str) -> Self::Future {
        self.upgrade(Box::pin(io), false)
    }
}

impl<C> OutboundConnectionUpgrade<C> for Multiplex
where
    C: AsyncRead + AsyncWrite + Send + 'static,
{
    type Output = Muxer;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Muxer>>;

    fn upgrade_outbound(self, io: C, _: &'static str) -> Self::Future {
        self.upgrade(Box::pin(io), true)
    }
}
