//! Kinds of events, and sets of them.

/// What kind of event it is. The number is that on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A connection has been made.
    PeerConnected = 1,
    /// A peer has told what it is.
    PeerIdentified = 2,
    /// A connection has ended.
    PeerDisconnected = 3,
    /// The daemon's own addresses have changed.
    Addresses = 4,
    /// Whether strangers can dial the daemon has changed.
    Reachability = 5,
    /// A handler did not take a stream.
    HandlerFailed = 6,
    /// Somebody has subscribed to a topic.
    TopicJoined = 7,
    /// Somebody has unsubscribed from a topic.
    TopicLeft = 8,
    /// A limit was reached.
    Limit = 9,
    /// A connection of a tunnel has failed.
    TunnelFailed = 10,
}

/// One more than the highest number of a kind.
pub(super) const KINDS: usize = 11;

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds(u16);

impl Kinds {
    /// Every kind.
    pub const ALL: Self = Self((1 << KINDS) - 2);

    /// With `kind` as well.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | 1 << kind as u16)
    }

    /// Whether `kind` is one of them.
    #[must_use]
    pub fn contains(self, kind: Kind) -> bool {
        self.has(kind as usize)
    }

    pub(super) fn has(self, number: usize) -> bool {
        self.0 >> number & 1 == 1
    }

    /// The numbers of those in it.
    pub(super) fn numbers(self) -> impl Iterator<Item = usize> {
        (0..KINDS).filter(move |number| self.has(*number))
    }
}
