//! Which of the registered names identify tells peers.

use std::{collections::BTreeSet, sync::Arc};

use libp2p::StreamProtocol;
use tokio::sync::watch;

use crate::{
    metrics::{Trigger, metrics},
    streams::name::ProtocolName,
};

/// Names told to peers, and their bytes with what each adds to the message. Peers refuse an
/// identify message above 4 KiB whole, and addresses need their share. Names beyond these are
/// negotiated all the same.
const MAX_ANNOUNCED: usize = 96;
const MAX_ANNOUNCED_BYTES: usize = 2048;

/// Peers look for services only where they are listed, so clients' names come after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Service,
    Client,
}

/// The registered names, and those of them that identify tells.
#[derive(Debug)]
pub(super) struct Announced {
    /// In the order in which identify tells them.
    names: BTreeSet<(Rank, ProtocolName)>,
    told: watch::Sender<Arc<[StreamProtocol]>>,
}

impl Default for Announced {
    fn default() -> Self {
        Self {
            names: BTreeSet::new(),
            told: watch::Sender::new(Arc::default()),
        }
    }
}

impl Announced {
    pub(super) fn add(&mut self, rank: Rank, name: &ProtocolName) {
        self.names.insert((rank, name.clone()));
    }

    /// Every registered name.
    pub(super) fn names(&self) -> impl Iterator<Item = &ProtocolName> {
        self.names.iter().map(|(_, name)| name)
    }

    pub(super) fn remove(&mut self, name: &ProtocolName) {
        for rank in [Rank::Service, Rank::Client] {
            self.names.remove(&(rank, name.clone()));
        }
    }

    /// What identify tells, now and later.
    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<[StreamProtocol]>> {
        self.told.subscribe()
    }

    /// Tells peers of the changes since the last call. The protocols of `library` are left out:
    /// the swarm announces them itself and counts names to see a change, so that one which comes
    /// twice would hide the removal of another.
    pub(super) fn publish(&self, library: &[String]) {
        let mut bytes = 0;
        let told: Arc<[StreamProtocol]> = self
            .names
            .iter()
            .filter_map(|(_, name)| name.to_str())
            // The library's names are text and begin with a slash.
            .filter(|name| name.starts_with('/') && !library.iter().any(|other| other == name))
            .filter_map(|name| StreamProtocol::try_from_owned(name.to_owned()).ok())
            .take(MAX_ANNOUNCED)
            .take_while(|name| {
                bytes += name.as_ref().len() + 2;
                bytes <= MAX_ANNOUNCED_BYTES
            })
            .collect();
        let changed = self.told.send_if_modified(|before| {
            let changed = *before != told;
            *before = told;
            changed
        });
        if changed {
            metrics().identify.triggered(Trigger::Protocols);
        }
    }
}
