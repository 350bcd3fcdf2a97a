//! What the node knows of peers, for clients that ask (PROTOCOL.md 5).

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;

use super::{Node, book::KnownAddress};

/// Which peers are asked for. Each part that is there narrows it down.
#[derive(Debug, Clone, Default)]
pub struct PeerQuery {
    /// This one.
    pub peer: Option<PeerId>,
    /// Those that speak it.
    pub protocol: Option<Bytes>,
    /// Connected ones whose program begins with it.
    pub agent: Option<Bytes>,
    /// Those that are connected, or are not.
    pub connected: Option<bool>,
    /// Those whose ids come after this one.
    pub after: Option<PeerId>,
    /// At most so many.
    pub limit: usize,
}

/// What is known of a peer.
#[derive(Debug, Clone)]
pub struct PeerRecord {
    /// Who it is.
    pub peer: PeerId,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// What it says of its program: a stranger's text of 128 bytes at most.
    pub agent: Option<Arc<str>>,
    /// What it speaks, or spoke when it was last connected.
    pub protocols: Arc<[String]>,
    /// Where it is.
    pub addresses: Vec<KnownAddress>,
}

impl Node {
    /// What is known of the peers that are asked for, in the order of their ids, and whether there
    /// are more.
    #[must_use]
    pub fn peer_records(&self, query: &PeerQuery) -> (Vec<PeerRecord>, bool) {
        let agent = |peer: &PeerId| self.0.streams.peers.get(peer).and_then(|peer| peer.agent());
        let mut found = self.0.book.list();
        found.retain(|(peer, known)| {
            query.peer.is_none_or(|wanted| wanted == *peer)
                && query
                    .connected
                    .is_none_or(|wanted| wanted == known.connected)
                && query.after.is_none_or(|after| *peer > after)
                && query.protocol.as_ref().is_none_or(|wanted| {
                    let mut names = known.protocols.iter();
                    names.any(|name| name.as_bytes() == &wanted[..])
                })
                && query.agent.as_ref().is_none_or(|wanted| {
                    agent(peer).is_some_and(|agent| agent.as_bytes().starts_with(wanted))
                })
        });
        found.sort_unstable_by_key(|(peer, _)| *peer);
        let more = found.len() > query.limit;
        let records = found.into_iter().take(query.limit);
        let records = records.map(|(peer, known)| PeerRecord {
            peer,
            connected: known.connected,
            agent: agent(&peer),
            protocols: known.protocols,
            addresses: self.0.book.known_addresses(&peer),
        });
        (records.collect(), more)
    }
}
