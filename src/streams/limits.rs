//! How many inbound streams there may be, by the memory that there is.

use crate::muxer::MAX_STREAMS;

/// Inbound user streams of all peers together, unless memory is small; a further one is reset.
pub const MAX_INBOUND: usize = 64 * 1024;

/// As many on the smallest machine.
const MIN_INBOUND: usize = 1024;

/// Memory that a stream may be expected to need.
const STREAM_COST: u64 = 16 * 1024;

/// How many inbound streams there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Of all peers together.
    pub inbound: usize,
    /// On one connection.
    pub per_connection: usize,
}

impl StreamLimits {
    /// The defaults of a process that may use `memory` bytes, if that is not 0.
    #[must_use]
    pub fn scaled(memory: u64) -> Self {
        let affordable = match memory {
            0 => MAX_INBOUND,
            memory => usize::try_from(memory / STREAM_COST).unwrap_or(usize::MAX),
        };
        Self {
            inbound: affordable.clamp(MIN_INBOUND, MAX_INBOUND),
            per_connection: MAX_STREAMS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_from_memory() {
        let scaled = |mebibytes: u64| StreamLimits::scaled(mebibytes << 20).inbound;
        assert_eq!(scaled(0), MAX_INBOUND);
        assert_eq!(scaled(16 << 10), MAX_INBOUND);
        assert_eq!(scaled(128), 8192);
        assert_eq!(scaled(1), MIN_INBOUND);
    }
}
