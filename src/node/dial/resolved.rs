//! Names that were resolved on the way to a peer.

use libp2p::{Multiaddr, PeerId};

use super::{
    names::{ResolveError, Search, is_name},
    target::Origin,
};
use crate::node::address_filter::is_harmless;

/// A name of a peer that is being dialed, and what is known of whoever told it.
#[derive(Debug, Clone)]
pub(super) struct PeerName {
    pub(super) peer: PeerId,
    pub(super) dial: u64,
    pub(super) address: Multiaddr,
    pub(super) origin: Origin,
}

/// Addresses that a name stands for.
pub(in crate::node) struct Resolved {
    pub(super) name: PeerName,
    pub(super) found: Result<Vec<Multiaddr>, ResolveError>,
    /// Finds further ones. `None` after the last.
    pub(super) search: Option<Search>,
}

impl Resolved {
    /// The next that `search` finds, or all of them if the name stays: any of them may be dialed
    /// then.
    pub(super) async fn next(name: PeerName, mut search: Search) -> Self {
        if !is_name(&name.address) {
            let found = search.whole().await;
            return Self {
                name,
                found,
                search: None,
            };
        }
        match search.next().await {
            Some(found) => Self {
                name,
                found: Ok(found),
                search: Some(search),
            },
            None => Self {
                name,
                found: search.end().map(|()| Vec::new()),
                search: None,
            },
        }
    }

    /// On whose word it is dialed.
    pub(in crate::node) fn origin(&self) -> Origin {
        self.name.origin
    }

    /// Leaves out what `admits` does not admit. A name that is dialed as it is needs all of its
    /// addresses admitted, since any of them may be dialed.
    pub(in crate::node) fn retain(&mut self, admits: impl Fn(&Multiaddr) -> bool) {
        let whole = !is_name(&self.name.address);
        if let Ok(found) = &mut self.found {
            if whole && !found.iter().all(&admits) {
                found.clear();
            }
            // Records of DNS are a stranger's words, unless the client said the same.
            let given = self.name.origin == Origin::Given && !is_harmless(&self.name.address);
            found.retain(|address| admits(address) && (given || is_harmless(address)));
        }
    }
}
