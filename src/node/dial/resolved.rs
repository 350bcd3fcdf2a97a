//! Names that were resolved on the way to a peer.

use libp2p::{Multiaddr, PeerId};

use super::{
    names::{ResolveError, is_name},
    target::Origin,
};
use crate::node::address_filter::is_harmless;

/// The addresses that a name stands for.
#[derive(Debug)]
pub(in crate::node) struct Resolved {
    pub(super) peer: PeerId,
    pub(super) dial: u64,
    pub(super) name: Multiaddr,
    pub(in crate::node) origin: Origin,
    pub(in crate::node) found: Result<Vec<Multiaddr>, ResolveError>,
}

impl Resolved {
    /// Leaves out what `admits` does not admit. A name that is dialed as it is needs all of its
    /// addresses admitted, since any of them may be dialed.
    pub(in crate::node) fn retain(&mut self, admits: impl Fn(&Multiaddr) -> bool) {
        let whole = !is_name(&self.name);
        if let Ok(found) = &mut self.found {
            if whole && !found.iter().all(&admits) {
                found.clear();
            }
            // Records of DNS are a stranger's words, unless the client said the same.
            let given = self.origin == Origin::Given && !is_harmless(&self.name);
            found.retain(|address| admits(address) && (given || is_harmless(address)));
        }
    }
}
