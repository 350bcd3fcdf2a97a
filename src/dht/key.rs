//! The key space: SHA-256 of whatever is looked for, and its XOR metric.

use sha2::{Digest as _, Sha256};

/// A place in the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key([u8; 32]);

/// How far two keys are from each other; the smaller, the closer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Distance([u8; 32]);

impl Key {
    /// The place of a peer id, a record key or a multihash.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(super) fn distance(&self, other: &Self) -> Distance {
        Distance(std::array::from_fn(|i| self.0[i] ^ other.0[i]))
    }
}

impl Distance {
    /// Leading bits that both keys share, 0 to 256.
    pub(super) fn common_prefix_len(&self) -> usize {
        let bytes = self.0.iter().take_while(|byte| **byte == 0).count();
        let rest = self.0.get(bytes).map_or(0, |byte| byte.leading_zeros());
        bytes * 8 + rest as usize
    }
}
