//! Changes of what a datastore holds.

use std::{collections::HashMap, time::SystemTime};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};

use super::ChangeOrigin;

/// Who said what, and when; `None` removes.
pub(super) type Change<T> = Option<Said<T>>;

#[derive(Debug)]
pub(super) struct Said<T> {
    pub(super) origin: ChangeOrigin,
    pub(super) time: SystemTime,
    pub(super) what: T,
}

/// Changes that wait to be written, the last of each key.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) records: HashMap<Vec<u8>, Change<Bytes>>,
    pub(super) providers: HashMap<(Vec<u8>, PeerId), Change<Vec<Multiaddr>>>,
    pub(super) peers: HashMap<PeerId, Change<Vec<Multiaddr>>>,
    /// An upper bound of the bytes in them.
    pub(super) bytes: usize,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.providers.is_empty() && self.peers.is_empty()
    }
}
