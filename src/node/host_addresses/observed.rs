//! At which public addresses peers see this host, counted as go-libp2p counts: one report for each
//! address prefix that peers have.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr,
    core::{ConnectedPoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::ConnectionId,
};

use super::{super::address_filter::Scope, ThinWaist};
use crate::{fixed_limits::fixed_limit, memory::prefix};

/// Reports after which an address is told (go-libp2p's `ActivationThresh`).
pub(in super::super) const ACTIVATION: usize = 4;

/// Life of a report after its connection has closed (go-libp2p).
const LIFETIME: Duration = Duration::from_secs(40 * 60);

/// Time between two looks at which connections still stand behind their reports.
pub(in super::super) const REFRESH: Duration = Duration::from_secs(20 * 60);

/// Reports remembered (SECURITY.md 3). The oldest goes first.
const MAX_REPORTS: usize = 1024;
fixed_limit!("reports of where this host is seen", MAX_REPORTS);

/// A socket of this host, as far as an address tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Local {
    ip4: bool,
    udp: bool,
    port: u16,
}

/// Who speaks, and of which socket.
type Reporter = (Local, IpAddr);

#[derive(Debug, Clone, Copy)]
struct Report {
    external: SocketAddr,
    at: Instant,
}

/// An address at which peers have seen this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Observation {
    /// The port of the listener behind it.
    pub(super) local: u16,
    pub(super) udp: bool,
    pub(super) external: SocketAddr,
    pub(super) observers: usize,
}

impl Observation {
    /// As a dialer needs it: bare tcp or quic.
    pub(super) fn address(&self) -> Multiaddr {
        let over = match self.udp {
            true => Multiaddr::from(Protocol::QuicV1),
            false => Multiaddr::empty(),
        };
        let address = ThinWaist {
            ip: self.external.ip(),
            port: self.external.port(),
            udp: self.udp,
            over,
        };
        address.address()
    }
}

/// What peers have said.
#[derive(Debug, Default)]
pub(in super::super) struct Observed {
    reports: HashMap<Reporter, Report>,
    /// Connections that may speak.
    connections: HashMap<ConnectionId, Reporter>,
}

impl Observed {
    /// There is a connection. Its peer is heard if it has a public address and sees a port that
    /// this host listens on, one of `listened`.
    pub(in super::super) fn connected(
        &mut self,
        id: ConnectionId,
        endpoint: &ConnectedPoint,
        listened: &[Multiaddr],
    ) {
        let remote = endpoint.get_remote_address();
        if endpoint.is_relayed() || Scope::of_teller(remote) != Scope::Public {
            return;
        }
        if let Some(local) = local(endpoint, listened)
            && let Some(observer) = prefix(remote)
        {
            self.connections.insert(id, (local, observer));
        }
    }

    /// The peer on the connection says at which address it sees this host. Whether it was heard.
    pub(in super::super) fn told(&mut self, id: ConnectionId, observed: &Multiaddr) -> bool {
        let Some(reporter) = self.connections.get(&id).copied() else {
            return false;
        };
        let Some(seen) = ThinWaist::of(observed) else {
            return false;
        };
        let public = Scope::of_ip(seen.ip) == Scope::Public && seen.port != 0;
        let socket = (seen.ip.is_ipv4(), seen.udp) == (reporter.0.ip4, reporter.0.udp);
        let relayed = observed.iter().any(|part| part == Protocol::P2pCircuit);
        if !public || !socket || relayed {
            return false;
        }
        if self.reports.len() >= MAX_REPORTS && !self.reports.contains_key(&reporter) {
            let oldest = self.reports.iter().min_by_key(|(_, report)| report.at);
            if let Some(oldest) = oldest.map(|(reporter, _)| *reporter) {
                self.reports.remove(&oldest);
            }
        }
        let report = Report {
            external: SocketAddr::new(seen.ip, seen.port),
            at: Instant::now(),
        };
        self.reports.insert(reporter, report);
        true
    }

    /// The connection has closed. What its peer has said stands for some time.
    pub(in super::super) fn closed(&mut self, id: ConnectionId) {
        if let Some(reporter) = self.connections.remove(&id)
            && let Some(report) = self.reports.get_mut(&reporter)
        {
            report.at = Instant::now();
        }
    }

    /// Forgets what nobody stands behind any more.
    pub(in super::super) fn refresh(&mut self, now: Instant) {
        for reporter in self.connections.values() {
            if let Some(report) = self.reports.get_mut(reporter) {
                report.at = now;
            }
        }
        self.reports
            .retain(|_, report| now.duration_since(report.at) < LIFETIME);
    }

    /// Every address and how many reports it has, most first.
    pub(in super::super) fn count(&self) -> Vec<Observation> {
        let mut counted: HashMap<(Local, SocketAddr), usize> = HashMap::new();
        for ((local, _), report) in &self.reports {
            *counted.entry((*local, report.external)).or_default() += 1;
        }
        let mut counted: Vec<Observation> = counted
            .into_iter()
            .map(|((local, external), observers)| Observation {
                local: local.port,
                udp: local.udp,
                external,
                observers,
            })
            .collect();
        counted.sort_by_key(|seen| (usize::MAX - seen.observers, seen.external));
        counted
    }
}

/// The listening socket that a connection runs on. A dialed one tells only that it runs on one;
/// which one is known if there is one of its kind.
fn local(endpoint: &ConnectedPoint, listened: &[Multiaddr]) -> Option<Local> {
    let mut listeners: Vec<Local> = listened
        .iter()
        .filter_map(ThinWaist::of)
        .map(|own| local_of(&own))
        .collect();
    listeners.dedup();
    match endpoint {
        ConnectedPoint::Listener { local_addr, .. } => {
            let local = local_of(&ThinWaist::of(local_addr)?);
            listeners.contains(&local).then_some(local)
        }
        ConnectedPoint::Dialer {
            address, port_use, ..
        } => {
            let remote = local_of(&ThinWaist::of(address)?);
            let mut of_kind = listeners
                .iter()
                .filter(|own| (own.ip4, own.udp) == (remote.ip4, remote.udp));
            let first = *of_kind.next()?;
            let sole = *port_use == PortUse::Reuse && of_kind.all(|other| *other == first);
            sole.then_some(first)
        }
    }
}

fn local_of(own: &ThinWaist) -> Local {
    Local {
        ip4: own.ip.is_ipv4(),
        udp: own.udp,
        port: own.port,
    }
}
