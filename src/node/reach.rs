//! Whether strangers can dial this node, as far as is known.

use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::events;

/// Whether strangers can dial this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Nobody has said yet.
    #[default]
    Unknown,
    /// They can.
    Public,
    /// They cannot.
    Private,
}

impl From<Reach> for events::Reachability {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Unknown => Self::Undecided,
            Reach::Public => Self::Public,
            Reach::Private => Self::Private,
        }
    }
}

/// The state, and what bears on it.
#[derive(Debug)]
pub(super) struct Reachability {
    state: watch::Sender<Reach>,
    /// The operator has said it: nobody else is heard.
    forced: bool,
    /// When a peer with a public address last connected.
    last_inbound: Mutex<Option<Instant>>,
}

impl Reachability {
    pub(super) fn new(forced: Option<Reach>) -> Self {
        Self {
            state: watch::Sender::new(forced.unwrap_or_default()),
            forced: forced.is_some(),
            last_inbound: Mutex::new(None),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Reach> {
        self.state.subscribe()
    }

    /// The state from now on, unless the operator has said another. The one that holds.
    pub(super) fn set(&self, reach: Reach) -> Reach {
        if !self.forced {
            self.state.send_if_modified(|known| {
                let changed = *known != reach;
                *known = reach;
                changed
            });
        }
        *self.state.borrow()
    }

    /// A peer with a public address has connected.
    pub(super) fn inbound(&self) {
        *self.last_inbound.lock() = Some(Instant::now());
    }

    pub(super) fn last_inbound(&self) -> Option<Instant> {
        *self.last_inbound.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_word_holds() {
        let forced = Reachability::new(Some(Reach::Private));
        assert_eq!(forced.set(Reach::Public), Reach::Private);
        assert!(!forced.subscribe().has_changed().unwrap_or(true));
        let free = Reachability::new(None);
        let mut watch = free.subscribe();
        assert_eq!(free.set(Reach::Unknown), Reach::Unknown);
        assert!(!watch.has_changed().unwrap_or(true));
        assert_eq!(free.set(Reach::Public), Reach::Public);
        assert_eq!(*watch.borrow_and_update(), Reach::Public);
    }
}
