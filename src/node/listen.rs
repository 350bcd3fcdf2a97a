//! Listening: which addresses, and what the host tells of them.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt as _;
use libp2p::{Multiaddr, Swarm, multiaddr::Protocol, swarm::SwarmEvent};

use super::{behaviour::Behaviour, guarded::Guarded};

/// Wildcard listeners learn their addresses from the system, which may take a moment.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// The host's own addresses, as IDENTIFY, identify and the banner tell them.
#[derive(Debug, Clone)]
pub(super) struct HostAddresses {
    current: Arc<RwLock<Arc<[Multiaddr]>>>,
    announced: bool,
}

impl HostAddresses {
    /// `announce` replaces the listen addresses, verbatim, unless it is empty.
    pub(super) fn new(announce: &[Multiaddr]) -> Self {
        Self {
            current: Arc::new(RwLock::new(announce.into())),
            announced: !announce.is_empty(),
        }
    }

    pub(super) fn get(&self) -> Arc<[Multiaddr]> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn update<'a>(&self, listeners: impl Iterator<Item = &'a Multiaddr>) {
        if self.announced {
            return;
        }
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for address in listeners {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = addresses.into();
    }
}

/// Why an address is not listened on, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {reason}")]
pub struct ListenError {
    /// As configured.
    pub address: Multiaddr,
    reason: String,
}

/// Listens on each of `wanted` and waits until every listener knows its addresses.
///
/// Returns the failures.
pub(super) async fn listen(
    swarm: &mut Swarm<Guarded<Behaviour>>,
    wanted: &[Multiaddr],
) -> Vec<ListenError> {
    let mut failures = Vec::new();
    let mut pending = Vec::new();
    for address in wanted {
        let fail = |reason: String| ListenError {
            address: address.clone(),
            reason,
        };
        let resolved = match resolve(address).await {
            Ok(resolved) => resolved,
            Err(reason) => {
                failures.push(fail(reason));
                continue;
            }
        };
        let result = probe(&resolved).and_then(|()| {
            swarm.listen_on(resolved).map_err(|error| match error {
                libp2p::TransportError::MultiaddrNotSupported(_) => {
                    "no transport for protocol".to_owned()
                }
                libp2p::TransportError::Other(error) => innermost(&error),
            })
        });
        match result {
            Ok(listener) => pending.push((listener, address)),
            Err(reason) => failures.push(fail(reason)),
        }
    }
    let addresses = async {
        while !pending.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    pending.retain(|(id, _)| *id != listener_id);
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                } => {
                    pending.retain(|(id, address)| {
                        let closed = *id == listener_id;
                        if closed {
                            failures.push(ListenError {
                                address: (*address).clone(),
                                reason: reason
                                    .as_ref()
                                    .err()
                                    .map_or_else(|| "closed".to_owned(), innermost),
                            });
                        }
                        !closed
                    });
                }
                _ => {}
            }
        }
    };
    // A wildcard listener on a machine without interfaces has none, and is no failure.
    let _ = tokio::time::timeout(ADDRESS_TIMEOUT, addresses).await;
    // The other interfaces of a wildcard are known at the same time.
    while let std::task::Poll::Ready(Some(_)) = futures::poll!(swarm.next()) {}
    failures
}

/// The library listens on IP addresses only; Go resolves a name first.
async fn resolve(address: &Multiaddr) -> Result<Multiaddr, String> {
    let (name, wanted): (String, fn(&SocketAddr) -> bool) = match address.iter().next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), SocketAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), SocketAddr::is_ipv6),
        _ => return Ok(address.clone()),
    };
    let found = tokio::net::lookup_host((name.as_str(), 0))
        .await
        .map_err(|error| format!("lookup {name}: {error}"))?
        .find(wanted)
        .ok_or_else(|| format!("lookup {name}: no such host"))?;
    Ok(std::iter::once(Protocol::from(found.ip()))
        .chain(address.iter().skip(1))
        .collect())
}

/// The tcp transport shares ports with other processes that do so too; two daemons on one
/// port would each get half of the connections.
fn probe(address: &Multiaddr) -> Result<(), String> {
    let mut parts = address.iter();
    let (Some(ip), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else {
        return Ok(());
    };
    let (ip, network) = match ip {
        Protocol::Ip4(ip) => (ip.into(), "tcp4"),
        Protocol::Ip6(ip) => (std::net::IpAddr::V6(ip), "tcp6"),
        _ => return Ok(()),
    };
    if port == 0 {
        return Ok(());
    }
    let address = SocketAddr::new(ip, port);
    TcpListener::bind(address).map(drop).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::AddrInUse => "address already in use".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
            _ => error.to_string(),
        };
        format!("listen {network} {address}: bind: {reason}")
    })
}

fn innermost(error: &std::io::Error) -> String {
    let mut text = error.to_string();
    let mut next = error
        .get_ref()
        .map(|inner| inner as &(dyn std::error::Error + 'static));
    for _ in 0..16 {
        let Some(current) = next else { break };
        text = current.to_string();
        next = current.source();
    }
    text
}
