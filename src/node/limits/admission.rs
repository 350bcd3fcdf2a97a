//! Who may have an inbound connection, decided before the handshake.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use parking_lot::{Mutex, RwLock};

use super::{
    refusals::Refusals,
    source::{Classes, Source},
    state::{Place, Reason, Room, State},
    values::ConnectionLimits,
};
use crate::{
    fixed_limits::fixed_limit,
    limit_hits::Limit,
    memory::{Account, Charge, Ledger, Pressure},
    node::{
        interfaces,
        options::Options,
        rules::{Forbidden, Rules},
        websocket::MAX_MESSAGE,
    },
    streams::Traffic,
    telemetry::canonical::{PeerStatus, peer_status},
};

/// Bytes that a handshake may make this node hold: what is read ahead of noise or tls, and one
/// message of either (SECURITY.md 3).
const HANDSHAKE: usize = 128 * 1024;
fixed_limit!("memory charged for a handshake or a dial", bytes HANDSHAKE);

/// The same over a websocket, which has a message of its own below.
const WEBSOCKET_HANDSHAKE: usize = HANDSHAKE + MAX_MESSAGE;

/// Between two looks at the machine's addresses.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A moment before the first connection.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Another handshake has taken this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the handshake took too long for a node that has many")]
pub(super) struct GaveWay;

/// No memory is left for a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory is left for the handshake")]
pub(in crate::node) struct NoRoom;

/// The machine's own addresses, when last looked at.
#[derive(Debug)]
struct Own {
    addresses: Vec<IpAddr>,
    looked: Instant,
}

/// Decides on inbound connections, and knows how many there are.
#[derive(Debug)]
pub(in crate::node) struct Admission {
    limits: ConnectionLimits,
    classes: Classes,
    pressure: Arc<Pressure>,
    ledger: Arc<Ledger>,
    rules: Rules,
    traffic: Traffic,
    /// Established connections that were dialed.
    outbound: AtomicUsize,
    own: Arc<RwLock<Own>>,
    state: Mutex<State>,
    refusals: Mutex<Refusals>,
}

impl Admission {
    /// Limits connections by the limits and rules of `options`, and by those that clients have set in
    /// `traffic`. `own` are the machine's addresses.
    pub(in crate::node) fn new(options: &Options, own: Vec<IpAddr>, traffic: Traffic) -> Arc<Self> {
        Arc::new(Self {
            limits: options.limits,
            classes: Classes::new(&options.limits, options.exempt.clone()),
            pressure: options.pressure.clone(),
            ledger: options.ledger.clone(),
            rules: options.rules.clone(),
            traffic,
            outbound: AtomicUsize::new(0),
            own: Arc::new(RwLock::new(Own {
                addresses: own,
                looked: Instant::now(),
            })),
            state: Mutex::default(),
            refusals: Mutex::default(),
        })
    }

    pub(super) fn limits(&self) -> &ConnectionLimits {
        &self.limits
    }

    /// There are so many connections that were dialed.
    pub(super) fn set_outbound(&self, count: usize) {
        self.outbound.store(count, Relaxed);
    }

    /// A ticket for a connection from `remote`. `None` if it is refused, which is counted and
    /// told.
    pub(super) fn admit(self: &Arc<Self>, remote: &Multiaddr) -> Option<Ticket> {
        if !self.rules.allow_address(remote) {
            Limit::Blocked.hit();
            return None;
        }
        if self.pressure.refuses_connections() {
            Limit::MemoryInbound.hit();
            return None;
        }
        let source = self.classes.source(remote, |ip| self.is_own(ip));
        let account = self.ledger.peer(remote);
        let charge = || account.charge(cost(is_websocket(remote), &account)).ok();
        let outbound = self.outbound.load(Relaxed);
        let room = Room {
            pending: self.limits.pending_inbound,
            inbound: self.limits.established_inbound,
            beside_outbound: self.limits.established.saturating_sub(outbound),
        };
        let now = Instant::now();
        let admitted = self.state.lock().admit(source, room, now, charge);
        match admitted {
            Ok(admitted) => {
                (0..admitted.gave_way).for_each(|_| Limit::PendingInbound.hit());
                if let Some(level) = admitted.full {
                    self.refused(source, Reason::Count(level), now);
                }
                let ticket = Ticket {
                    admission: self.clone(),
                    place: admitted.place,
                    established: false,
                };
                ticket.moves();
                Some(ticket)
            }
            Err(reason) => {
                if let Some(error) = reason.of_the_address()
                    && source.is_some_and(|source| source.proven)
                {
                    peer_status(None, remote, PeerStatus::Refused { error });
                }
                self.refused(source, reason, now);
                None
            }
        }
    }

    fn refused(&self, source: Option<Source>, reason: Reason, now: Instant) {
        match (reason, source) {
            (Reason::Count(level), Some(source)) => {
                Limit::PerAddress.hit();
                self.refusals.lock().count(source.ip, level, now);
                self.look_again(now);
            }
            (Reason::Rate(level), Some(source)) => {
                Limit::AddressRate.hit();
                self.refusals.lock().rate(source.ip, level, now);
                self.look_again(now);
            }
            (Reason::Count(_), None) => Limit::PerAddress.hit(),
            (Reason::Rate(_), None) => Limit::AddressRate.hit(),
            (Reason::Inbound, _) => Limit::Inbound.hit(),
            (Reason::Established, _) => Limit::Established.hit(),
            // The account has counted it.
            (Reason::Memory, _) => {}
        }
    }

    /// Looks whether the machine has other addresses by now: whoever was refused may be one.
    fn look_again(&self, now: Instant) {
        {
            let mut own = self.own.write();
            if now.saturating_duration_since(own.looked) < LOOK_INTERVAL {
                return;
            }
            own.looked = now;
        }
        let own = self.own.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || {
                if let Ok(addresses) = interfaces::addresses() {
                    own.write().addresses = addresses;
                }
            });
        }
    }

    /// Charges the handshake of a dial to the prefix that it leads to.
    ///
    /// # Errors
    /// If there is no room for it, or rules forbid it.
    pub(super) fn charge_dial(&self, address: &Multiaddr) -> io::Result<Charge> {
        if !self.rules.allow_address(address) {
            return Err(io::Error::other(Forbidden));
        }
        let account = self.ledger.peer(address);
        let charge = account.charge(cost(is_websocket(address), &account));
        charge.map_err(io::Error::other)
    }

    /// Whether rules let `peer` connect, or be dialed.
    pub(super) fn allows(&self, peer: &PeerId) -> Result<(), Forbidden> {
        if self.rules.allow_peer(peer) {
            return Ok(());
        }
        Limit::Blocked.hit();
        Err(Forbidden)
    }

    /// Whether rules let a connection with `address` stand.
    pub(super) fn allows_address(&self, address: &Multiaddr) -> Result<(), Forbidden> {
        if self.rules.allow_address(address) {
            return Ok(());
        }
        Limit::Blocked.hit();
        Err(Forbidden)
    }

    /// How many connections `peer` may have, if clients have limited it.
    pub(super) fn max_connections(&self, peer: &PeerId) -> Option<usize> {
        self.traffic.max_connections(peer)
    }

    /// Charges `remote`, whose handshake is charged as one of tcp, for what a websocket takes more.
    /// Others give way as they do for a newcomer.
    pub(in crate::node) fn charge_websocket(&self, remote: &Multiaddr) -> Result<Charge, NoRoom> {
        let source = self.classes.source(remote, |ip| self.is_own(ip));
        let account = self.ledger.peer(remote);
        let more = cost(true, &account) - cost(false, &account);
        let charge = || account.charge(more).ok();
        let group = source.map(|source| source.group);
        let charged = self.state.lock().charge(group, charge);
        let (charge, gave_way) = charged.ok_or(NoRoom)?;
        (0..gave_way).for_each(|_| Limit::PendingInbound.hit());
        Ok(charge)
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        self.own.read().addresses.contains(&ip)
    }
}

fn is_websocket(address: &Multiaddr) -> bool {
    let websocket = |part| matches!(part, Protocol::Ws(_) | Protocol::Wss(_));
    address.iter().any(websocket)
}

/// Bytes that a handshake may take; half of what may be charged to `account` where
/// that is less, so that small machines have some as well.
fn cost(websocket: bool, account: &Account) -> usize {
    let cost = match websocket {
        true => WEBSOCKET_HANDSHAKE,
        false => HANDSHAKE,
    };
    let half = usize::try_from(account.limit() / 2).unwrap_or(usize::MAX);
    cost.min(half)
}

/// The place of an inbound connection, for as long as it lives.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    place: Place,
    established: bool,
}

impl Ticket {
    /// The handshake makes progress.
    pub(super) fn moves(&self) {
        let now = u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.place.moved.store(now, Relaxed);
    }

    /// Completes when the handshake has to give way.
    pub(super) fn over(&self) -> impl Future<Output = ()> + use<> {
        self.place.over.clone().cancelled_owned()
    }

    /// The handshake is done.
    ///
    /// # Errors
    /// If it has given way.
    pub(super) fn established(mut self) -> Result<Self, GaveWay> {
        let mut state = self.admission.state.lock();
        self.established = state.establish(self.place.id, Instant::now());
        drop(state);
        if self.established {
            Ok(self)
        } else {
            Err(GaveWay)
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.admission.state.lock();
        if self.established {
            state.close(self.place.source);
        } else {
            state.abandon(self.place.id);
        }
    }
}
