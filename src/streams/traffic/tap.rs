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
    receiving: Wait,
    sending: Wait,
}

/// Until bytes may move, and how long that is.
#[derive(Debug, Default)]
struct Wait(Option<(Pin<Box<Sleep>>, Duration)>);

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
            receiving: Wait::default(),
            sending: Wait::default(),
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
            let limit = limited.limit.streams;
            (limit > 0 && open.load(Relaxed) > limit).then_some(limit)
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
        self.receiving.0.is_some()
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
        let wait = match way {
            Way::In => &mut self.receiving,
            Way::Out => &mut self.sending,
        };
        loop {
            if let Some((sleep, time)) = &mut wait.0 {
                ready!(sleep.as_mut().poll(cx));
                let waited = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                for limited in self.limits.iter().filter(|one| one.bucket(way).is_some()) {
                    limited.waited.fetch_add(waited, Relaxed);
                }
                wait.0 = None;
            }
            let now = Instant::now();
            let buckets = || self.limits.iter().filter_map(|one| one.bucket(way));
            let ready = buckets().map(Bucket::ready).max().unwrap_or(now);
            if ready <= now {
                return Poll::Ready(buckets().map(Bucket::chunk).min().unwrap_or(usize::MAX));
            }
            Limit::Bandwidth.hit();
            wait.0 = Some((Box::pin(sleep_until(ready)), ready - now));
        }
    }

    /// So many bytes were received.
    pub(in super::super) fn received(&self, bytes: usize) {
        self.protocol.received.fetch_add(bytes as u64, Relaxed);
        self.pay(Way::In, bytes);
    }

    /// So many bytes were accepted for sending.
    pub(in super::super) fn sent(&self, bytes: usize) {
        self.protocol.sent.fetch_add(bytes as u64, Relaxed);
        self.pay(Way::Out, bytes);
    }

    fn pay(&self, way: Way, bytes: usize) {
        if self.limits.is_empty() {
            return;
        }
        let now = Instant::now();
        for bucket in self.limits.iter().filter_map(|one| one.bucket(way)) {
            bucket.pay(bytes, now);
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.leave();
        self.protocol.streams.fetch_sub(1, Relaxed);
        if let Some(of_peer) = &self.of_peer {
            of_peer.fetch_sub(1, Relaxed);
        }
    }
}
