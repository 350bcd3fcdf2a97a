//! What one stream moves.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use libp2p::PeerId;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Bucket, LimitSubject, Limited, Protocol, Shared};
use crate::{limit_hits::Limit, streams::name::ProtocolName};

/// From the peer or to it.
#[derive(Debug, Clone, Copy)]
enum Way {
    In,
    Out,
}

/// Counts what a stream moves, and holds it up where that is limited.
#[derive(Debug)]
pub(in super::super) struct Tap {
    shared: Arc<Shared>,
    peer: PeerId,
    name: ProtocolName,
    protocol: Arc<Protocol>,
    /// Streams of the peer that clients use; none if this is one of the daemon's own.
    of_peer: Option<Arc<AtomicUsize>>,
    /// The limits that hold are those of this number.
    epoch: u64,
    limits: Vec<Arc<Limited>>,
    receiving: Turn,
    sending: Turn,
}

/// Between two looks of one that waits at whether the limits have changed.
const LOOK: Duration = Duration::from_secs(1);

/// The bytes that one way has reserved, and when they may move.
#[derive(Debug, Default)]
struct Turn {
    /// 0 if nothing is reserved.
    bytes: usize,
    wait: Option<Wait>,
}

#[derive(Debug)]
struct Wait {
    until: Instant,
    since: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Wait {
    fn new(until: Instant, now: Instant) -> Self {
        Self {
            until,
            since: now,
            sleep: Box::pin(sleep_until(until.min(now + LOOK))),
        }
    }
}

impl Limited {
    fn bucket(&self, way: Way) -> Option<&Bucket> {
        match way {
            Way::In => self.receive.as_ref(),
            Way::Out => self.send.as_ref(),
        }
    }
}

impl Tap {
    /// A stream of `peer`, counted until dropped.
    pub(super) fn new(
        shared: Arc<Shared>,
        peer: PeerId,
        name: ProtocolName,
        protocol: Arc<Protocol>,
        of_peer: Option<Arc<AtomicUsize>>,
    ) -> Self {
        protocol.streams.fetch_add(1, Relaxed);
        if let Some(of_peer) = &of_peer {
            of_peer.fetch_add(1, Relaxed);
        }
        let mut tap = Self {
            shared,
            peer,
            name,
            protocol,
            of_peer,
            epoch: 0,
            limits: Vec::new(),
            receiving: Turn::default(),
            sending: Turn::default(),
        };
        tap.look();
        tap
    }

    /// A limit of streams that this one is beyond.
    pub(super) fn exceeded(&self) -> Option<usize> {
        if self.epoch == 0 {
            return None;
        }
        let limits = self.shared.limits.read();
        let subjects = self.subjects().into_iter();
        let mut limits = subjects.filter_map(|subject| {
            let limited = limits.get(&subject)?;
            let open = match (subject.peer, subject.protocol) {
                (Some(_), Some(_)) => &limited.streams,
                (Some(_), None) => self.of_peer.as_deref()?,
                _ => &self.protocol.streams,
            };
            // Streams of a protocol beyond those that are counted are so here.
            let open = open.load(Relaxed).max(limited.streams.load(Relaxed));
            let limit = limited.limit.streams;
            (limit > 0 && open > limit).then_some(limit)
        });
        limits.next()
    }

    fn subjects(&self) -> [LimitSubject; 3] {
        let both = LimitSubject {
            peer: Some(self.peer),
            protocol: Some(self.name.clone()),
        };
        let peer = LimitSubject::of_peer(self.peer);
        [both, peer, LimitSubject::of_protocol(&self.name)]
    }

    /// Looks for limits, if they have changed.
    fn look(&mut self) {
        let epoch = self.shared.epoch.load(Relaxed);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        let limits = self.shared.limits.read();
        let found = self.subjects().into_iter();
        let found: Vec<_> = found
            .filter_map(|subject| limits.get(&subject).cloned())
            .collect();
        drop(limits);
        for limited in &found {
            limited.streams.fetch_add(1, Relaxed);
        }
        // Others set the time now.
        self.settle(Way::In, 0);
        self.settle(Way::Out, 0);
        self.leave();
        self.limits = found;
    }

    fn leave(&mut self) {
        for limited in self.limits.drain(..) {
            limited.streams.fetch_sub(1, Relaxed);
        }
    }

    /// How many bytes may be received now.
    pub(in super::super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll(Way::In, cx)
    }

    /// How many bytes may be sent now.
    pub(in super::super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        self.poll(Way::Out, cx)
    }

    /// Whether a limit holds up what is received.
    pub(in super::super) fn is_receive_held_up(&self) -> bool {
        self.receiving.wait.is_some()
    }

    fn poll(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<usize> {
        self.look();
        if self.limits.is_empty() {
            return Poll::Ready(usize::MAX);
        }
        self.poll_limited(way, cx)
    }

    #[cold]
    fn poll_limited(&mut self, way: Way, cx: &mut Context<'_>) -> Poll<usize> {
        let turn = match way {
            Way::In => &mut self.receiving,
            Way::Out => &mut self.sending,
        };
        let buckets = || self.limits.iter().filter_map(|one| one.bucket(way));
        if turn.bytes == 0 {
            let Some(chunk) = buckets().map(Bucket::chunk).min() else {
                return Poll::Ready(usize::MAX);
            };
            let now = Instant::now();
            let reserved = buckets().map(|bucket| bucket.reserve(chunk, now));
            let until = reserved.max().unwrap_or(now);
            turn.bytes = chunk;
            if until > now {
                Limit::Bandwidth.hit();
                turn.wait = Some(Wait::new(until, now));
            }
        }
        while let Some(wait) = &mut turn.wait {
            ready!(wait.sleep.as_mut().poll(cx));
            let now = Instant::now();
            let waited = now.saturating_duration_since(wait.since).as_millis();
            let waited = u64::try_from(waited).unwrap_or(u64::MAX);
            for limited in self.limits.iter().filter(|one| one.bucket(way).is_some()) {
                limited.waited.fetch_add(waited, Relaxed);
            }
            let until = wait.until;
            turn.wait = (until > now).then(|| Wait::new(until, now));
        }
        Poll::Ready(turn.bytes)
    }

    /// So many bytes were received: 0 if there were none yet.
    pub(in super::super) fn received(&mut self, bytes: usize) {
        if bytes > 0 {
            self.protocol.received.fetch_add(bytes as u64, Relaxed);
        }
        self.settle(Way::In, bytes);
    }

    /// So many bytes were accepted for sending.
    pub(in super::super) fn sent(&mut self, bytes: usize) {
        if bytes > 0 {
            self.protocol.sent.fetch_add(bytes as u64, Relaxed);
        }
        self.settle(Way::Out, bytes);
    }

    /// Ends a turn in which so many bytes have moved.
    fn settle(&mut self, way: Way, moved: usize) {
        if self.limits.is_empty() {
            return;
        }
        let turn = std::mem::take(match way {
            Way::In => &mut self.receiving,
            Way::Out => &mut self.sending,
        });
        let rest = turn.bytes.saturating_sub(moved);
        if rest > 0 {
            for bucket in self.limits.iter().filter_map(|one| one.bucket(way)) {
                bucket.give_back(rest);
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.settle(Way::In, 0);
        self.settle(Way::Out, 0);
        self.leave();
        self.protocol.streams.fetch_sub(1, Relaxed);
        if let Some(of_peer) = &self.of_peer {
            of_peer.fetch_sub(1, Relaxed);
        }
    }
}
