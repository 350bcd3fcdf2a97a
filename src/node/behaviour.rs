//! The protocols that the swarm runs on each connection.

use std::{sync::Arc, time::Duration};

use libp2p::{
    core::upgrade::Version,
    identify,
    identity::Keypair,
    ping,
    swarm::{self, NetworkBehaviour},
};

use super::{
    limits::{Admission, Limiter},
    told_identity::Identify,
};
use crate::{
    fixed_limits::fixed_limit,
    streams::{Announce, Registry},
};

/// Time from an answered ping to the next (SECURITY.md 3). The library reports only the second
/// ping in a row that is not answered, so a silent peer is noticed after twice the interval and the
/// timeout together: 36 s, where go-libp2p's keep-alive takes 40 s at most.
const PING_INTERVAL: Duration = Duration::from_secs(10);
fixed_limit!("time between pings", time PING_INTERVAL);

/// Time for the answer (SECURITY.md 3).
const PING_TIMEOUT: Duration = Duration::from_secs(8);
fixed_limit!("answer to a ping", time PING_TIMEOUT);

/// Everything that takes part in connections. Denials come first, so that no other
/// behaviour has counted a connection that is denied.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) limits: Limiter,
    pub(super) identify: Identify,
    pub(super) ping: ping::Behaviour,
    pub(super) announce: Announce,
}

pub(super) fn behaviour(
    identity: &Keypair,
    registry: &Arc<Registry>,
    admission: &Arc<Admission>,
) -> Behaviour {
    let identify = identify::Config::new(String::new(), identity.public())
        .with_agent_version(concat!("rp2pd/", env!("CARGO_PKG_VERSION")).to_owned())
        // Go identifies once and relies on pushes.
        .with_interval(Duration::from_secs(24 * 60 * 60))
        .with_push_listen_addr_updates(true)
        .with_cache_size(0)
        // The host's addresses are told as external ones: see `HostAddresses::update`.
        .with_hide_listen_addrs(true);
    Behaviour {
        limits: Limiter::new(admission.clone()),
        identify: Identify::new(&identify),
        ping: ping::Behaviour::new(
            ping::Config::new()
                .with_interval(PING_INTERVAL)
                .with_timeout(PING_TIMEOUT),
        ),
        announce: Announce(registry.clone()),
    }
}

pub(super) fn swarm_config() -> swarm::Config {
    swarm::Config::with_tokio_executor()
        // Go never closes a connection for being idle.
        .with_idle_connection_timeout(Duration::from_secs(u64::MAX))
        .with_substream_upgrade_protocol_override(Version::V1Lazy)
        // A handler whose events find no room stops its whole connection.
        .with_per_connection_event_buffer_size(64)
}
