//! What the system gives, and the limits that follow from it unless they are set.

use std::time::Duration;

use crate::{
    config::Config,
    memory::Budget,
    node::{ConnectionLimits, Watermarks},
    streams::StreamLimits,
};

/// go-libp2p's connection manager, which runs when none is asked for.
const DEFAULT_WATERMARKS: Watermarks = Watermarks {
    low: 160,
    high: 192,
    grace: Duration::from_secs(60),
};

/// Files kept out of the connection limits when the system does not tell its own.
const ASSUMED_DESCRIPTORS: u64 = 1024;

/// What the system gives, from which limits follow that nobody has set.
#[derive(Debug, Clone, Copy)]
pub struct System {
    /// Files that the process may open.
    pub descriptors: u64,
    /// Memory that it may use.
    pub memory: Budget,
}

/// Raises the limit of open files as far as it goes, and looks at what there is.
#[must_use]
pub fn system(config: &Config) -> System {
    System {
        descriptors: rlimit::increase_nofile_limit(u64::MAX).unwrap_or(ASSUMED_DESCRIPTORS),
        memory: Budget::find(config.limits.memory),
    }
}

pub(crate) fn connection_limits(config: &Config, system: System) -> ConnectionLimits {
    let scaled = ConnectionLimits::scaled(system.descriptors, system.memory.bytes);
    let set = &config.limits;
    ConnectionLimits {
        established: set.connections.unwrap_or(scaled.established),
        established_inbound: set.inbound.unwrap_or(scaled.established_inbound),
        per_peer: set.per_peer,
        per_address: config.per_address,
        per_local_address: config.per_local_address,
        ..scaled
    }
}

/// What the records of the DHT may use, and its providers: a sixteenth of the memory each.
pub(crate) fn dht_share(system: System) -> usize {
    match system.memory.bytes {
        0 => usize::MAX,
        memory => usize::try_from(memory / 16).unwrap_or(usize::MAX),
    }
}

pub(crate) fn stream_limits(config: &Config, system: System) -> StreamLimits {
    let scaled = StreamLimits::scaled(system.memory.bytes);
    StreamLimits {
        inbound: config.limits.streams.unwrap_or(scaled.inbound),
        per_connection: config.limits.per_connection,
    }
}

pub(crate) fn watermarks(config: &Config) -> Watermarks {
    let manager = config.conn_manager.as_ref();
    manager.map_or(DEFAULT_WATERMARKS, |manager| Watermarks {
        low: manager.low,
        high: manager.high,
        grace: manager.grace,
    })
}
