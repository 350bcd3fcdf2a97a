//! Hard limits on connections.
//!
//! The library's own behaviour for this keeps an entry for every peer id it has ever seen.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::{limit_hits::Limit, memory::Pressure};

/// Connections with one peer (go-libp2p's number).
pub(crate) const PER_PEER: usize = 8;

/// Memory that a connection may be expected to need, so that small machines take fewer.
pub(crate) const CONNECTION_COST: u64 = 512 * 1024;

/// Addresses whose rate is followed (SECURITY.md 3): those that have connected lately.
const MAX_FOLLOWED: usize = 8192;

/// What one address may do, as in go-libp2p; loopback may do all. Of IPv6 the first 64 bits
/// are one address, since whoever has one has all below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressLimits {
    /// Established inbound connections; 0 is no limit.
    pub connections: usize,
    /// New inbound connections at once; 0 is no limit.
    pub burst: usize,
    /// Time after which an address that has used up its burst may connect once more.
    pub refill: Duration,
}

impl Default for AddressLimits {
    fn default() -> Self {
        Self {
            connections: 8,
            burst: 16,
            refill: Duration::from_secs(5),
        }
    }
}

/// Connections at most (SECURITY.md 3).
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Inbound connections still being secured.
    pub pending_inbound: usize,
    /// Dials under way.
    pub pending_outbound: usize,
    /// Established inbound connections.
    pub established_inbound: usize,
    /// Established connections.
    pub established: usize,
    /// Established connections with one peer.
    pub per_peer: usize,
    /// What one address may do.
    pub per_address: AddressLimits,
}

impl ConnectionLimits {
    /// The defaults of a process that may open `descriptors` files and use `memory` bytes, if
    /// that is not 0: a quarter of the former, so that pipes and control connections have theirs.
    #[must_use]
    pub fn scaled(descriptors: u64, memory: u64) -> Self {
        let affordable = match memory {
            0 => u64::MAX,
            memory => memory / CONNECTION_COST,
        };
        let share = usize::try_from(affordable.min(descriptors / 4)).unwrap_or(usize::MAX);
        Self {
            pending_inbound: 256,
            pending_outbound: 256,
            established_inbound: share.clamp(16, 2048),
            established: share.clamp(32, 4096),
            per_peer: PER_PEER,
            per_address: AddressLimits::default(),
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct LimitReached {
    what: &'static str,
    limit: usize,
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection limit reached: {} {}", self.limit, self.what)
    }
}

/// There is too little memory for strangers.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("memory is short")]
struct MemoryShort;

impl std::error::Error for LimitReached {}

/// Whom connections from one place count for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    Ip4(Ipv4Addr),
    /// The first half of an IPv6 address.
    Ip6([u16; 4]),
}

/// Whom a connection from `remote` counts for; nobody, if it comes from this machine or through
/// another peer.
fn source(remote: &Multiaddr) -> Option<Source> {
    if remote.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    let ip = match remote.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip).to_canonical(),
        _ => return None,
    };
    match ip {
        ip if ip.is_loopback() => None,
        IpAddr::V4(ip) => Some(Source::Ip4(ip)),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Some(Source::Ip6([a, b, c, d]))
        }
    }
}

/// How often addresses have connected lately.
#[derive(Debug)]
struct Rates {
    burst: u32,
    refill: Duration,
    /// When the address will have its whole burst again.
    whole_at: HashMap<Source, Instant>,
}

impl Rates {
    fn new(limits: &AddressLimits) -> Self {
        Self {
            burst: u32::try_from(limits.burst).unwrap_or(u32::MAX),
            refill: limits.refill,
            whole_at: HashMap::new(),
        }
    }

    /// Takes note of a connection from `source`; false if it comes too soon.
    fn admit(&mut self, source: Source, now: Instant) -> bool {
        if self.burst == 0 || self.refill.is_zero() {
            return true;
        }
        let whole_at = self.whole_at.get(&source).copied().unwrap_or(now).max(now);
        let spent = whole_at.duration_since(now);
        let (Some(debt), Some(next)) = (
            self.refill.checked_mul(self.burst),
            whole_at.checked_add(self.refill),
        ) else {
            // Such a time is never over.
            return true;
        };
        if spent + self.refill > debt {
            return false;
        }
        if self.whole_at.len() >= MAX_FOLLOWED && !self.whole_at.contains_key(&source) {
            self.make_room(now);
        }
        self.whole_at.insert(source, next);
        true
    }

    /// Forgets whoever has its whole burst again, else whoever comes next to it.
    fn make_room(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
        if self.whole_at.len() >= MAX_FOLLOWED {
            let first = self.whole_at.iter().min_by_key(|(_, whole_at)| **whole_at);
            if let Some(first) = first.map(|(source, _)| *source) {
                self.whole_at.remove(&first);
            }
        }
    }
}

/// Counts connections and denies those beyond a limit.
#[derive(Debug)]
pub(super) struct Limiter {
    limits: ConnectionLimits,
    pressure: Arc<Pressure>,
    pending_inbound: HashSet<ConnectionId>,
    pending_outbound: HashSet<ConnectionId>,
    inbound: usize,
    established: usize,
    per_peer: HashMap<PeerId, usize>,
    /// Established inbound connections.
    per_address: HashMap<Source, usize>,
    rates: Rates,
}

impl Limiter {
    pub(super) fn new(limits: ConnectionLimits, pressure: Arc<Pressure>) -> Self {
        Self {
            limits,
            pressure,
            pending_inbound: HashSet::new(),
            pending_outbound: HashSet::new(),
            inbound: 0,
            established: 0,
            per_peer: HashMap::new(),
            per_address: HashMap::new(),
            rates: Rates::new(&limits.per_address),
        }
    }

    fn established(&self, peer: &PeerId) -> Result<(), ConnectionDenied> {
        check(
            Limit::Established,
            "connections",
            self.established,
            self.limits.established,
        )?;
        check(
            Limit::PerPeer,
            "connections per peer",
            self.per_peer.get(peer).copied().unwrap_or(0),
            self.limits.per_peer,
        )
    }
}

fn check(
    counter: Limit,
    what: &'static str,
    current: usize,
    limit: usize,
) -> Result<(), ConnectionDenied> {
    if current < limit {
        return Ok(());
    }
    counter.hit();
    Err(ConnectionDenied::new(LimitReached { what, limit }))
}

impl NetworkBehaviour for Limiter {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.pressure.refuses_connections() {
            Limit::MemoryInbound.hit();
            return Err(ConnectionDenied::new(MemoryShort));
        }
        check(
            Limit::PendingInbound,
            "pending inbound connections",
            self.pending_inbound.len(),
            self.limits.pending_inbound,
        )?;
        if let Some(source) = source(remote)
            && !self.rates.admit(source, Instant::now())
        {
            Limit::AddressRate.hit();
            return Err(ConnectionDenied::new(LimitReached {
                what: "new inbound connections per address",
                limit: self.limits.per_address.burst,
            }));
        }
        self.pending_inbound.insert(id);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_inbound.remove(&id);
        if let Some(source) = source(remote)
            && self.limits.per_address.connections > 0
        {
            check(
                Limit::PerAddress,
                "inbound connections per address",
                self.per_address.get(&source).copied().unwrap_or(0),
                self.limits.per_address.connections,
            )?;
        }
        check(
            Limit::Inbound,
            "inbound connections",
            self.inbound,
            self.limits.established_inbound,
        )?;
        self.established(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        check(
            Limit::PendingOutbound,
            "pending outbound connections",
            self.pending_outbound.len(),
            self.limits.pending_outbound,
        )?;
        self.pending_outbound.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending_outbound.remove(&id);
        self.established(&peer)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.established += 1;
                if event.endpoint.is_listener() {
                    self.inbound += 1;
                    if let Some(source) = source(event.endpoint.get_remote_address()) {
                        *self.per_address.entry(source).or_default() += 1;
                    }
                }
                *self.per_peer.entry(event.peer_id).or_default() += 1;
            }
            FromSwarm::ConnectionClosed(event) => {
                self.established = self.established.saturating_sub(1);
                if event.endpoint.is_listener() {
                    self.inbound = self.inbound.saturating_sub(1);
                    if let Some(source) = source(event.endpoint.get_remote_address()) {
                        let count = self.per_address.get(&source).copied().unwrap_or(0);
                        if count > 1 {
                            self.per_address.insert(source, count - 1);
                        } else {
                            self.per_address.remove(&source);
                        }
                    }
                }
                if event.remaining_established == 0 {
                    self.per_peer.remove(&event.peer_id);
                } else {
                    self.per_peer
                        .insert(event.peer_id, event.remaining_established);
                }
            }
            FromSwarm::DialFailure(event) => {
                self.pending_outbound.remove(&event.connection_id);
            }
            FromSwarm::ListenFailure(event) => {
                self.pending_inbound.remove(&event.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Source> {
        source(&text.parse().unwrap())
    }

    #[test]
    fn connections_follow_from_descriptors_and_memory() {
        let scaled = |descriptors, mebibytes: u64| {
            let limits = ConnectionLimits::scaled(descriptors, mebibytes << 20);
            (limits.established_inbound, limits.established)
        };
        assert_eq!(scaled(1 << 20, 0), (2048, 4096));
        assert_eq!(scaled(1 << 20, 64 << 10), (2048, 4096));
        assert_eq!(scaled(1024, 64 << 10), (256, 256));
        assert_eq!(scaled(1 << 20, 128), (256, 256));
        assert_eq!(scaled(10, 1), (16, 32));
    }

    #[test]
    fn ipv6_counts_by_64_bits_and_loopback_not_at_all() {
        let one = at("/ip6/2001:db8:0:1::1/tcp/1");
        assert!(one.is_some());
        assert_eq!(at("/ip6/2001:db8:0:1:ffff::2/udp/2/quic-v1"), one);
        assert_ne!(at("/ip6/2001:db8:0:2::1/tcp/1"), one);
        assert_eq!(at("/ip6/::ffff:1.2.3.4/tcp/1"), at("/ip4/1.2.3.4/tcp/9"));
        assert_ne!(at("/ip4/1.2.3.4/tcp/1"), at("/ip4/1.2.3.5/tcp/1"));
        for text in [
            "/ip4/127.1.2.3/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip4/1.2.3.4/tcp/1/p2p/QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN/p2p-circuit",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_in_five_seconds() {
        let mut rates = Rates::new(&AddressLimits::default());
        let (one, other) = (at("/ip4/1.1.1.1").unwrap(), at("/ip4/1.1.1.2").unwrap());
        let start = Instant::now();
        let mut admitted = |source, second| {
            let now = start + Duration::from_secs(second);
            (0..100).filter(|_| rates.admit(source, now)).count()
        };
        assert_eq!(admitted(one, 0), 16);
        assert_eq!(admitted(one, 4), 0);
        assert_eq!(admitted(one, 5), 1);
        assert_eq!(admitted(other, 5), 16);
        assert_eq!(admitted(one, 26), 4);
        assert_eq!(admitted(one, 10_000), 16);
    }

    #[test]
    fn addresses_without_end_are_bounded() {
        let mut rates = Rates::new(&AddressLimits::default());
        let start = Instant::now();
        let busy = at("/ip4/9.9.9.9").unwrap();
        assert_eq!((0..100).filter(|_| rates.admit(busy, start)).count(), 16);
        for number in 0..20_000_u32 {
            assert!(rates.admit(Source::Ip4(number.into()), start));
            assert!(rates.whole_at.len() <= MAX_FOLLOWED);
        }
        // Whoever has spent most is forgotten last.
        assert!(!rates.admit(busy, start));
        // Nothing is kept of those that have not come for long.
        rates.make_room(start + Duration::from_secs(1000));
        assert!(rates.whole_at.is_empty());
    }

    #[test]
    fn without_limits_everybody_is_admitted() {
        let off = AddressLimits {
            burst: 0,
            ..AddressLimits::default()
        };
        let long = AddressLimits {
            refill: Duration::MAX,
            ..AddressLimits::default()
        };
        for limits in [off, long] {
            let mut rates = Rates::new(&limits);
            let now = Instant::now();
            let one = at("/ip4/1.1.1.1").unwrap();
            assert!((0..1000).all(|_| rates.admit(one, now)));
        }
    }
}
