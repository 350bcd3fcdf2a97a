//! Payload of streams, counted by protocol, and limited where clients have set a limit (PROTOCOL.md 5).
//!
//! A stream has a [`Tap`], which counts. Only where limits are set does it look further: a number that
//! changes with them tells it so.

mod bucket;
mod tap;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use libp2p::PeerId;
use parking_lot::RwLock;

use super::name::ProtocolName;
use crate::{fixed_limits::fixed_limit, limit_hits::Limit};
use bucket::Bucket;
pub(super) use tap::Tap;

/// Protocols that are counted (SECURITY.md 3). Those that come later are not.
pub(crate) const MAX_PROTOCOLS: usize = 1024;
fixed_limit!("protocols whose traffic is counted", MAX_PROTOCOLS);

/// Limits of traffic (SECURITY.md 3).
pub(crate) const MAX_LIMITS: usize = 1024;
fixed_limit!("limits of traffic", MAX_LIMITS);

/// Least bytes per second of a limit.
pub(crate) const MIN_RATE: u64 = 1024;

/// What a limit is about: a peer, a protocol, or the protocol with that peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LimitSubject {
    /// The peer.
    pub peer: Option<PeerId>,
    /// The protocol.
    pub protocol: Option<ProtocolName>,
}

/// A limit. 0 limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrafficLimit {
    /// Payload from the peer, in bytes per second.
    pub receive: u64,
    /// Payload to the peer, in bytes per second.
    pub send: u64,
    /// Connections at once, of a peer.
    pub connections: usize,
    /// Streams at once.
    pub streams: usize,
}

/// Why a limit is not set or not removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Of whom?
    #[error("a limit names a peer, a protocol, or both")]
    NoSubject,
    /// It has no effect.
    #[error("a limit limits something: receive, send, connections or streams")]
    Nothing,
    /// Too slow to be of use.
    #[error("limit of {0} bytes per second: must be at least {MIN_RATE}")]
    Rate(u64),
    /// A connection carries all protocols.
    #[error("connections can be limited of a peer alone")]
    Connections,
    /// There would be more than may be.
    #[error("too many limits: at most {MAX_LIMITS}")]
    TooMany,
    /// There is none.
    #[error("no such limit")]
    Unknown,
}

/// A stream too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many streams: limited to {0}")]
pub(super) struct TooManyStreams(usize);

/// What has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Payload from peers, in bytes.
    pub received: u64,
    /// Payload to peers, in bytes.
    pub sent: u64,
    /// Streams that are open now.
    pub streams: usize,
    /// Milliseconds that streams have waited because of a limit.
    pub waited: u64,
}

#[derive(Debug, Default)]
struct Protocol {
    received: AtomicU64,
    sent: AtomicU64,
    streams: AtomicUsize,
}

/// A limit that is set, and how it stands.
#[derive(Debug)]
struct Limited {
    limit: TrafficLimit,
    receive: Option<Bucket>,
    send: Option<Bucket>,
    /// Streams that were opened since there is a limit of this subject, and those that have moved bytes
    /// since.
    streams: Arc<AtomicUsize>,
    waited: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    protocols: RwLock<HashMap<ProtocolName, Arc<Protocol>>>,
    limits: RwLock<HashMap<LimitSubject, Arc<Limited>>>,
    /// Changes with the limits; 0 before the first.
    epoch: AtomicU64,
}

/// The traffic of all streams. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Shared>);

impl LimitSubject {
    fn of_peer(peer: PeerId) -> Self {
        Self {
            peer: Some(peer),
            protocol: None,
        }
    }

    fn of_protocol(name: &ProtocolName) -> Self {
        Self {
            peer: None,
            protocol: Some(name.clone()),
        }
    }

    fn check(&self, limit: &TrafficLimit) -> Result<(), LimitError> {
        if self.peer.is_none() && self.protocol.is_none() {
            return Err(LimitError::NoSubject);
        }
        if *limit == TrafficLimit::default() {
            return Err(LimitError::Nothing);
        }
        let rates = [limit.receive, limit.send];
        if let Some(rate) = rates.into_iter().find(|rate| (1..MIN_RATE).contains(rate)) {
            return Err(LimitError::Rate(rate));
        }
        if limit.connections > 0 && self.protocol.is_some() {
            return Err(LimitError::Connections);
        }
        Ok(())
    }
}

impl Limited {
    /// A limit in the place of `before`.
    fn new(limit: TrafficLimit, before: Option<&Arc<Self>>) -> Self {
        let bucket = |rate: u64| (rate > 0).then(|| Bucket::new(rate));
        Self {
            limit,
            receive: bucket(limit.receive),
            send: bucket(limit.send),
            streams: before
                .map(|before| before.streams.clone())
                .unwrap_or_default(),
            waited: AtomicU64::new(0),
        }
    }
}

impl Traffic {
    /// Counts a new stream of `peer`, unless a limit forbids it. Among those of the peer too, `of_peer`,
    /// if a client uses it.
    pub(super) fn open(
        &self,
        peer: PeerId,
        name: &ProtocolName,
        of_peer: Option<&Arc<AtomicUsize>>,
    ) -> Result<Box<Tap>, TooManyStreams> {
        let protocol = self.protocol(name);
        let tap = Tap::new(
            self.0.clone(),
            peer,
            name.clone(),
            protocol,
            of_peer.cloned(),
        );
        match tap.exceeded() {
            None => Ok(Box::new(tap)),
            Some(limit) => {
                Limit::TrafficStreams.hit();
                Err(TooManyStreams(limit))
            }
        }
    }

    fn protocol(&self, name: &ProtocolName) -> Arc<Protocol> {
        if let Some(known) = self.0.protocols.read().get(name) {
            return known.clone();
        }
        let mut protocols = self.0.protocols.write();
        if protocols.len() >= MAX_PROTOCOLS && !protocols.contains_key(name) {
            return Arc::default();
        }
        protocols.entry(name.clone()).or_default().clone()
    }

    /// How many connections `peer` may have, if that is limited.
    pub(crate) fn max_connections(&self, peer: &PeerId) -> Option<usize> {
        if self.0.epoch.load(Relaxed) == 0 {
            return None;
        }
        let limits = self.0.limits.read();
        let limit = limits.get(&LimitSubject::of_peer(*peer))?.limit;
        (limit.connections > 0).then_some(limit.connections)
    }

    /// Sets limits; one of the same subject is replaced.
    ///
    /// # Errors
    /// See [`LimitError`]. None is set then.
    pub fn limit(&self, wanted: Vec<(LimitSubject, TrafficLimit)>) -> Result<(), LimitError> {
        for (subject, limit) in &wanted {
            subject.check(limit)?;
        }
        let mut limits = self.0.limits.write();
        let mut changed = limits.clone();
        for (subject, limit) in wanted {
            let limited = Limited::new(limit, changed.get(&subject));
            changed.insert(subject, Arc::new(limited));
        }
        if changed.len() > MAX_LIMITS {
            return Err(LimitError::TooMany);
        }
        *limits = changed;
        self.0.epoch.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Removes limits.
    ///
    /// # Errors
    /// [`LimitError::Unknown`]. None is removed then.
    pub fn unlimit(&self, subjects: &[LimitSubject]) -> Result<(), LimitError> {
        let mut limits = self.0.limits.write();
        if !subjects.iter().all(|subject| limits.contains_key(subject)) {
            return Err(LimitError::Unknown);
        }
        limits.retain(|subject, _| !subjects.contains(subject));
        self.0.epoch.fetch_add(1, Relaxed);
        Ok(())
    }

    /// All limits, in no order.
    #[must_use]
    pub fn limits(&self) -> Vec<(LimitSubject, TrafficLimit)> {
        let limits = self.0.limits.read();
        let limits = limits.iter();
        limits
            .map(|(subject, limited)| (subject.clone(), limited.limit))
            .collect()
    }

    /// What has moved of each protocol since the daemon began, by their names.
    #[must_use]
    pub fn protocols(&self) -> Vec<(ProtocolName, Moved)> {
        let protocols = self.0.protocols.read();
        let moved = |(name, protocol): (&ProtocolName, &Arc<Protocol>)| {
            let moved = Moved {
                received: protocol.received.load(Relaxed),
                sent: protocol.sent.load(Relaxed),
                streams: protocol.streams.load(Relaxed),
                waited: self.waited(&LimitSubject::of_protocol(name)),
            };
            (name.clone(), moved)
        };
        let mut told: Vec<_> = protocols.iter().map(moved).collect();
        told.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
        told
    }

    /// Milliseconds that streams of `peer` have waited because of its limit.
    #[must_use]
    pub fn waited_for(&self, peer: PeerId) -> u64 {
        self.waited(&LimitSubject::of_peer(peer))
    }

    fn waited(&self, subject: &LimitSubject) -> u64 {
        let limits = self.0.limits.read();
        limits
            .get(subject)
            .map_or(0, |limited| limited.waited.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ProtocolName {
        text.into()
    }

    fn two() -> TrafficLimit {
        TrafficLimit {
            streams: 2,
            ..TrafficLimit::default()
        }
    }

    #[test]
    fn a_protocol_beyond_those_that_are_counted_has_its_limit_of_streams() {
        let (traffic, peer) = (Traffic::default(), PeerId::random());
        let known = (0..MAX_PROTOCOLS).map(|number| name(&format!("/{number}")));
        let held: Vec<_> = known.map(|name| traffic.open(peer, &name, None)).collect();
        let late = name("/late");
        let subject = LimitSubject::of_protocol(&late);
        traffic.limit(vec![(subject, two())]).expect("set");
        let mut open: Vec<_> = (0..2)
            .map(|_| traffic.open(PeerId::random(), &late, None).expect("open"))
            .collect();
        assert!(traffic.open(peer, &late, None).is_err());
        open.pop();
        assert!(traffic.open(peer, &late, None).is_ok());
        drop(held);
    }

    #[test]
    fn a_limit_that_is_set_again_knows_the_streams() {
        let (traffic, peer, proto) = (Traffic::default(), PeerId::random(), name("/a"));
        let subject = LimitSubject {
            peer: Some(peer),
            protocol: Some(proto.clone()),
        };
        let set = || traffic.limit(vec![(subject.clone(), two())]).expect("set");
        set();
        let open = || traffic.open(peer, &proto, None);
        let held = (open().expect("open"), open().expect("open"));
        set();
        assert!(open().is_err());
        drop(held);
        assert!(open().is_ok());
    }
}
