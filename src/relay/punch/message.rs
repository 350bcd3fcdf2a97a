//! The messages of hole punching.

use bytes::Bytes;
use libp2p::Multiaddr;

/// What a message may take in memory once it is read: an entry of two bytes takes 32.
pub(super) const MESSAGE_COST: usize = 32 * super::super::message::MAX_MESSAGE;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum Kind {
    Connect = 100,
    Sync = 300,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HolePunch {
    #[prost(enumeration = "Kind", optional, tag = "1")]
    pub(super) kind: Option<i32>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(super) addrs: Vec<Bytes>,
}

impl HolePunch {
    /// This node may be found at `addresses`.
    pub(super) fn connect(addresses: &[Multiaddr]) -> Self {
        Self {
            kind: Some(Kind::Connect.into()),
            addrs: addresses.iter().map(|a| a.to_vec().into()).collect(),
        }
    }

    /// Now.
    pub(super) fn sync() -> Self {
        Self {
            kind: Some(Kind::Sync.into()),
            addrs: Vec::new(),
        }
    }

    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == Some(kind.into())
    }

    /// The addresses in it. What is none is left out.
    pub(super) fn addresses(&self) -> Vec<Multiaddr> {
        let bytes = self.addrs.iter().take(MAX_TOLD);
        bytes
            .filter_map(|bytes| Multiaddr::try_from(bytes.to_vec()).ok())
            .collect()
    }
}

/// Addresses looked at in one message. What is dialed is fewer.
const MAX_TOLD: usize = 64;

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// As go-libp2p writes them.
    #[test]
    fn messages_are_those_on_the_wire() {
        let address: Multiaddr = "/ip4/1.2.3.4/tcp/5".parse().unwrap();
        let message = HolePunch::connect(std::slice::from_ref(&address));
        let expected = [&[0x08, 100, 0x12, 8, 4, 1, 2, 3, 4][..], &[6, 0, 5]].concat();
        assert_eq!(message.encode_to_vec(), expected);
        assert_eq!(message.addresses(), [address]);
        assert_eq!(HolePunch::sync().encode_to_vec(), [0x08, 0xac, 0x02]);
        let many = HolePunch {
            addrs: vec![Bytes::new(); 2000],
            ..message
        };
        assert!(many.is(Kind::Connect) && many.addresses().len() <= MAX_TOLD);
    }
}
